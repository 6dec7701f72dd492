# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""GF-CF against the dense formula of its paper."""

from __future__ import annotations

import numpy as np
import pytest
from support import held_out, log_of

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.baselines import GFCF
from paddlerec_milvus.evaluation.baselines.base import history_matrix

ITEMS = 12
RNG = np.random.default_rng(3)
USERS = [RNG.integers(1, 11, size=RNG.integers(1, 9)).tolist() for _ in range(30)]
HISTORIES = np.array([[3, 7, 1, 0], [5, 0, 0, 0], [2, 2, 9, 4]])


def dense(rank: int, alpha: float) -> np.ndarray:
    """The item-item matrix of equation 11, its diagonal taken away."""
    clicks = np.zeros((len(USERS), ITEMS))
    for user, items in enumerate(USERS):
        clicks[user, items] = 1
    of_item = np.maximum(clicks.sum(axis=0), 1)
    normal = clicks / np.sqrt(clicks.sum(axis=1, keepdims=True) * of_item)
    _, _, vectors = np.linalg.svd(normal)
    low = vectors[:rank].T @ vectors[:rank]
    both = normal.T @ normal + alpha * low * np.sqrt(of_item / of_item[:, None])
    return both - np.diag(np.diag(both))


@pytest.mark.parametrize(("rank", "alpha", "gamma"), [(1, 0.3, 1.0), (4, 2.0, 0.7), (9, 1.0, 0.9)])
def test_scores_are_those_of_the_dense_formula(rank, alpha, gamma):
    history = history_matrix(HISTORIES, ITEMS, gamma)
    baseline = GFCF(log_of(USERS), ITEMS, rank, alpha, gamma)
    expected = history.toarray() @ dense(rank, alpha)
    assert baseline.scores(history) == pytest.approx(expected, abs=1e-5)


def test_weighing_a_trained_one_is_as_training_with_those_parameters():
    users = held_out([[3, 7, 1], [5]])
    wide = GFCF(log_of(USERS), ITEMS)  # more than the log has directions
    wide.weigh(3, 0.5, 0.8)
    alone = GFCF(log_of(USERS), ITEMS, rank=3, alpha=0.5, gamma=0.8)
    lists = wide.recommend(users, 20, 6)
    assert lists.tolist() == alone.recommend(users, 20, 6).tolist()
    assert 11 not in lists  # nobody clicked it


def test_a_rank_of_nothing_is_refused():
    with pytest.raises(SettingsError, match="rank of 1 or more, given 0"):
        GFCF(log_of(USERS), ITEMS, rank=0)
