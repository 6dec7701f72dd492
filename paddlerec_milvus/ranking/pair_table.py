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
        items, ages, weights = self._pairs(clicks)
        if not len(items):
            none, empty = np.zeros(0, np.float32), np.zeros(0, np.int64)
            return PairHits(empty, none, none, none, empty)
        order = np.argsort(items.astype(np.int64) * len(clicks) + ages)  # no two are equal
        items, ages, weights = items[order], ages[order], weights[order]
        is_first = np.ones(len(items), np.bool_)
        np.not_equal(items[1:], items[:-1], out=is_first[1:])
        first = np.flatnonzero(is_first)
        return PairHits(
            items[first].astype(np.int64),
            np.add.reduceat(weights * _fading(clicks)[ages], first),
            np.maximum.reduceat(weights, first),
            np.where(ages[first] == 0, weights[first], np.float32(0)),
            np.diff(first, append=len(items)),
        )

    def strongest(self, clicks: IntArray, items: IntArray) -> IntArray:
        """[k], of each of ``items`` [k] the age of the click that adds most to its total.

        Of equal ones the newest; len(``clicks``) where it goes with none. No item comes twice.
        """
        others, ages, weights = self._pairs(clicks)
        order = np.argsort(items)
        place = np.searchsorted(items, others, sorter=order)
        own = np.flatnonzero(place < len(items))
        own = own[items[order[place[own]]] == others[own]]
        faded = np.zeros((len(clicks) + 1, len(items)), np.float32)
        faded[ages[own], order[place[own]]] = weights[own] * _fading(clicks)[ages[own]]
        return np.where(faded.any(axis=0), faded.argmax(axis=0), len(clicks))

    def _pairs(self, clicks: IntArray) -> tuple[npt.NDArray[np.int32], IntArray, FloatArray]:
        """Items of all rows of ``clicks`` [L], the ages of these, and weights; all [n]."""
        known = np.where((clicks > 0) & (clicks < len(self.indptr) - 1), clicks, 0)
        starts = self.indptr[known]
        counts = self.indptr[known + 1] - starts
        before = np.cumsum(counts) - counts
        places = np.repeat(starts - before, counts) + np.arange(counts.sum())
        return self.items[places], np.repeat(np.arange(len(clicks)), counts), self.weights[places]


def _fading(clicks: IntArray) -> FloatArray:
    fading: FloatArray = np.float32(GAMMA) ** np.arange(len(clicks), dtype=np.float32)
    return fading
