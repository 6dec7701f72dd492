# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""index_recall by id with ties, relevance lost, against numbers worked by hand and FAISS."""

import numpy as np
import pytest

from paddlerec_milvus.bench.measure_search import exact_of, quality_of, with_ties
from paddlerec_milvus.bench.workload import Truths, Workload, norm_skew, synthetic_workload
from paddlerec_milvus.retrieval.base import Neighbours

SMALL = {"items": 500, "dimension": 8, "users": 20, "interests": 3, "clusters": 10, "spread": 0.5}


def small(metric: str = "IP", norm_skew: float = 0.0) -> Workload:
    return synthetic_workload(**SMALL, norm_skew=norm_skew, metric=metric, seed=1)


def test_exact_search_loses_nothing():
    work = small()
    exact = exact_of(work, 10)
    values = quality_of(work, exact, exact.neighbours)
    assert values.index_recall.model_dump() == {
        "interest": {"mean": 1.0, "se": 0.0},
        "list": {"mean": 1.0, "se": 0.0},
    }
    assert values.short_lists == 0
    assert values.relevance is None  # nobody clicked


@pytest.mark.parametrize("metric", ["IP", "L2", "COSINE"])
def test_the_truth_is_that_of_faiss(metric):
    faiss = pytest.importorskip("faiss")
    work = small(metric, norm_skew=0.3)
    vectors, queries = work.vectors.copy(), work.queries.copy()
    if metric == "COSINE":
        faiss.normalize_L2(vectors)
        faiss.normalize_L2(queries)
    flat = faiss.IndexFlatL2(8) if metric == "L2" else faiss.IndexFlatIP(8)
    flat.add(vectors)
    scores, rows = flat.search(queries, 10)
    found = Neighbours(work.ids[rows], -scores if metric == "L2" else scores)
    values = quality_of(work, exact_of(work, 10), found)
    assert values.index_recall.interest.mean == 1
    assert values.index_recall.list.mean == 1


def test_relevance_lost_worked_by_hand():
    # one interest a user; user 0 clicked 1 and 2, user 1 clicked 3; the index misses item 2
    vectors = np.eye(4, dtype=np.float32)
    interests = np.array([[[1, 0.9, 0.1, 0]], [[0.1, 0, 1, 0.9]]], np.float32)
    truths = Truths(np.array([0, 2, 3]), np.array([1, 2, 3]))
    work = Workload("hand", vectors, np.arange(1, 5), interests, "IP", truths)
    exact = exact_of(work, 2)
    assert exact.lists.ids.tolist() == [[1, 2], [3, 4]]
    found = Neighbours(np.array([[1, 3], [3, 4]]), np.array([[1, 0.1], [1, 0.9]], np.float32))
    values = quality_of(work, exact, found)
    assert values.index_recall.list.mean == 0.75  # 1 of 2, 2 of 2
    assert values.relevance is not None
    assert values.relevance.exact.recall == 1
    assert values.relevance.index.recall == 0.75  # 1 of 2 clicks, 1 of 1
    lost = values.relevance.loss.recall
    assert lost.mean == lost.relative == 0.25
    assert lost.low == 0
    assert lost.high == 0.5
    assert values.relevance.index.hitrate == 1


def test_a_tie_at_the_end_is_no_fault():
    ids, scores = np.array([[7, 9]]), np.array([[2.0, 1.0]], np.float32)
    exact, cut = np.array([[7, 8]]), np.array([1.0], np.float32)
    assert with_ties(ids, scores, exact, cut).tolist() == [[7, 8]]
    worse = np.array([[2.0, 0.99]], np.float32)
    assert with_ties(ids, worse, exact, cut).tolist() == [[7, 9]]


def test_a_short_list_is_counted():
    work = small()
    exact = exact_of(work, 10)
    ids, scores = exact.neighbours.ids.copy(), exact.neighbours.scores.copy()
    ids[:3, 2:], scores[:3, 2:] = -1, -np.inf  # 6 of at least 10 for user 0
    assert quality_of(work, exact, Neighbours(ids, scores)).short_lists == 1


def test_skew_is_planted():
    assert norm_skew(small().vectors) == pytest.approx(1, abs=1e-5)
    assert norm_skew(small(norm_skew=1.0).vectors) > 5


def test_a_workload_of_some_users():
    work = small()
    truths = Truths(np.arange(21), np.arange(1, 21))
    with_clicks = Workload(
        work.name, work.vectors, work.ids, work.interests, "IP", truths, list(np.eye(20))
    )
    some = with_clicks.take(np.array([3, 1]))
    assert some.truths is not None
    assert some.truths.items.tolist() == [4, 2]
    assert some.interests.shape == (2, 3, 8)
    assert some.histories[0].argmax() == 3
    assert some.fingerprint != with_clicks.fingerprint
