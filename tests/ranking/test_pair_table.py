# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Pair tables against dense sums: what goes with the clicks of a history, some clicked twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from paddlerec_milvus.ranking.pair_table import GAMMA, PairHits, PairTable

ITEMS = 8
CLICKS = st.lists(st.integers(0, ITEMS + 2), max_size=6)  # 0, 8, 9 and 10 are no items


def dense(seed: int) -> NDArray[np.float32]:
    """Weights of a few values, so that some are equal; row 0, and a row of an item, are empty."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 5, (ITEMS, ITEMS)) * (rng.random((ITEMS, ITEMS)) < 0.4) / 4
    weights[[0, 3]] = 0
    weights[:, 0] = 0
    return weights.astype(np.float32)


def slow_hits(weights: NDArray[np.float32], clicks: list[int]) -> PairHits:
    known = {age: click for age, click in enumerate(clicks) if 0 < click < ITEMS}
    rows = []
    for item in range(ITEMS):
        of_ages = {age: float(weights[click, item]) for age, click in known.items()}
        of_ages = {age: weight for age, weight in of_ages.items() if weight > 0}
        if of_ages:
            faded = {age: weight * GAMMA**age for age, weight in of_ages.items()}
            total, largest = sum(faded.values()), max(of_ages.values())
            rows.append((item, total, largest, of_ages.get(0, 0), len(of_ages)))
    return PairHits(*np.array(rows).reshape(-1, 5).T)


def slow_strongest(weights: NDArray[np.float32], clicks: list[int], item: int) -> int:
    """The age of the click that adds most to ``item``; as many as there are where none does."""
    known = {age: click for age, click in enumerate(clicks) if 0 < click < ITEMS}
    faded = {age: float(weights[click, item]) * GAMMA**age for age, click in known.items()}
    most = max(faded.values(), default=0)
    return next(a for a in faded if faded[a] == pytest.approx(most)) if most else len(clicks)


@given(st.integers(0, 50), CLICKS)
def test_hits_are_those_of_dense_sums(seed: int, clicks: list[int]) -> None:
    weights = dense(seed)
    table = PairTable.of(sparse.csr_matrix(weights), ITEMS)
    hits = table.hits(np.array(clicks, np.int64))
    for part, expected in zip(hits, slow_hits(weights, clicks), strict=True):
        assert part == pytest.approx(expected, rel=1e-5)
    assert [part.dtype.kind for part in hits] == list("ifffi")
    items = np.array([6, 2, 5, 4])
    expected_ages = [slow_strongest(weights, clicks, item) for item in items]
    assert table.strongest(np.array(clicks, np.int64), items).tolist() == expected_ages


def test_of_equal_shares_the_newest_click_is_followed() -> None:
    weights = np.zeros((ITEMS, ITEMS), np.float32)
    weights[2, 5] = 1.0
    table = PairTable.of(sparse.csr_matrix(weights), ITEMS)
    hits = table.hits(np.array([4, 2, 2]))
    # 2 was clicked at the ages 1 and 2: 0.8 + 0.64
    assert hits.total == pytest.approx([1.44])
    assert (hits.largest, hits.newest, hits.clicks) == ([1], [0], [2])
    assert table.strongest(np.array([4, 2, 2]), np.array([3, 5])).tolist() == [3, 1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [1, 3])
def test_a_row_keeps_its_largest_weights_by_rising_id(seed: int, most: int) -> None:
    weights = dense(seed)
    table = PairTable.of(sparse.csr_matrix(weights), most)
    for row in range(ITEMS):
        place = slice(table.indptr[row], table.indptr[row + 1])
        # of equal weights those of small ids
        best = np.argsort(-weights[row], kind="stable")[:most]
        expected = sorted(best[weights[row, best] > 0])
        assert table.items[place].tolist() == expected
        assert table.weights[place].tolist() == weights[row, expected].tolist()


def test_a_weight_that_is_stored_and_not_above_0_is_no_pair() -> None:
    weights = sparse.csr_matrix(([0.0, -1.0, 2.0], ([1, 1, 1], [1, 2, 3])), shape=(5, 5))
    assert PairTable.of(weights, 5).items.tolist() == [3]


def test_nothing_goes_with_no_clicks_and_nothing_is_in_an_empty_table() -> None:
    full = PairTable.of(sparse.csr_matrix(dense(1)), ITEMS)
    empty = PairTable.of(sparse.csr_matrix((ITEMS, ITEMS), dtype=np.float32), ITEMS)
    for table, clicks in ((full, []), (full, [0, 3, ITEMS, 99]), (empty, [1, 2])):
        assert [len(part) for part in table.hits(np.array(clicks, np.int64))] == [0] * 5
