# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval import exact
from paddlerec_milvus.retrieval.exact import ExactRetriever


def brute_force(vectors, queries, k, metric):
    """All scores at once in float64, ties by row."""
    v, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "COSINE":
        v = v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-30)
        q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-30)
    scores = q @ v.T
    if metric == "L2":
        scores = -((q[:, None] - v[None]) ** 2).sum(-1)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(scores, rows, 1)


@pytest.mark.parametrize("metric", ["IP", "COSINE", "L2"])
def test_equals_brute_force_over_many_blocks(metric, monkeypatch):
    for name, size in (("QUERY_BLOCK", 7), ("ITEM_BLOCK", 64), ("FIRST_BLOCK", 32)):
        monkeypatch.setattr(exact, name, size)
    random = np.random.default_rng(1)
    vectors = random.standard_normal((1000, 8), dtype=np.float32)
    queries = random.standard_normal((20, 8), dtype=np.float32)
    found = ExactRetriever(vectors, metric=metric).search(queries, 15)
    rows, scores = brute_force(vectors, queries, 15, metric)
    np.testing.assert_array_equal(found.ids, rows)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-4)
    assert found.ids.dtype == np.int64
    assert found.scores.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_ties_go_to_the_smaller_id_wherever_it_stands(count, k, seed):
    random = np.random.default_rng(seed)
    vectors = random.integers(-1, 2, (count, 2)).astype(np.float32)  # whole numbers: exact ties
    queries = random.integers(-1, 2, (3, 2)).astype(np.float32)
    ids = random.permutation(count) + 5
    by_id = np.argsort(ids)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("ITEM_BLOCK", 4), ("FIRST_BLOCK", 3)):
            patch.setattr(exact, name, size)
        found = ExactRetriever(vectors, ids).search(queries, k)
    rows, _ = brute_force(vectors[by_id], queries, k, "IP")
    expected = np.full((3, k), -1)
    expected[:, : min(k, count)] = ids[by_id][rows]
    np.testing.assert_array_equal(found.ids, expected)
    assert np.isneginf(found.scores[:, count:]).all()


def test_equal_scores_everywhere_stay_in_order():
    found = ExactRetriever(np.ones((30_000, 4), np.float32)).search(np.zeros((600, 4)), 5)
    assert (found.ids == np.arange(5)).all()


@pytest.mark.parametrize(
    ("vectors", "ids", "metric", "expected"),
    [
        (np.ones((3, 2)), [1, 2, 1], "IP", "item id 1 is given twice"),
        (np.ones((3, 2)), [1, 2], "IP", "3 item vectors, but ids have the shape [2]"),
        (np.ones(3), None, "IP", "expected [N, D]"),
        (np.full((3, 2), np.nan), None, "IP", "NaN"),
        (np.ones((3, 2)), None, "cosine", "did you mean 'COSINE'?"),
    ],
)
def test_unusable_items_are_named(vectors, ids, metric, expected):
    with pytest.raises(SettingsError) as caught:
        ExactRetriever(vectors, ids, metric)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "filter",
    ["item > 3", "category in [a]", "category in 3", "category == [1]", 'category in ["a"] or 1'],
)
def test_a_filter_that_only_milvus_evaluates_is_refused(filter):
    retriever = ExactRetriever(np.ones((3, 2)), categories=["a", "b", "a"])
    with pytest.raises(SettingsError, match="more than exact search evaluates") as caught:
        retriever.search(np.ones((1, 2)), 2, filter=filter)
    assert filter in str(caught.value)


def test_a_retriever_without_categories_has_empty_ones():
    retriever = ExactRetriever(np.ones((3, 2)), [7, 5, 6])
    assert retriever.search(np.ones((1, 2)), 3, filter='category == ""').ids.tolist() == [[5, 6, 7]]
    assert (retriever.search(np.ones((1, 2)), 3, filter='category in ["a"]').ids == -1).all()
    with pytest.raises(SettingsError, match="3 item vectors, but 2 categories"):
        ExactRetriever(np.ones((3, 2)), categories=["a", "b"])


@pytest.mark.parametrize("k", [0, -1, 16_385])
def test_k_out_of_range(k):
    with pytest.raises(SettingsError, match="16,384"):
        ExactRetriever(np.ones((3, 2))).search(np.ones((1, 2)), k)


def test_no_queries_and_no_items_give_empty_answers():
    assert ExactRetriever(np.ones((3, 2))).search(np.empty((0, 2)), 2).ids.shape == (0, 2)
    assert (ExactRetriever(np.empty((0, 2))).search(np.ones((1, 2)), 2).ids == -1).all()
