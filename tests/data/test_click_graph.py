# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Low frequencies of the graph of clicks, against numpy's own singular values."""

from __future__ import annotations

import numpy as np
import pytest
from support import log_of

from paddlerec_milvus.data.click_graph import low_frequencies, normalised
from paddlerec_milvus.data.item_pairs import click_matrix

ITEMS = 12
USERS = [np.random.default_rng(seed).integers(1, ITEMS - 1, 4).tolist() for seed in range(20)]


def test_a_click_is_divided_by_the_roots_of_its_users_and_its_items_clicks() -> None:
    clicks = np.zeros((len(USERS), ITEMS))
    for row, items in enumerate(USERS):
        clicks[row, items] = 1
    by_item = np.maximum(clicks.sum(axis=0), 1)
    expected = clicks / np.sqrt(clicks.sum(axis=1, keepdims=True) * by_item)
    graph = normalised(click_matrix(log_of(USERS), ITEMS))
    np.testing.assert_allclose(graph.toarray(), expected, rtol=1e-6)


@pytest.mark.parametrize("users", [USERS, USERS[:9]])  # more than items, and fewer
def test_low_frequencies_are_the_first_singular_vectors(users: list[list[int]]) -> None:
    graph = normalised(click_matrix(log_of(users), ITEMS))
    _, values, vectors = np.linalg.svd(graph.toarray().astype(np.float64))
    for rank in (1, 4, 6):  # both ways are taken
        largest, found = low_frequencies(graph, rank)
        np.testing.assert_allclose(largest, values[:rank], atol=1e-6)
        filtered = vectors[:rank].T @ vectors[:rank]  # a vector's sign is anybody's
        np.testing.assert_allclose(found @ found.T, filtered, atol=1e-6)
    real = int((values > 1e-9).sum())
    _, all_there_are = low_frequencies(graph, 50)
    assert all_there_are.shape == (ITEMS, real)
    assert not all_there_are[[0, ITEMS - 1]].any()  # never clicked


def test_a_log_of_one_user_has_one() -> None:
    values, vectors = low_frequencies(normalised(click_matrix(log_of([[1, 2]]), 4)), 8)
    assert values == pytest.approx([1])
    assert np.abs(vectors[:, 0]) == pytest.approx([0, 0.5**0.5, 0.5**0.5, 0])
