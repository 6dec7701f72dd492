# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How deep is searched so that what is left out does not shorten a list."""

from __future__ import annotations

import numpy as np
import pytest

from paddlerec_milvus.retrieval import candidates
from paddlerec_milvus.retrieval.base import LARGEST_K, Neighbours
from paddlerec_milvus.retrieval.candidates import find_users, search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever

random = np.random.default_rng(3)
VECTORS = random.standard_normal((3_000, 8), dtype=np.float32)
IDS = np.arange(1, 3_001)
INTERESTS = random.standard_normal((5, 3, 8), dtype=np.float32)


class Counting(ExactRetriever):
    """Keeps the number of queries and of hits of each search."""

    def __init__(self) -> None:
        super().__init__(VECTORS, IDS)
        self.searches: list[tuple[int, int]] = []

    def search(self, queries, k, **options) -> Neighbours:
        self.searches.append((len(queries), k))
        return super().search(queries, k, **options)


def by_scores(user: int, left_out: set[int], count: int) -> list[int]:
    scores = (VECTORS @ INTERESTS[user].T).max(axis=1)
    order = [int(item) for item in IDS[np.argsort(-scores)] if item not in left_out]
    return order[:count]


def test_lists_are_full_and_right_whatever_is_left_out():
    nearest = [by_scores(user, set(), 2_000) for user in range(5)]
    left_out = [
        [],
        nearest[1][:20],
        nearest[2][:700],  # hides more hits than the first searches find
        nearest[3][500:1500],  # many, and hardly one of them near
        random.permutation(IDS)[:100],
    ]
    retriever = Counting()
    found = search_users(retriever, INTERESTS, 40, left_out)
    for user, items in enumerate(left_out):
        assert found.ids[user].tolist() == by_scores(user, {int(item) for item in items}, 40)
    # three interests a user: users 0 and 1 apart, the others together, one of them once more
    assert retriever.searches == [(3, 40), (3, 72), (9, 168), (3, 1_064)]


def test_a_list_does_not_depend_on_the_others():
    left_out = [set(range(1, length)) for length in (2, 30, 40, 900, 1_500)]
    together = search_users(Counting(), INTERESTS, 30, left_out)
    for user in range(5):
        retriever = Counting()
        alone = search_users(retriever, INTERESTS[user][None], 30, [left_out[user]])
        np.testing.assert_array_equal(alone.ids[0], together.ids[user])
        np.testing.assert_array_equal(alone.interests[0], together.interests[user])
        # a matrix product of other shapes may round otherwise
        np.testing.assert_allclose(alone.scores[0], together.scores[user], rtol=1e-5)


def test_it_ends_at_the_whole_catalogue_and_at_the_limit(monkeypatch):
    everything = search_users(Counting(), INTERESTS[:1], 10, [IDS])
    assert (everything.ids == -1).all()
    assert search_users(Counting(), INTERESTS[:1], 10, [IDS[:-4]]).ids[0].tolist()[4:] == [-1] * 6
    monkeypatch.setattr(candidates, "LARGEST_K", 100)
    retriever = Counting()
    nearest = by_scores(0, set(), 3_000)
    search_users(retriever, INTERESTS[:1], 10, [nearest[:2_000]])
    assert retriever.searches == [(3, 100)]
    assert LARGEST_K == 16_384


def test_the_nearest_items_come_along_left_out_or_not():
    best = by_scores(0, set(), 30)
    retriever = Counting()
    found = find_users(retriever, INTERESTS[:2], 1, [best[:5], []], nearest=3)
    for user in range(2):
        for interest in range(3):
            scores = VECTORS @ INTERESTS[user, interest]
            assert found.nearest[user, interest].tolist() == IDS[np.argsort(-scores)[:3]].tolist()
    assert found.candidates.ids.tolist() == [[best[5]], by_scores(1, set(), 1)]
    assert find_users(retriever, INTERESTS[:2], 1).nearest.shape == (2, 3, 0)


@pytest.mark.parametrize("quota", [1, 4, 14, 40])
def test_a_quota_holds_and_the_list_is_as_full_as_it_can_be(quota):
    alike = INTERESTS[:1] * [[[1], [0], [0]]] + INTERESTS[:1, :1] * [[[0], [1], [1.001]]]
    left_out = [set(by_scores(0, set(), 10))]
    for interests in (INTERESTS[:1], alike.astype(np.float32)):  # all the same interest, too
        found = search_users(Counting(), interests, 40, left_out, quota)
        count = min(40, 3 * quota)
        assert (found.ids[0] > 0).sum() == len(set(found.ids[0, :count].tolist())) == count
        given = np.bincount(found.interests[0, :count], minlength=3)
        assert (given <= quota).all()
        assert (np.diff(found.scores[0, :count]) <= 0).all()


def test_a_quota_that_binds_nobody_changes_nothing():
    plain = search_users(Counting(), INTERESTS, 40)
    limited = search_users(Counting(), INTERESTS, 40, quota=40)
    for one, other in zip(plain, limited, strict=True):
        np.testing.assert_array_equal(one, other)
