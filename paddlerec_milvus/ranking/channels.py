# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Where candidates come from: interests, what goes with clicks, popular, rising and new items.

Letters: V items (row 0 is padding), C channels, n candidates of a user, L clicks.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.ranking.graph_filter import GraphFilter
from paddlerec_milvus.ranking.pair_table import PairHits, PairTable
from paddlerec_milvus.ranking.trends import Trends
from paddlerec_milvus.retrieval.base import MISSING_ID
from paddlerec_milvus.settings import QuotaSettings

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
Allowed = npt.NDArray[np.bool_]

INTERESTS, TRANSITIONS, NEIGHBOURS, POPULAR = "interests", "transitions", "neighbours", "popular"
RISING, NEW = "rising", "new"
CHANNELS = (INTERESTS, TRANSITIONS, NEIGHBOURS, POPULAR, RISING, NEW)
"""All that there are, in the order of a pool's columns."""
OF_TIMES = (RISING, NEW)
NEXT = "next"  # a pair table that gives no candidates
PAIR_TABLES = (TRANSITIONS, NEIGHBOURS, NEXT)

WINDOW = 10  # clicks apart that still count as a transition
PAIRS_OF_ITEM = 200  # pairs of an item in a table
SEARCHED = 200  # items that the vector model is searched for at least: an unranked list shows them


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


def quotas_of(settings: QuotaSettings, *, timed: bool) -> dict[str, int]:
    """The most candidates of each channel that gives any; ``timed``: item times are known.

    SettingsError: there is none.
    """
    quotas = {
        name: most
        for name, most in settings.model_dump().items()
        if most and (timed or name not in OF_TIMES)
    }
    if not quotas:
        raise SettingsError(
            f"ranking.quotas: {' and '.join(OF_TIMES)} alone, and when items were clicked is not "
            "known: that is of logs split by time (prepare.py --split time); leave others above 0"
        )
    return quotas


QUOTAS: Mapping[str, int] = quotas_of(QuotaSettings(), timed=False)
"""Those of a log without times, where no setting says otherwise."""


class Channels(NamedTuple):
    """What is known from the click log alone, and how much of it is taken."""

    clicks: IntArray
    """[V], the users that clicked an item."""
    tables: Mapping[str, PairTable]
    """``transitions``: what followed within ten clicks; ``neighbours``: what the same users
    clicked; ``next``: what followed at once."""
    graph: GraphFilter
    """What the clicks of all users say of every item; gives no candidates."""
    quotas: Mapping[str, int] = QUOTAS
    """The most candidates of each channel that gives any."""
    trends: Trends | None = None
    """None: when items were clicked is not known, and no channel rises or is new."""

    @property
    def searched(self) -> int:
        """How many items the vector model is to be searched for."""
        return max(SEARCHED, self.quotas.get(INTERESTS, 0))

    @property
    def most(self) -> int:
        """Candidates of a user, at most."""
        return sum(self.quotas.values())

    @classmethod
    def of(
        cls,
        log: ClickLog,
        item_count: int,
        quotas: Mapping[str, int] = QUOTAS,
        trends: Trends | None = None,
    ) -> Channels:
        """Counted in ``log``, for the items 1 … ``item_count`` - 1."""
        from paddlerec_milvus.data.item_pairs import (  # scipy, which a service does not need
            click_matrix,
            co_clicks,
            transition_counts,
            weighed,
        )

        users = click_matrix(log, item_count)
        clicks = np.bincount(users.indices, minlength=item_count).astype(np.int64)
        weights = {
            TRANSITIONS: weighed(
                transition_counts(log, item_count, WINDOW), clicks, 1.0, 0.0, shrink=20.0
            ),
            NEIGHBOURS: weighed(co_clicks(users), clicks, 0.5, 0.3, shrink=20.0),
            NEXT: weighed(transition_counts(log, item_count, 1), clicks, 1.0, 0.0, shrink=5.0),
        }
        tables = {name: PairTable.of(table, PAIRS_OF_ITEM) for name, table in weights.items()}
        return cls(clicks, tables, GraphFilter.of(users), quotas, trends)

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
        barred = np.sort(np.fromiter(excluded, np.int64, len(excluded)))
        listed = {}
        for name in (TRANSITIONS, NEIGHBOURS):
            most = self.quotas.get(name, 0) + len(barred) if allowed is None else None
            listed[name] = pairs[name].items[_largest(pairs[name].total, most)]
        few = self.quotas.get(POPULAR, 0) + len(barred)  # all, where many may not be listed
        last = len(self.clicks) - 1 if allowed is not None else min(few, len(self.clicks) - 1)
        listed[POPULAR] = np.arange(1, last + 1, dtype=np.int64)
        if self.trends is not None:
            listed |= {RISING: self.trends.rising, NEW: self.trends.new}
        lists = {
            name: hits.items[:most]
            if name == INTERESTS
            else _first(listed[name], most, barred, allowed)
            for name, most in self.quotas.items()
        }
        return Pool(*_joined(lists), pairs)


def _joined(lists: Mapping[str, IntArray]) -> tuple[IntArray, IntArray]:
    """The n items of all channels' ``lists``, by rising id, and their ranks [n, C]."""
    listed = np.concatenate(list(lists.values()))
    order = listed.argsort()
    rising = listed.take(order)
    is_new = np.ones(len(rising), np.bool_)
    np.not_equal(rising[1:], rising[:-1], out=is_new[1:])
    rows = np.empty(len(order), np.int64)  # of each place of the lists
    rows[order] = is_new.cumsum() - 1
    items = rising[is_new]
    ranks = np.zeros((len(CHANNELS), len(items)), np.int64)
    start = 0
    for name, one in lists.items():
        end = start + len(one)
        ranks[CHANNELS.index(name), rows[start:end]] = np.arange(1, len(one) + 1)
        start = end
    return items, ranks.T


def _largest(values: FloatArray, most: int | None) -> IntArray:
    """The places of at least the ``most`` largest of ``values`` [n], the largest first; None: all.

    Equal ones are in their order.
    """
    places: IntArray = np.arange(len(values))
    if most is not None and 0 < most < len(values):
        places = np.flatnonzero(values >= np.partition(values, -most)[-most])
    return places[np.argsort(-values[places], kind="stable")]


def _first(items: IntArray, most: int, barred: IntArray, allowed: Allowed | None) -> IntArray:
    """The first ``most`` of ``items`` that are ``allowed`` and not ``barred``, which rise."""
    if allowed is not None:
        items = items[allowed[items]]
    few = items[: most + len(barred)]
    if len(barred):
        few = few[barred.take(np.searchsorted(barred, few), mode="clip") != few]
    return few[:most]
