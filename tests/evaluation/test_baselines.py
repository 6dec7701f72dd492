# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Baselines against brute force, closed forms and hand-worked numbers."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import sparse
from support import held_out, log_of

from paddlerec_milvus.errors import DataError, SettingsError
from paddlerec_milvus.evaluation.baselines import (
    ALS,
    BPR,
    EASE,
    ItemKNN,
    ItemKNNGamma,
    MostPopular,
    Transitions,
    TransitionsKNN,
    most_popular,
)
from paddlerec_milvus.evaluation.baselines.base import history_matrix, top_items

ITEMS = 16  # ids below this


def random_lists(count: int, most: int, seed: int) -> list[list[int]]:
    """Users of random clicks on the items 1 … 14; 15 is never clicked."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 15, size=rng.integers(1, most)).tolist() for _ in range(count)]


def dense(users: list[list[int]]) -> np.ndarray:
    clicks = np.zeros((len(users), ITEMS))
    for row, items in enumerate(users):
        clicks[row, items] = 1
    return clicks


USERS = random_lists(40, 9, seed=5)
HISTORIES = random_lists(7, 6, seed=6)
BASELINES = {
    "MostPopular": MostPopular,
    "ItemKNN": ItemKNN,
    "EASE": EASE,
    "ALS": lambda log, count: ALS(log, count, factors=4, seed=3),
    "BPR": lambda log, count: BPR(log, count, factors=4, epochs=30, seed=3),
    "ItemKNNGamma": lambda log, count: ItemKNNGamma(log, count, gamma=1.0),
    "Transitions": lambda log, count: Transitions(log, count, gamma=1.0),
    "TransitionsKNN": lambda log, count: TransitionsKNN(log, count, gamma=1.0),
}
every_baseline = pytest.mark.parametrize("name", BASELINES)


@every_baseline
class TestEveryBaseline:
    """One behaviour suite."""

    def test_lists_clicked_items_once_and_the_history_with_them(self, name):
        found = BASELINES[name](log_of(USERS), ITEMS).recommend(held_out(HISTORIES), 20, 30)
        assert found.shape == (len(HISTORIES), 30)
        for row in found:
            kept = row[row >= 0].tolist()
            assert kept == list(dict.fromkeys(kept))
            assert set(kept) <= set(range(1, 15))  # never padding, never the item without a click
            assert (row[len(kept) :] == -1).all()
        assert any(set(row.tolist()) & set(h) for row, h in zip(found, HISTORIES, strict=True))

    def test_leaves_the_history_out_on_request(self, name):
        baseline = BASELINES[name](log_of(USERS), ITEMS)
        whole = baseline.recommend(held_out(HISTORIES), 20, 15)
        without = baseline.recommend(held_out(HISTORIES), 20, 15, exclude_history=True)
        for row, short, history in zip(whole, without, HISTORIES, strict=True):
            expected = [item for item in row.tolist() if item not in history and item >= 0]
            assert short[: len(expected)].tolist() == expected
            assert (short[len(expected) :] == -1).all()

    def test_a_permutation_of_users_and_of_the_history_changes_nothing(self, name):
        baseline = BASELINES[name](log_of(USERS), ITEMS)
        found = baseline.recommend(held_out(HISTORIES), 20, 8)
        order = [3, 0, 6, 1, 5, 2, 4]
        turned = held_out([HISTORIES[row][::-1] for row in order])
        assert baseline.recommend(turned, 20, 8, block=2).tolist() == found[order].tolist()

    def test_sees_the_last_clicks_alone(self, name):
        baseline = BASELINES[name](log_of(USERS), ITEMS)
        long = baseline.recommend(held_out([[9, 9, 2, 3, 4]]), 3, 8)
        assert long.tolist() == baseline.recommend(held_out([[2, 3, 4]]), 20, 8).tolist()

    def test_leaves_out_the_whole_history_though_it_sees_the_last_clicks_alone(self, name):
        baseline = BASELINES[name](log_of(USERS), ITEMS)
        histories = [[7, 8, *history] for history in HISTORIES]
        whole = baseline.recommend(held_out(histories), 2, 15)
        without = baseline.recommend(held_out(histories), 2, 15, exclude_history=True, block=3)
        for row, short, history in zip(whole, without, histories, strict=True):
            expected = [item for item in row.tolist() if item not in history and item >= 0]
            assert short[: len(expected)].tolist() == expected
            assert (short[len(expected) :] == -1).all()

    def test_says_which_item_has_no_place(self, name):
        with pytest.raises(DataError, match="the log holds item 14, but item_count is 14"):
            BASELINES[name](log_of([[1, 14]]), 14)
        baseline = BASELINES[name](log_of(USERS), ITEMS)
        with pytest.raises(DataError, match="a history holds item 16, but item_count is 16"):
            baseline.recommend(held_out([[16]]), 20, 5)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "MostPopular"])
def test_walks_within_the_group_of_the_history(name):
    rng = np.random.default_rng(1)
    users = [(rng.permutation(7)[:5] + 1 + 7 * (u % 2)).tolist() for u in range(60)]
    found = BASELINES[name](log_of(users), ITEMS).recommend(held_out([[2, 3], [9, 12]]), 20, 7)
    assert set(found[0].tolist()) == set(range(1, 8))
    assert set(found[1].tolist()) == set(range(8, 15))


def test_top_items_of_equal_scores_takes_the_smaller_id():
    scores = np.array([[1, 2, 1, 3, 1], [-np.inf, 0, -np.inf, -1, -np.inf]], dtype=np.float32)
    assert top_items(scores, 3).tolist() == [[3, 1, 0], [1, 3, -1]]
    assert top_items(scores, 6).tolist() == [[3, 1, 0, 2, 4, -1], [1, 3, -1, -1, -1, -1]]


def test_most_popular_counts_clicks_and_prefers_the_larger_id_among_equals():
    # clicks: 1 twice, 2 twice, 3 three times, 4 never, 5 once
    log = log_of([[3, 1, 2], [3, 1, 2, 5], [3]])
    assert most_popular(log, 3).tolist() == [3, 2, 1]
    assert most_popular(log, 50).tolist() == [3, 2, 1, 5]
    found = MostPopular(log, 6).recommend(held_out([[1], [5, 4]]), 20, 5)
    assert found.tolist() == [[3, 2, 1, 5, -1]] * 2


def similarity_by_hand(shrink: float, alpha: float, neighbours: int) -> np.ndarray:
    clicks = dense(USERS)
    together, count = clicks.T @ clicks, clicks.sum(axis=0)
    similarity = np.zeros((ITEMS, ITEMS))
    for i, j in zip(*np.nonzero(together), strict=True):
        if i != j:
            weight = count[i] ** alpha * count[j] ** (1 - alpha)
            similarity[i, j] = together[i, j] / (weight + shrink)
    if neighbours:
        for row in similarity:
            row[np.argsort(-row, kind="stable")[neighbours:]] = 0
    return similarity


@pytest.mark.parametrize("block", [1, 2, 512])
@pytest.mark.parametrize(("shrink", "alpha", "neighbours"), [(3, 0.5, 0), (0, 0.7, 0), (9, 0.3, 4)])
def test_item_knn_equals_brute_force(block, shrink, alpha, neighbours):
    baseline = ItemKNN(log_of(USERS), ITEMS, shrink, alpha, neighbours)
    found = baseline.recommend(held_out(HISTORIES), 4, 6, block=block)
    similarity = similarity_by_hand(shrink, alpha, neighbours)
    for row, history in zip(found, HISTORIES, strict=True):
        scores = similarity[sorted(set(history[-4:]))].sum(axis=0)
        best = sorted((s for s in scores if s > 0), reverse=True)[:6]
        kept = row[row >= 0]
        assert scores[kept] == pytest.approx(best, rel=1e-5)


def test_item_knn_favours_popular_candidates_with_more_alpha():
    # users: 1 with 2 twice, 1 with 3 once; clicks of 1, 2, 3: 3, 5, 1
    log = log_of([[1, 2], [1, 2], [1, 3], [2], [2], [2]])
    # alpha 0.5: 2 / sqrt(3 · 5) = 0.52 < 1 / sqrt(3) = 0.58;  alpha 1: 2 / 3 > 1 / 3
    for alpha, expected in ((0.5, [3, 2]), (1.0, [2, 3])):
        found = ItemKNN(log, 4, shrink=0, alpha=alpha).recommend(held_out([[1]]), 20, 2)
        assert found.tolist() == [expected]


def test_item_knn_gives_a_short_list_where_nothing_is_near():
    found = ItemKNN(log_of([[1, 2], [3, 4]]), 5).recommend(held_out([[1], [4]]), 20, 3)
    assert found.tolist() == [[2, -1, -1], [3, -1, -1]]


def test_ease_solves_the_ridge_regression_of_each_item_on_the_others(monkeypatch):
    monkeypatch.setattr("paddlerec_milvus.evaluation.baselines.ease._BLOCK", 5)
    clicks, l2 = dense(USERS), 7.0
    weights = EASE(log_of(USERS), ITEMS, l2).weights
    assert np.diag(weights).tolist() == [0] * ITEMS
    for item in range(ITEMS):
        others = np.delete(clicks, item, axis=1)
        gram = others.T @ others + l2 * np.eye(ITEMS - 1)
        expected = np.linalg.solve(gram, others.T @ clicks[:, item])
        assert np.delete(weights[:, item], item) == pytest.approx(expected, abs=1e-5)


def test_ease_by_hand():
    # clicks of 1 and 2: (1, 1) and (1, 0); XᵀX + 1 = [[3, 1], [1, 2]], P = [[2, -1], [-1, 3]] / 5
    weights = EASE(log_of([[1, 2], [1]]), 3, l2=1).weights
    assert weights[1:, 1:].tolist() == pytest.approx(np.array([[0, 1 / 3], [1 / 2, 0]]))
    assert weights[0].tolist() == [0, 0, 0]


def test_ease_refuses_what_does_not_fit_and_what_has_no_inverse():
    message = r"20,001 items need 4 GiB of memory, the limit is 20,000 items"
    with pytest.raises(SettingsError, match=message):
        EASE(log_of(USERS), 20_001)
    with pytest.raises(SettingsError, match="no solution at l2 0"):
        EASE(log_of(USERS), ITEMS, l2=0)


def test_als_folds_a_user_in_by_the_closed_form():
    alpha, l2 = 5.0, 0.5
    baseline = ALS(log_of(USERS), ITEMS, factors=4, alpha=alpha, l2=l2, seed=2)
    items = baseline.item_factors.astype(np.float64)
    histories = dense([sorted(set(history)) for history in HISTORIES])
    found = baseline.user_factors(sparse.csr_matrix(histories))
    for vector, clicked in zip(found, histories, strict=True):
        confidence = np.diag(1 + (alpha - 1) * clicked)
        system = items.T @ confidence @ items + l2 * np.eye(4)
        assert vector == pytest.approx(
            np.linalg.solve(system, items.T @ confidence @ clicked), rel=1e-4, abs=1e-6
        )


def test_als_folds_in_as_implicit_does_and_a_seed_gives_the_same_again():
    from implicit.cpu.als import AlternatingLeastSquares

    options = {"factors": 4, "alpha": 5.0, "iterations": 3}
    baseline = ALS(log_of(USERS), ITEMS, l2=0.5, seed=2, **options)
    theirs = AlternatingLeastSquares(regularization=0.5, random_state=2, num_threads=1, **options)
    theirs.fit(baseline.users, show_progress=False)
    assert np.array_equal(theirs.item_factors, baseline.item_factors)
    history = sparse.csr_matrix(dense(HISTORIES).astype(np.float32))
    expected = theirs.recalculate_user(np.arange(len(HISTORIES)), history)
    assert baseline.user_factors(history) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_bpr_scores_by_the_scaled_mean_of_the_history_plus_the_items_bias():
    baseline = BPR(log_of(USERS), ITEMS, factors=3, epochs=4, scale=2.5, seed=4, keep=[2, 4])
    assert sorted(baseline.snapshots) == [2, 4]
    assert np.array_equal(baseline.snapshots[4], baseline.item_factors)
    two = BPR(log_of(USERS), ITEMS, factors=3, epochs=2, seed=4)
    assert np.array_equal(two.item_factors, baseline.snapshots[2])
    vectors, biases = baseline.item_factors[:, :3], baseline.item_factors[:, 3]
    scores = baseline.scores(history_matrix(np.array([[5, 9, 5, 0]]), ITEMS))[0]
    expected = 2.5 * (vectors[5] + vectors[9]) / 2 @ vectors.T + biases  # 5 counts once
    assert scores == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["ALS", "BPR"])
def test_without_implicit_the_message_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit.cpu", None)
    with pytest.raises(SettingsError, match=rf"{name} needs the package 'implicit'.*\[bench\]"):
        BASELINES[name](log_of(USERS), ITEMS)
