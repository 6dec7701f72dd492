# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Pools of candidates: what each channel lists, its quota, and what may not be listed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from small_ranking import ITEMS, USERS, hits_of
from small_ranking import channels as small_channels
from support import log_of

from paddlerec_milvus.errors import DataError
from paddlerec_milvus.ranking.channels import (
    CHANNELS,
    INTERESTS,
    NEIGHBOURS,
    NEXT,
    POPULAR,
    TRANSITIONS,
    Channels,
    Pool,
    VectorHits,
)
from paddlerec_milvus.retrieval.base import MISSING_ID

NOTHING = hits_of([])
HISTORY = np.array([3, 17, 3, 22])


FEW = {INTERESTS: 3, TRANSITIONS: 5, NEIGHBOURS: 4, POPULAR: 6}


def channels() -> Channels:
    """Of small quotas."""
    return small_channels()._replace(quotas=FEW)


def listed(pool: Pool, name: str) -> list[int]:
    """The channel's list, as the ranks of the pool tell it."""
    ranks = pool.ranks[:, CHANNELS.index(name)]
    order = np.argsort(ranks, kind="stable")[(ranks == 0).sum() :]
    assert ranks[order].tolist() == list(range(1, len(order) + 1))
    return pool.items[order].tolist()


def by_total(pool: Pool, name: str, most: int, without: set[int]) -> list[int]:
    """The items that go best with the history."""
    pairs = zip(pool.pairs[name].items.tolist(), pool.pairs[name].total.tolist(), strict=True)
    return [item for item, _ in sorted(pairs, key=lambda p: (-p[1], p[0])) if item not in without][
        :most
    ]


def test_each_channel_lists_its_first_items_that_may_be_listed() -> None:
    excluded = {3, 17, 22, 1}
    pool = channels().pool(HISTORY, hits_of([9, 8, 30, 7]), excluded)
    assert listed(pool, INTERESTS) == [9, 8, 30]
    assert listed(pool, TRANSITIONS) == by_total(pool, TRANSITIONS, 5, excluded)
    assert listed(pool, NEIGHBOURS) == by_total(pool, NEIGHBOURS, 4, excluded)
    assert listed(pool, POPULAR) == [2, 4, 5, 6, 7, 8]
    assert pool.items.tolist() == sorted(set(pool.items.tolist()) - excluded)
    assert (pool.ranks > 0).any(axis=1).all()
    assert set(pool.pairs) == {TRANSITIONS, NEIGHBOURS, NEXT}


def test_other_channels_list_what_is_allowed_and_fill_their_quotas_with_it() -> None:
    allowed = np.arange(ITEMS) % 2 == 0
    found = [8, 31, ITEMS + 5]  # by a search that has filtered; the last came after the model
    pool = channels().pool(HISTORY, hits_of(found), {22}, allowed)
    assert listed(pool, INTERESTS) == found
    assert (pool.items[pool.ranks[:, 1:].any(axis=1)] % 2 == 0).all()
    assert listed(pool, POPULAR) == [2, 4, 6, 8, 10, 12]
    none = np.zeros(ITEMS, np.bool_)
    pool = channels().pool(HISTORY, hits_of([9]), set(), none)
    assert pool.items.tolist() == [9]


@pytest.mark.parametrize("history", [[5], [ITEMS - 1]])
def test_a_user_with_one_click_and_no_hits(history: list[int]) -> None:
    pool = channels().pool(np.array(history), NOTHING, set(history))
    assert listed(pool, INTERESTS) == []
    assert len(listed(pool, POPULAR)) == 6
    # the last item was never clicked: nothing goes with it
    for name in (TRANSITIONS, NEIGHBOURS):
        assert bool(listed(pool, name)) == (history == [5])


def test_nothing_from_anywhere_is_an_empty_pool() -> None:
    pool = channels().pool(np.array([ITEMS - 1]), NOTHING, set(range(ITEMS)))
    assert pool.items.shape == (0,)
    assert pool.ranks.shape == (0, len(CHANNELS))


def test_hits_are_a_row_of_candidates_without_its_empty_places() -> None:
    ids: NDArray[np.int64] = np.array([4, MISSING_ID, MISSING_ID])
    hits = VectorHits.of(ids, np.array([0.5, -np.inf, -np.inf], np.float32), np.array([1, -1, -1]))
    assert [part.tolist() for part in hits] == [[4], [0.5], [1]]


def test_channels_are_counted_in_the_log() -> None:
    known = channels()
    assert known.clicks.tolist() == [sum(i in user for user in USERS) for i in range(ITEMS)]
    # 1 2 by 3 users, 2 1 by one: after 1 came 2 at once, three times of four clicks on 1
    few = Channels.of(log_of([[1, 2], [1, 2], [1, 2], [2, 1]]), 4)
    assert few.clicks.tolist() == [0, 4, 4, 0]
    hits = {name: few.tables[name].hits(np.array([1])) for name in few.tables}
    assert [one.items.tolist() for one in hits.values()] == [[2]] * 3
    assert hits[NEXT].total == pytest.approx([3 / (4 + 5)])
    assert hits[TRANSITIONS].total == pytest.approx([3 / (4 + 20)])
    assert hits[NEIGHBOURS].total == pytest.approx([4 / 24**0.8])


def test_a_log_of_more_items_than_there_are_is_refused() -> None:
    with pytest.raises(DataError, match="the log holds item 7, but item_count is 5"):
        Channels.of(log_of([[1, 7]]), 5)
