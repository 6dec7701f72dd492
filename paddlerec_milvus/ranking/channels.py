# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Where candidates come from: a vector model's interests, what goes with clicks, popular items.

Letters: V items (row 0 is padding), C channels, n candidates of a user, L clicks.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.item_pairs import click_matrix, co_clicks, transition_counts, weighed
from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.ranking.pair_table import PairHits, PairTable
from paddlerec_milvus.retrieval.base import MISSING_ID

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
Allowed = npt.NDArray[np.bool_]

INTERESTS, TRANSITIONS, NEIGHBOURS, POPULAR = "interests", "transitions", "neighbours", "popular"
NEXT = "next"  # a pair table that gives no candidates
QUOTAS: Mapping[str, int] = {INTERESTS: 200, TRANSITIONS: 200, NEIGHBOURS: 200, POPULAR: 50}
"""The most candidates that each channel gives, in the order of a pool's columns."""
CHANNELS = tuple(QUOTAS)
PAIR_TABLES = (TRANSITIONS, NEIGHBOURS, NEXT)

WINDOW = 10  # clicks apart that still count as a transition
PAIRS_OF_ITEM = 200  # pairs of an item in a table


class VectorHits(NamedTuple):
    """What the vector model's search found for one user; all arrays [m], the best first."""

    items: IntArray
    scores: FloatArray
    interests: IntArray

    @classmethod
    def of(cls, items: IntArray, scores: FloatArray, interests: IntArray) -> VectorHits:
        """A row of ``Candidates``, without the places that are empty."""
        there = items != MISSING_ID
        return cls(items[there], scores[there], interests[there])


class Pool(NamedTuple):
    """The n candidates of one user from all channels, by rising id."""

    items: IntArray
    """[n]"""
    ranks: IntArray
    """[n, C]: the place in each channel's list, from 1; 0: it is not in it."""
    pairs: Mapping[str, PairHits]
    """Of each pair table, all that goes with the history."""


class Channels(NamedTuple):
    """What is known from the click log alone."""

    clicks: IntArray
    """[V], the users that clicked an item."""
    tables: Mapping[str, PairTable]
    """``transitions``: what followed within ten clicks; ``neighbours``: what the same users
    clicked; ``next``: what followed at once."""

    @classmethod
    def of(cls, log: ClickLog, item_count: int) -> Channels:
        """Counted in ``log``, for the items 1 … ``item_count`` - 1."""
        users = click_matrix(log, item_count)
        clicks = np.bincount(users.indices, minlength=item_count).astype(np.int64)
        weights = {
            TRANSITIONS: weighed(
                transition_counts(log, item_count, WINDOW), clicks, 1.0, 0.0, shrink=20.0
            ),
            NEIGHBOURS: weighed(co_clicks(users), clicks, 0.5, 0.3, shrink=20.0),
            NEXT: weighed(transition_counts(log, item_count, 1), clicks, 1.0, 0.0, shrink=5.0),
        }
        return cls(
            clicks, {name: PairTable.of(table, PAIRS_OF_ITEM) for name, table in weights.items()}
        )

    def pool(
        self,
        history: IntArray,
        hits: VectorHits,
        excluded: Set[int],
        allowed: Allowed | None = None,
    ) -> Pool:
        """The candidates for a user with the known clicks ``history`` [L], the newest last.

        None of them is ``excluded``, of which ``hits`` hold none: a place in a list of interests is
        one in ``hits``. Those of other channels than the interests, whose search has filtered, are
        ``allowed`` [V].
        """
        pairs = {name: table.hits(history[::-1]) for name, table in self.tables.items()}
        listed = {INTERESTS: hits.items}
        for name in (TRANSITIONS, NEIGHBOURS):
            listed[name] = pairs[name].items[np.argsort(-pairs[name].total, kind="stable")]
        listed[POPULAR] = np.arange(1, len(self.clicks), dtype=np.int64)
        lists = [
            _first(
                listed[name],
                QUOTAS[name],
                excluded,
                None if name == INTERESTS else allowed,
            )
            for name in CHANNELS
        ]
        items = np.unique(np.concatenate(lists))
        ranks = np.zeros((len(items), len(CHANNELS)), np.int64)
        for column, one in enumerate(lists):
            ranks[np.searchsorted(items, one), column] = np.arange(1, len(one) + 1)
        return Pool(items, ranks, pairs)


def _first(items: IntArray, most: int, excluded: Set[int], allowed: Allowed | None) -> IntArray:
    """The first ``most`` of ``items`` that may be listed."""
    if allowed is not None:
        items = items[allowed[items]]
    few = items[: most + len(excluded)].tolist()
    return np.array([item for item in few if item not in excluded][:most], np.int64)
