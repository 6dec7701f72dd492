# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which books stand behind an interest, which ones it brings, and how a user is shown."""

from __future__ import annotations

import numpy as np

from paddlerec_milvus.data.catalogue import ItemDetails
from paddlerec_milvus.demo.example_users import (
    MARK,
    InterestView,
    UserView,
    in_words,
    interest_views,
)

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]
# items 1, 3, 5 lie to the east, 2, 4, 6 to the north; row 0 is padding
VECTORS = np.array([[0, 0], EAST, NORTH, EAST, NORTH, EAST, NORTH], np.float32)
DETAILS = {
    1: ItemDetails("One", "A, B", "1901"),
    2: ItemDetails("Two", "", "-350"),
    3: ItemDetails("Three " * 20, "C", ""),
}


def test_books_belong_to_the_interest_that_scores_them_best():
    interests = np.array([NORTH, EAST], np.float32)
    views = interest_views(
        interests, np.array([1, 2, 3]), np.array([5, 2, 4, 1, 3, -1]), VECTORS, "IP"
    )
    north, east = InterestView([2], [4]), InterestView([3, 1], [5])
    assert views == [north, east]  # of as many books the first interest first


def test_a_reader_in_words():
    views = [InterestView([2, 1], [3, 9]), InterestView([], [4])]
    lines = in_words([UserView(7, [1, 2], frozenset({9}), views, 0.5)], DETAILS).splitlines()
    assert lines == [
        "Reader 7, the last books first:",
        "        2  Two - -350",
        "        1  One - A, B, 1901",
        "  interest 1, from Two, One:",
        f"        3  {('Three ' * 20)[:63]}… - C",
        f"  {MARK}     9  item 9",
        "  interest 2:",
        "        4  item 4",
    ]
