# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whether an index finds what exact search finds: a new one, and one that serves already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.evaluation.metrics import index_recall
from paddlerec_milvus.retrieval.base import FloatArray, Retriever
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

CHECKED_K = 50
SPARE = 50  # of a query's neighbours may have been deleted since


@runtime_checkable
class StoredItems(Retriever, Protocol):
    """A retriever that tells its vectors."""

    def stored_vectors(self, ids: Sequence[int]) -> Mapping[int, FloatArray]:
        """The vectors [D] of those of ``ids`` that are stored, the last writes included."""
        ...


def recall_as_stored(
    items: StoredItems, model: ExactRetriever, queries: FloatArray
) -> NDArray[np.floating]:
    """index_recall@50 [n] of ``queries`` [n, D] in ``items``, as these are stored by now.

    ``model`` holds the vectors that were inserted. Deleted items are in no truth, changed ones in
    it by their new vectors; an item that was added, or moved near, counts where the search finds
    it. 0 where nothing is stored.
    """
    near = model.search(queries, min(CHECKED_K + SPARE, model.count())).ids
    hits = items.search(queries, min(CHECKED_K, model.count())).ids
    ids = np.union1d(near, hits)
    stored = items.stored_vectors(ids[ids >= 0].tolist())
    if not stored:
        return np.zeros(len(queries))
    by_now = ExactRetriever(np.stack(list(stored.values())), list(stored), model.metric)
    return index_recall(hits, by_now.search(queries, min(hits.shape[1], len(stored))).ids)


def require_recall(
    fresh: MilvusRetriever, vectors: FloatArray, queries: FloatArray, least: float, advice: str
) -> None:
    """RefusedError, which ends with ``advice``: index_recall@50 of ``queries`` is below ``least``.

    ``vectors`` [N, D] are those of the items 1 … N in ``fresh``; ``queries`` [n, D].
    """
    ids, k = np.arange(1, len(vectors) + 1, dtype=np.int64), min(CHECKED_K, len(vectors))
    truth = ExactRetriever(vectors, ids, fresh.metric).search(queries, k).ids
    ids_by_index = fresh.search(queries, k, consistency="Strong").ids
    share = float(index_recall(ids_by_index, truth).mean())
    if share < least:
        raise RefusedError(
            f"the new index finds {share:.3f} of the {k} true neighbours, less than {least:g}: "
            f"raise its search parameters (ef, nprobe), {advice}"
        )
