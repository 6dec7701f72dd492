# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What goes with an item, and how strongly: a few other items for each, to be looked up fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # a service looks up alone, and needs no scipy
    from scipy import sparse

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

GAMMA = 0.8  # a click weighs GAMMA^age, age 0 the newest


class PairHits(NamedTuple):
    """The m items that go with any click of a history, by rising id; all arrays [m]."""

    items: IntArray
    total: FloatArray
    """Sum over clicks of GAMMA^age W."""
    largest: FloatArray
    """The largest W of a click."""
    newest: FloatArray
    """W of the newest click."""
    clicks: IntArray
    """How many clicks it goes with."""
    follows: IntArray
    """The age of the click that adds most to ``total``."""


class PairTable(NamedTuple):
    """Weights W [V, V] of pairs (click, item), sparse: row i is what goes with item i."""

    indptr: IntArray
    """[V + 1]"""
    items: npt.NDArray[np.int32]
    """[n]"""
    weights: FloatArray
    """[n], above 0"""

    @classmethod
    def of(cls, weights: sparse.csr_matrix, most: int) -> PairTable:
        """The ``most`` largest weights of each row of ``weights`` [V, V], ids rising in a row."""
        rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        order = np.lexsort((weights.indices, -weights.data, rows))
        place = np.arange(len(rows)) - weights.indptr[rows]
        chosen = order[(place < most) & (weights.data[order] > 0)]
        chosen = chosen[np.lexsort((weights.indices[chosen], rows[chosen]))]
        counts = np.bincount(rows[chosen], minlength=weights.shape[0])
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(
            indptr,
            weights.indices[chosen].astype(np.int32),
            weights.data[chosen].astype(np.float32),
        )

    def hits(self, clicks: IntArray) -> PairHits:
        """What goes with ``clicks`` [L], the newest first; unknown items add nothing."""
        known = np.where((clicks > 0) & (clicks < len(self.indptr) - 1), clicks, 0)
        starts = self.indptr[known]
        counts = self.indptr[known + 1] - starts
        total = int(counts.sum())
        before = np.cumsum(counts) - counts
        places = np.repeat(starts - before, counts) + np.arange(total)
        ages = np.repeat(np.arange(len(clicks)), counts)
        items = self.items[places]
        order = np.lexsort((ages, items))
        items, ages, weights = items[order], ages[order], self.weights[places[order]]
        first = np.flatnonzero(np.diff(items, prepend=-1))
        if not total:
            none = np.zeros(0, np.float32)
            empty = np.zeros(0, np.int64)
            return PairHits(empty, none, none, none, empty, empty)
        faded = weights * np.float32(GAMMA) ** ages.astype(np.float32)
        largest_faded = np.maximum.reduceat(faded, first)
        sizes = np.diff(first, append=total)
        is_largest = faded == np.repeat(largest_faded, sizes)
        age_of_largest = np.where(is_largest, ages, len(clicks))
        return PairHits(
            items[first].astype(np.int64),
            np.add.reduceat(faded, first),
            np.maximum.reduceat(weights, first),
            np.where(ages[first] == 0, weights[first], np.float32(0)),
            sizes,
            np.minimum.reduceat(age_of_largest, first),
        )
