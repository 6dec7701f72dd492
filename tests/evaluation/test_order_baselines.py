# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Baselines that know order, by hand, against slow loops, and without order against the others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from support import held_out, log_of

from paddlerec_milvus.data.item_pairs import transition_counts
from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.baselines import (
    EASE,
    ItemKNN,
    ItemKNNGamma,
    Transitions,
    TransitionsKNN,
)
from paddlerec_milvus.evaluation.baselines.base import history_matrix, top_items, top_positive

ITEMS = 12  # ids below this


def random_users(count: int, most: int, seed: int) -> list[list[int]]:
    """Users of random clicks on the items 1 … 10, repeated ones among them; 11 is never clicked."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 11, size=rng.integers(1, most)).tolist() for _ in range(count)]


USERS, HISTORIES = random_users(30, 9, seed=5), random_users(8, 7, seed=6)


def slow_transitions(users: list[list[int]], window: int) -> np.ndarray:
    counts = np.zeros((ITEMS, ITEMS))
    for items in users:
        for i, before in enumerate(items):
            for j in range(i + 1, min(i + window, len(items) - 1) + 1):
                if items[j] != before:
                    counts[before, items[j]] += 1 / (j - i)
    return counts


def slow_co_clicks(users: list[list[int]]) -> np.ndarray:
    counts = np.zeros((ITEMS, ITEMS))
    for items in users:
        for i in set(items):
            for j in set(items) - {i}:
                counts[i, j] += 1
    return counts


def slow_weights(counts: np.ndarray, rows: float, columns: float, shrink: float) -> np.ndarray:
    weights = np.zeros((ITEMS, ITEMS))
    clicks = [sum(item in items for items in USERS) for item in range(ITEMS)]
    for i, j in zip(*np.nonzero(counts), strict=True):
        divisor = (clicks[i] + shrink) ** rows * (clicks[j] + shrink) ** columns
        weights[i, j] = counts[i, j] / divisor
    return weights


def slow_scores(weights: np.ndarray, history: list[int], gamma: float) -> np.ndarray:
    scores, seen = np.zeros(ITEMS), set()
    for age, item in enumerate(reversed(history)):
        if item not in seen:
            seen.add(item)
            scores += gamma**age * weights[item]
    return scores


def assert_best(lists: np.ndarray, weights: np.ndarray, gamma: float, top_n: int) -> None:
    """The lists have the scores that they must have, best first; equals may change places."""
    for row, history in zip(lists, HISTORIES, strict=True):
        scores = slow_scores(weights, history, gamma)
        best = sorted((score for score in scores if score > 0), reverse=True)[:top_n]
        assert scores[row[row >= 0]] == pytest.approx(best, rel=1e-5)
        assert (row[len(best) :] == -1).all()


def test_transitions_by_hand():
    # 1 2 3: 1→2 and 2→3 next to each other, 1→3 two apart; 3 1: 3→1; 2 2 1: 2→1 one and two apart
    counts = transition_counts(log_of([[1, 2, 3], [3, 1], [2, 2, 1]]), 4, window=2).toarray()
    expected = np.zeros((4, 4))
    expected[1, 2], expected[2, 3], expected[1, 3], expected[3, 1], expected[2, 1] = (
        1,
        1,
        0.5,
        1,
        1.5,
    )
    assert counts.tolist() == expected.tolist()
    near = transition_counts(log_of([[1, 2, 3], [3, 1], [2, 2, 1]]), 4, window=1).toarray()
    assert (near[1, 3], near[2, 1]) == (0, 1)


def test_what_follows_the_last_click_comes_first():
    log = log_of([[1, 2], [3, 4]])
    for history, expected in (([1, 3], [4, 2]), ([3, 1], [2, 4])):
        lists = Transitions(log, 5, gamma=0.5).recommend(held_out([history]), 20, 3)
        assert lists.tolist() == [[*expected, -1]]
    assert Transitions(log, 5).recommend(held_out([[2, 4]]), 20, 2).tolist() == [[-1, -1]]


def test_the_history_weighs_by_the_age_of_the_last_click_of_an_item():
    # ages from the last click: 7 3, 5 2, 7 again 1, 2 0
    weights = history_matrix(np.array([[7, 5, 7, 2, 0], [3, 0, 0, 0, 0]]), 8, gamma=0.5)
    expected = np.zeros((2, 8))
    expected[0, [2, 5, 7]], expected[1, 3] = [1, 0.25, 0.5], 1
    assert weights.toarray().tolist() == expected.tolist()


@pytest.mark.parametrize("gamma", [1.0, 0.7])
@pytest.mark.parametrize(("rows", "columns", "shrink"), [(1, 0, 20), (0.5, 0.3, 2), (0.7, 0.5, 0)])
def test_pairs_equal_a_slow_loop(rows, columns, shrink, gamma):
    options = {"rows": rows, "columns": columns, "shrink": shrink, "gamma": gamma}
    follow = slow_weights(slow_transitions(USERS, 3), rows, columns, shrink)
    near = slow_weights(slow_co_clicks(USERS), rows, columns, shrink)
    both = follow / follow[follow > 0].std() + near / near[near > 0].std()
    log, users = log_of(USERS), held_out(HISTORIES)
    knn = {"knn_rows": rows, "knn_columns": columns}
    for baseline, weights in (
        (Transitions(log, ITEMS, window=3, **options), follow),
        (ItemKNNGamma(log, ITEMS, **options), near),
        (TransitionsKNN(log, ITEMS, window=3, **options, **knn), both),
    ):
        lists = baseline.recommend(users, 20, 6, block=3)
        assert_best(lists, weights, gamma, 6)


def test_ease_weighs_its_rows_by_age():
    baseline = EASE(log_of(USERS), ITEMS, l2=5.0, gamma=0.6)
    lists = baseline.recommend(held_out(HISTORIES), 20, 5)
    for row, history in zip(lists, HISTORIES, strict=True):
        scores = slow_scores(baseline.weights.astype(np.float64), history, 0.6)[1:11]
        assert scores[row - 1] == pytest.approx(sorted(scores, reverse=True)[:5], abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_with_gamma_1_it_is_the_baseline_that_is_blind_to_order(seed):
    log = log_of(random_users(30, 9, seed))
    users = held_out(random_users(9, 7, seed + 100))
    history = history_matrix(users.histories(20)[0], ITEMS, gamma=1.0)
    assert set(history.data.tolist()) == {1.0}
    blind = ItemKNN(log, ITEMS, shrink=0, alpha=0.7).scores(history)
    aged = ItemKNNGamma(log, ITEMS, rows=0.7, columns=0.3, shrink=0, gamma=1.0).scores(history)
    assert aged == pytest.approx(blind, rel=1e-5)
    same = EASE(log, ITEMS, gamma=1.0).recommend(users, 20, 9)
    assert same.tolist() == EASE(log, ITEMS).recommend(users, 20, 9).tolist()


@pytest.mark.parametrize("build", [ItemKNNGamma, Transitions, TransitionsKNN])
def test_other_powers_give_what_a_training_with_them_gives(build):
    log, users = log_of(USERS), held_out(HISTORIES)
    powers = {"rows": 0.9, "columns": 0.2, "gamma": 0.6}
    powers |= {"knn_rows": 0.3, "knn_columns": 0.7} if build is TransitionsKNN else {}
    changed = build(log, ITEMS)
    changed.weigh(**powers)
    expected = build(log, ITEMS, **powers).recommend(users, 20, 9)
    assert changed.recommend(users, 20, 9).tolist() == expected.tolist()


def test_few_scores_are_ranked_as_all_of_them_are():
    rng = np.random.default_rng(3)
    scores = rng.integers(-1, 4, size=(6, 40)) * (rng.random((6, 40)) < 0.3)
    scores[2] = 0
    dense = np.where(scores > 0, scores, -np.inf).astype(np.float32)
    few = top_positive(sparse.csr_matrix(scores.astype(np.float32)), 12)
    assert few.tolist() == top_items(dense, 12).tolist()


@pytest.mark.parametrize("build", [Transitions, TransitionsKNN])
def test_a_log_without_pairs_gives_empty_lists_and_a_window_of_nothing_is_refused(build):
    lists = build(log_of([[1], [2, 2]]), 4).recommend(held_out([[1], [2]]), 20, 3)
    assert (lists == -1).all()
    nobody = ClickLog(*(np.zeros(size, dtype=np.int64) for size in (0, 1, 0)))
    assert (build(nobody, 4).recommend(held_out([[1]]), 20, 3) == -1).all()
    with pytest.raises(SettingsError, match="a window of 1 click or more, given 0"):
        build(log_of([[1, 2]]), 4, window=0)
