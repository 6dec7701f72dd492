# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Of which ranked items it is asked whether they are stored: few, and enough."""

from __future__ import annotations

import numpy as np
import pytest

from paddlerec_milvus.ranking.channels import CHANNELS
from paddlerec_milvus.ranking.ranking_model import RankedCandidates
from paddlerec_milvus.serving.ranked_lists import RankedByRow, doubtful_items

TOP_K = 5


def best(items: list[int], searched: set[int]) -> RankedCandidates:
    """``items``, of which a search has just seen ``searched``."""
    ranks = np.zeros((len(items), len(CHANNELS)), np.int64)
    ranks[:, 0] = [item in searched for item in items]
    scores = -np.arange(len(items), dtype=np.float32)
    return RankedCandidates(np.array(items), scores, ranks, None, lambda *_: pytest.fail("unused"))


def questions(
    ranked: RankedByRow, deleted: set[int], hidden: frozenset[int] = frozenset()
) -> list[set[int]]:
    """What is asked, one time after the other, until nothing is left to ask."""
    checked, gone, asked = set[int](), set[int](), []
    while items := doubtful_items(ranked, TOP_K, checked, gone, hidden):
        asked.append(items)
        checked |= items
        gone |= items & deleted
    return asked


def test_of_what_is_shown_alone_where_all_is_stored() -> None:
    ranked = {0: best(list(range(1, 101)), {2, 3}), 3: best(list(range(50, 101)), {50})}
    assert questions(ranked, set()) == [{1, 4, 5, 51, 52, 53, 54}]
    assert questions({0: best([1, 2, 3], {1, 2, 3})}, set()) == []


@pytest.mark.parametrize("deleted", [{1}, {1, 2, 3, 4, 5, 6}, set(range(1, 100)), {*range(1, 101)}])
def test_what_a_list_then_shows_was_checked_though_many_are_gone(deleted: set[int]) -> None:
    asked = questions({0: best(list(range(1, 101)), set())}, deleted)
    shown = [item for item in range(1, 101) if item not in deleted][:TOP_K]
    assert set(shown) <= set().union(*asked)
    assert len(asked) <= 4
    assert sum(map(len, asked)) == len(set().union(*asked))  # of none twice


def test_where_some_are_known_to_be_hidden_one_question_is_enough() -> None:
    ranked = {0: best(list(range(1, 51)), set())}
    assert questions(ranked, {2, 3}, frozenset({2, 3, 70})) == [{1, 2, 3, 4, 5, 6, 7}]
    assert questions(ranked, {2}, frozenset({2, 3})) == [{1, 2, 3, 4, 5, 6, 7}]  # 3 is back


def test_of_a_list_that_is_known_nothing_further_is_asked() -> None:
    ranked = {0: best(list(range(1, 51)), set()), 1: best(list(range(101, 151)), set())}
    first, second = questions(ranked, {1})
    assert first == {*range(1, 6), *range(101, 106)}
    assert second == set(range(6, 11))
