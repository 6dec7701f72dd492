# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.candidates import merge_interests, search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever


def naive(ids, scores, top_n, excluded):
    """One user's merge with a dict: item -> (score, interest)."""
    best: dict[int, tuple[float, int]] = {}
    for interest, (row, marks) in enumerate(zip(ids, scores, strict=True)):
        for item, score in zip(row.tolist(), marks.tolist(), strict=True):
            if item > 0 and item not in excluded and (item not in best or score > best[item][0]):
                best[item] = (score, interest)
    # a dict keeps the order of first sight, but an item may move to a later, better place
    place = {item: i for i, (item, _) in enumerate(_by_place(ids, scores, best))}
    order = sorted(best, key=lambda item: (-best[item][0], place[item]))[:top_n]
    return [(item, *best[item]) for item in order]


def _by_place(ids, scores, best):
    for interest, (row, marks) in enumerate(zip(ids, scores, strict=True)):
        for item, score in zip(row.tolist(), marks.tolist(), strict=True):
            if best.get(item) == (score, interest):
                yield item, None


@st.composite
def users(draw):
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 6)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    huge = draw(st.booleans())
    ids = (
        np.stack(  # an interest's list names no item twice
            [
                [random.permutation(9)[: shape[2]] - 1 for _ in range(shape[1])]
                for _ in range(shape[0])
            ]
        )
        * (2**58 if huge else 1)
    )
    scores = -np.sort(-random.integers(0, 4, shape).astype(np.float32), axis=2)
    excluded = [random.integers(-1, 8, random.integers(0, 5)) for _ in range(shape[0])]
    if huge:
        excluded = [each * 2**58 for each in excluded]
    return ids.astype(np.int64), scores, draw(st.integers(1, 12)), excluded


@settings(max_examples=300, deadline=None)
@given(users())
def test_equals_a_dict_user_by_user(case):
    ids, scores, top_n, excluded = case
    merged = merge_interests(ids, scores, top_n, excluded)
    for user in range(len(ids)):
        expected = naive(ids[user], scores[user], top_n, set(excluded[user].tolist()))
        rest = [(-1, -np.inf, -1)] * (top_n - len(expected))
        got = list(zip(*(part[user].tolist() for part in merged), strict=True))
        assert got == expected + rest


@settings(max_examples=100, deadline=None)
@given(users(), st.integers(0, 2**32 - 1))
def test_properties(case, seed):
    ids, scores, top_n, _ = case
    scores = scores + np.random.default_rng(seed).random(scores.shape, np.float32)  # no ties
    merged = merge_interests(ids, scores, top_n)
    order = np.random.default_rng(seed).permutation(ids.shape[1])
    permuted = merge_interests(ids[:, order], scores[:, order], top_n)
    np.testing.assert_array_equal(merged.ids, permuted.ids)
    np.testing.assert_array_equal(merged.scores, permuted.scores)
    found = merged.interests >= 0
    np.testing.assert_array_equal(order[permuted.interests][found], merged.interests[found])
    for row, marks in zip(merged.ids, merged.scores, strict=True):
        real = row[row > 0]
        assert len(set(real.tolist())) == len(real)
        assert (row[len(real) :] == -1).all()
        assert not (marks[1:] > marks[:-1]).any()


def test_by_hand():
    # user 1: item 5 from both interests, 0.9 wins; 0 is padding; 7 and 8 tie at 0.5, interest 0
    # first; -1 is a missing slot
    ids = [[[5, 7, 0], [8, 5, -1]]]
    scores = [[[0.9, 0.5, 0.4], [0.5, 0.3, -np.inf]]]
    merged = merge_interests(ids, scores, 4)
    assert merged.ids.tolist() == [[5, 7, 8, -1]]
    assert merged.interests.tolist() == [[0, 0, 1, -1]]
    assert merge_interests(ids, scores, 2, [[5]]).ids.tolist() == [[7, 8]]


def test_a_quota_by_hand():
    # interest 0 gives 5 and no more; 7 then comes from interest 1, which gives no 8 after it
    ids, scores = [[[5, 7], [7, 8]]], [[[0.9, 0.8], [0.7, 0.6]]]
    merged = merge_interests(ids, scores, 3, quota=1)
    assert merged.ids.tolist() == [[5, 7, -1]]
    assert merged.interests.tolist() == [[0, 1, -1]]
    np.testing.assert_allclose(merged.scores[0, :2], [0.9, 0.7])
    assert merge_interests(ids, scores, 3, quota=2).ids.tolist() == [[5, 7, 8]]


def test_a_score_that_is_no_number_is_no_candidate():
    assert merge_interests([[[5, 7]]], [[[np.nan, 0.8]]], 2).ids.tolist() == [[7, -1]]


def test_shapes_that_do_not_fit():
    with pytest.raises(SettingsError, match=r"\[B, K, k\]"):
        merge_interests(np.ones((2, 3)), np.ones((2, 3)), 5)
    with pytest.raises(SettingsError, match="1 lists to exclude for 2 users"):
        merge_interests(np.ones((2, 1, 1)), np.ones((2, 1, 1)), 5, [[1]])
    with pytest.raises(SettingsError, match="top_n: 0"):
        merge_interests(np.ones((2, 1, 1)), np.ones((2, 1, 1)), 0)
    assert merge_interests(np.ones((0, 1, 1)), np.ones((0, 1, 1)), 5).ids.shape == (0, 5)


def test_excluding_the_history_still_fills_the_list():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((300, 8), dtype=np.float32)
    ids = np.arange(1, 301)
    interests = random.standard_normal((6, 3, 8), dtype=np.float32)
    retriever = ExactRetriever(vectors, ids)
    plain = search_users(retriever, interests, 40)
    history = [row[:30] for row in plain.ids]
    without = search_users(retriever, interests, 40, exclude=history)
    assert (without.ids > 0).all()
    for user, row in enumerate(without.ids):
        scores = (vectors @ interests[user].T).max(axis=1)
        scores[history[user] - 1] = -np.inf
        assert row.tolist() == ids[np.argsort(-scores)[:40]].tolist()


@pytest.mark.parametrize("top_n", [0, 20_000])
def test_top_n_out_of_range(top_n):
    retriever = ExactRetriever(np.ones((3, 2)))
    with pytest.raises(SettingsError, match=f"top_n: {top_n}"):
        search_users(retriever, np.ones((1, 1, 2)), top_n)
    with pytest.raises(SettingsError, match=r"\[B, K, D\]"):
        search_users(retriever, np.ones((1, 2)), 5)
