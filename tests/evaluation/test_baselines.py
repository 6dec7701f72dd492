# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Baselines against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.evaluation.baselines import ItemKNN, most_popular


def log_of(users: list[list[int]]) -> ClickLog:
    indptr = np.concatenate([[0], np.cumsum([len(u) for u in users])]).astype(np.int64)
    items = np.array([i for u in users for i in u], dtype=np.int64)
    return ClickLog(np.arange(len(users), dtype=np.int64), indptr, items)


def held_out(histories: list[list[int]]) -> HeldOutUsers:
    log = log_of(histories)
    one = np.arange(len(histories) + 1, dtype=np.int64)
    return HeldOutUsers(log.user_ids, log.indptr, log.items, one, np.ones(len(histories), np.int64))


def test_most_popular_counts_clicks_and_prefers_the_larger_id_among_equals():
    # clicks: 1 twice, 2 twice, 3 three times, 4 never, 5 once
    log = log_of([[3, 1, 2], [3, 1, 2, 5], [3]])
    assert most_popular(log, 3).tolist() == [3, 2, 1]
    assert most_popular(log, 50).tolist() == [3, 2, 1, 5]


def knn_by_hand(users: list[list[int]], history: list[int], shrink: float) -> dict[int, float]:
    clicked = [set(user) for user in users]
    items = sorted(set().union(*clicked))
    count = {i: sum(i in user for user in clicked) for i in items}
    scores = {}
    for j in items:
        scores[j] = sum(
            sum(i in user and j in user for user in clicked)
            / (np.sqrt(count[i] * count[j]) + shrink)
            for i in set(history)
            if i != j and i in count
        )
    return scores


@pytest.mark.parametrize("block", [1, 2, 512])
def test_item_knn_equals_brute_force(block):
    rng = np.random.default_rng(5)
    users = [rng.integers(1, 15, size=rng.integers(2, 9)).tolist() for _ in range(40)]
    histories = [rng.integers(1, 15, size=rng.integers(1, 6)).tolist() for _ in range(5)]
    found = ItemKNN(log_of(users), 16, shrink=3.0).recommend(held_out(histories), 4, 6, block)
    for row, history in zip(found, histories, strict=True):
        scores = knn_by_hand(users, history[-4:], 3.0)
        best = sorted((s for s in scores.values() if s > 0), reverse=True)[:6]
        kept = row[row >= 0]
        assert len(kept) == len(best)
        assert [scores[i] for i in kept.tolist()] == pytest.approx(best, rel=1e-5)


def test_item_knn_gives_a_short_list_where_nothing_is_near():
    found = ItemKNN(log_of([[1, 2], [3, 4]]), 5).recommend(held_out([[1], [4]]), 20, 3)
    assert found.tolist() == [[2, -1, -1], [3, -1, -1]]
