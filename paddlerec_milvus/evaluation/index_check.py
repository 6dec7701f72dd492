# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whether a new index finds what exact search finds, before anybody searches by it."""

from __future__ import annotations

import numpy as np

from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.evaluation.metrics import index_recall
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

CHECKED_K = 50


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
