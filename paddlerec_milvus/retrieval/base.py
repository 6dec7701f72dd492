# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What every retriever does: the k nearest items of each query vector."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from paddlerec_milvus.errors import SettingsError, nearest

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

METRICS = ("IP", "COSINE", "L2")
MISSING_ID = -1
MISSING_SCORE = -np.inf
LARGEST_K = 16_384  # Milvus' limit on the neighbours of one query; the same for all retrievers


class Neighbours(NamedTuple):
    """The nearest items of n queries, best first.

    A query with fewer than k neighbours has id -1 and score -inf in its last places.
    """

    ids: IntArray
    """[n, k] int64, item ids."""
    scores: FloatArray
    """[n, k] float32, larger is better: inner product, cosine, or the *negated squared* distance
    for L2 (Milvus' L2 takes no root)."""


class Retriever(Protocol):
    """Finds neighbours; says whether they are the true ones."""

    @property
    def is_exact(self) -> bool:
        """Whether the neighbours are the true ones, and not those that an index happens to find."""
        ...

    def search(
        self, queries: FloatArray, k: int, *, filter: str = "", consistency: str | None = None
    ) -> Neighbours:
        """The ``k`` nearest items of each of ``queries`` [n, D] float32.

        ``filter`` is a boolean expression of Milvus on ``item`` and ``category`` that all of them
        pass; ``consistency`` says how fresh the items are, None: as the retriever was set up.
        """
        ...


class WrappedRetriever:
    """A retriever that searches by another one; a subclass adds to :meth:`search`."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    @property
    def is_exact(self) -> bool:
        """Whether the neighbours are the true ones."""
        return self._retriever.is_exact

    def search(
        self, queries: FloatArray, k: int, *, filter: str = "", consistency: str | None = None
    ) -> Neighbours:
        """The other one's neighbours, with its errors."""
        return self._retriever.search(queries, k, filter=filter, consistency=consistency)


def checked_metric(metric: str) -> str:
    """``metric`` if it is one of ``IP``, ``COSINE``, ``L2``; raises SettingsError otherwise."""
    if metric not in METRICS:
        raise SettingsError(
            f"index.metric: {metric!r} is no metric{nearest(metric.upper(), METRICS)}; "
            f"one of {', '.join(METRICS)}"
        )
    return metric


def checked_k(k: int) -> int:
    """``k`` if it lies in 1 … 16,384; raises SettingsError otherwise."""
    if not 1 <= k <= LARGEST_K:
        raise SettingsError(
            f"top_n: {k} neighbours a query cannot be searched; from 1 to {LARGEST_K:,} "
            "(Milvus' limit)"
        )
    return k


def checked_queries(queries: Any, dimension: int) -> FloatArray:
    """``queries`` as [n, D] float32, contiguous; raises SettingsError for another shape or NaN."""
    array = np.ascontiguousarray(queries, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != dimension:
        raise SettingsError(
            f"queries have the shape {list(array.shape)}, expected [n, {dimension}]: "
            "the item vectors have that dimension. Are model and items of one checkpoint?"
        )
    if not np.isfinite(array).all():
        raise SettingsError("queries hold NaN or infinite values: the model has diverged")
    return array
