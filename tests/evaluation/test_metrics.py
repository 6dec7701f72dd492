# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Metrics against hand-worked numbers, and against trec_eval through ir-measures."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import Recall, Success, nDCG

from paddlerec_milvus.evaluation.metrics import (
    find_hits,
    hitrate,
    index_recall,
    ndcg,
    ndcg_hits,
    recall,
    relevance,
)


def flat(truths: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    indptr = np.concatenate([[0], np.cumsum([len(t) for t in truths])]).astype(np.int64)
    return indptr, np.array([i for t in truths for i in t], dtype=np.int64)


def lists(rows: list[list[int]], top_n: int) -> np.ndarray:
    return np.array([row + [-1] * (top_n - len(row)) for row in rows], dtype=np.int64)


def test_hand_worked_user():
    # list 7 3 9 4, truths {3, 4, 5}: hits at ranks 2 and 4
    # recall 2/3; DCG = 1/log2(3) + 1/log2(5) = 0.63093 + 0.43068 = 1.06161
    # ideal of 3 truths: 1 + 0.63093 + 0.5 = 2.13093 -> ndcg 0.49819
    # ideal of 2 hits:   1 + 0.63093       = 1.63093 -> ndcg_hits 0.65092
    hits = find_hits(lists([[7, 3, 9, 4]], 4), *flat([[3, 4, 5]]))
    assert recall(hits) == pytest.approx([2 / 3])
    assert hitrate(hits) == pytest.approx([1.0])
    assert ndcg(hits) == pytest.approx([0.49819], abs=1e-5)
    assert ndcg_hits(hits) == pytest.approx([0.65092], abs=1e-5)


def test_truths_are_a_set_and_short_or_missing_lists_count_as_users():
    # user 0: truths 5 5 6 are {5, 6}; user 1: nothing found; user 2: no list at all
    candidates = lists([[5], [1, 2], []], 3)
    got = relevance(candidates, *flat([[5, 5, 6], [9], [1]]), top_n=3)
    assert got["recall@3"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert got["hitrate@3"] == pytest.approx(1 / 3)


def test_no_truth_is_cut_off():
    # 60 truths, all of the top 50 are hits: recall 50/60, and the list is ideal
    truths = list(range(1, 61))
    hits = find_hits(lists([truths[:50]], 50), *flat([truths]))
    assert recall(hits) == pytest.approx([50 / 60])
    assert ndcg(hits) == pytest.approx([1.0])


def test_a_user_without_truths_scores_zero():
    hits = find_hits(lists([[1, 2], [3, 4]], 2), *flat([[], [3]]))
    for metric in (recall, ndcg, ndcg_hits, hitrate):
        assert metric(hits)[0] == 0.0
        assert metric(hits)[1] == pytest.approx(1.0)


def test_nothing_true_at_all():
    hits = find_hits(lists([[1, 2]], 2), *flat([[]]))
    assert recall(hits).tolist() == [0.0]


def test_a_repeated_candidate_is_refused():
    with pytest.raises(ValueError, match="twice"):
        find_hits(lists([[4, 4]], 2), *flat([[4]]))


def test_index_recall_is_by_id_and_ignores_order_and_padding():
    exact = lists([[1, 2, 3, 4], [5, 6]], 4)
    found = lists([[4, 3, 9, 8], [6]], 4)
    assert index_recall(found, exact) == pytest.approx([0.5, 0.5])
    assert index_recall(exact, exact) == pytest.approx([1.0, 1.0])


users = st.lists(
    st.tuples(
        st.lists(st.integers(1, 40), unique=True, max_size=10),  # a list, maybe short or empty
        st.lists(st.integers(1, 40), min_size=1, max_size=25),  # truths, maybe repeated
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(users, st.integers(1, 10))
def test_equals_trec_eval(drawn, top_n):
    candidates = lists([row[:top_n] for row, _ in drawn], top_n)
    indptr, truths = flat([wanted for _, wanted in drawn])
    hits = find_hits(candidates, indptr, truths)
    qrels = [
        ir_measures.Qrel(str(user), str(item), 1)
        for user, (_, wanted) in enumerate(drawn)
        for item in set(wanted)
    ]
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(-rank))
        for user, (row, _) in enumerate(drawn)
        for rank, item in enumerate(row[:top_n])
    ]
    measures = {Recall @ top_n: recall, nDCG @ top_n: ndcg, Success @ top_n: hitrate}
    second = {
        (metric.measure, int(metric.query_id)): metric.value
        for metric in ir_measures.iter_calc(list(measures), qrels, run)
    }
    for measure, ours in measures.items():
        got = ours(hits)
        for user in range(len(drawn)):
            # trec_eval leaves out users without a list; here they count, as zero
            assert got[user] == pytest.approx(second.get((measure, user), 0.0), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(users)
def test_ndcg_over_hits_is_never_below_the_standard_one(drawn):
    hits = find_hits(lists([row for row, _ in drawn], 10), *flat([wanted for _, wanted in drawn]))
    assert (ndcg_hits(hits) >= ndcg(hits) - 1e-12).all()


def test_ties_are_settled_by_the_list_not_by_the_metric():
    # two orders of equally scored candidates are two lists: the metric follows the ranks given
    truths = flat([[2]])
    first = ndcg(find_hits(lists([[1, 2]], 2), *truths))
    second = ndcg(find_hits(lists([[2, 1]], 2), *truths))
    assert first == pytest.approx([1 / np.log2(3)])
    assert second == pytest.approx([1.0])
