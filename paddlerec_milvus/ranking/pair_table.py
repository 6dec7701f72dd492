# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What goes with an item, and how strongly: a few other items for each, to be looked up fast."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # a service looks up alone, and needs no scipy
    from scipy import sparse

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

GAMMA = 0.8  # a click weighs GAMMA^age, age 0 the newest
PLACE_BITS = 32  # of a sorted key, below the item: where the pair was, by rising age


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
        items, weights, counts = self._pairs(clicks)
        if not len(items):
            none, empty = np.zeros(0, np.float32), np.zeros(0, np.int64)
            return PairHits(empty, none, none, none, empty)
        keys = items.astype(np.int64) << PLACE_BITS  # to sort them is faster than an argsort
        keys |= np.arange(len(items))
        keys.sort()
        others, order = keys >> PLACE_BITS, keys & ((1 << PLACE_BITS) - 1)
        is_edge = np.ones(len(others) + 1, np.bool_)
        np.not_equal(others[1:], others[:-1], out=is_edge[1:-1])
        edges = np.flatnonzero(is_edge)
        first = edges[:-1]
        faded = weights * _fading(len(clicks)).repeat(counts)
        weights = weights.take(order)
        return PairHits(
            others.take(first),
            np.add.reduceat(faded.take(order), first),
            np.maximum.reduceat(weights, first),
            weights.take(first) * (order.take(first) < counts[0]),
            edges[1:] - first,
        )

    def strongest(self, clicks: IntArray, items: IntArray) -> IntArray:
        """[k], of each of ``items`` [k] the age of the click that adds most to its total.

        Of equal ones the newest; len(``clicks``) where it goes with none. No item comes twice.
        """
        faded = np.zeros((len(clicks) + 1, len(items)), np.float32)
        if len(items):
            others, weights, counts = self._pairs(clicks)
            order = items.argsort()
            rising = items.take(order)
            place = rising.searchsorted(others)
            (own,) = (rising.take(place, mode="clip") == others).nonzero()
            age = counts.cumsum().searchsorted(own, side="right")
            faded[age, order.take(place.take(own))] = weights.take(own) * _fading(len(clicks))[age]
        return np.where(faded.any(axis=0), faded.argmax(axis=0), len(clicks))

    def _pairs(self, clicks: IntArray) -> tuple[npt.NDArray[np.int32], FloatArray, IntArray]:
        """Items [n] and weights [n] of the rows of ``clicks`` [L], and how many each has [L]."""
        known = np.where((clicks > 0) & (clicks < len(self.indptr) - 1), clicks, 0)
        starts = self.indptr.take(known)
        counts = self.indptr.take(known + 1) - starts
        places = np.arange(counts.sum())
        places += (starts - counts.cumsum() + counts).repeat(counts)
        return self.items.take(places), self.weights.take(places), counts


@cache
def _fading(clicks: int) -> FloatArray:
    """[clicks], what a click of each age weighs."""
    fading: FloatArray = np.float32(GAMMA) ** np.arange(clicks, dtype=np.float32)
    return fading
