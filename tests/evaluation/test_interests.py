# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Interest diagnostics against hand-worked numbers, and ownership against the exact search."""

from __future__ import annotations

import json

import numpy as np
import pytest

from paddlerec_milvus.evaluation import interests as module
from paddlerec_milvus.evaluation.interests import (
    InterestUse,
    cosines,
    dead,
    interest_report,
    joined,
    owners,
    pairwise_cosine,
    repeated,
    shares,
    use_of,
)
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever

# row 0 is padding
ITEMS = np.array([[9, 9], [1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
# the third interest is the first one, twice as long
THREE = np.array([[[1, 0], [0, 1], [2, 0]]], dtype=np.float32)


def ids(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def test_pairwise_cosine_is_the_mean_over_pairs():
    # pairs: (0, 1) 0, (0, 2) 1, (1, 2) 0
    assert pairwise_cosine(cosines(THREE)) == pytest.approx([1 / 3])
    # a right angle and its bisector: 0 and twice 1/sqrt 2
    bisected = np.array([[[1, 0], [0, 3], [1, 1]]], dtype=np.float32)
    assert pairwise_cosine(cosines(bisected)) == pytest.approx([2 / 3 / np.sqrt(2)])


def test_a_zero_vector_has_no_cosine_and_a_single_interest_no_pair():
    zero = np.array([[[1, 0], [0, 0], [1, 1]]], dtype=np.float32)
    assert pairwise_cosine(cosines(zero)) == pytest.approx([1 / np.sqrt(2)])
    assert repeated(cosines(zero)).tolist() == [[False, False, False]]
    assert np.isnan(pairwise_cosine(cosines(THREE[:, :1]))).tolist() == [True]


def test_repeated_is_the_later_one_of_two():
    assert repeated(cosines(THREE)).tolist() == [[False, False, True]]
    # cos 0.1 rad = 0.995, cos 0.2 rad = 0.980: each repeats its neighbour, not the first
    angles = np.array([0.0, 0.1, 0.2])
    fan = np.stack([np.cos(angles), np.sin(angles)], axis=1)[None].astype(np.float32)
    assert repeated(cosines(fan)).tolist() == [[False, True, True]]
    assert repeated(cosines(fan[:, [0, 2]])).tolist() == [[False, False]]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        # (2, 0) has the larger product with items 1 and 3: 2 against 1, 1.2 against 0.8
        ("IP", [2, 1, 2, -1]),
        # by angle it is the first one again, and the earlier of equals owns
        ("COSINE", [0, 1, 1, -1]),
        # squared distances of (0.6, 0.8): 0.8, 0.4, 2.6
        ("L2", [0, 1, 1, -1]),
    ],
)
def test_a_candidate_belongs_to_the_interest_that_scores_it_best(metric, expected):
    assert owners(THREE, ids([1, 2, 3, -1]), ITEMS, metric).tolist() == [expected]


@pytest.mark.parametrize("metric", ["IP", "COSINE", "L2"])
def test_owners_equal_those_of_an_exact_search(metric, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 500)  # several blocks
    rng = np.random.default_rng(4)
    table = rng.normal(size=(201, 8)).astype(np.float32)
    users = rng.normal(size=(30, 5, 8)).astype(np.float32)
    found = search_users(ExactRetriever(table[1:], np.arange(1, 201), metric), users, 12)
    assert (owners(users, found.ids, table, metric) == found.interests).all()
    use = use_of(users, found.ids, table, metric)
    assert use.brought.tolist() == [
        np.bincount(row, minlength=5).tolist() for row in found.interests
    ]


def test_use_of_duplicates_and_short_lists():
    users = np.concatenate([THREE, THREE])
    use = use_of(users, ids([1, 2, 3, -1], [-1, -1, -1, -1]), ITEMS, "COSINE")
    assert use.brought.tolist() == [[1, 2, 0], [0, 0, 0]]
    assert shares(use.brought)[0] == pytest.approx([1 / 3, 2 / 3, 0])
    assert np.isnan(shares(use.brought)[1]).all()
    assert dead(use).tolist() == [[False, False, True], [True, True, True]]


def test_a_repeated_interest_is_dead_even_if_it_brings_something():
    use = use_of(THREE, ids([1, 3]), ITEMS, "IP")
    assert use.brought.tolist() == [[0, 0, 2]]
    assert dead(use).tolist() == [[True, True, True]]


def test_report_of_two_users():
    use = joined(
        [
            InterestUse(np.array([0.2]), np.array([[False] * 3]), ids([6, 4, 0])),
            InterestUse(np.array([0.6]), np.array([[False, True, False]]), ids([1, 9, 0])),
        ]
    )
    report = interest_report(use)
    # p10 of two values: 0.2 + 0.1 x 0.4
    expected = {"mean": 0.4, "p10": 0.24, "p50": 0.4, "p90": 0.56}
    assert report.cosine.model_dump() == pytest.approx(expected)
    assert report.count == 3
    assert report.idle == 1.0  # the third, of both
    assert report.repeated == 0.5
    assert report.dead == 1.5
    assert report.dead_for_all == pytest.approx(1 / 3)
    assert report.share_by_index == pytest.approx([0.35, 0.65, 0])
    assert report.share_by_rank == pytest.approx([0.75, 0.25, 0])


def test_report_of_one_interest_and_of_empty_lists_is_json_without_nan():
    one = use_of(THREE[:, :1], ids([1, 2]), ITEMS, "IP")
    report = interest_report(one)
    assert report.cosine.mean is None
    assert report.cosine.p90 is None
    assert (report.dead, report.dead_for_all) == (0, 0)
    assert report.share_by_index == report.share_by_rank == [1.0]
    nothing = interest_report(use_of(THREE, ids([-1, -1]), ITEMS, "IP"))
    assert nothing.share_by_rank == [None] * 3
    assert (nothing.idle, nothing.dead_for_all) == (3, 1)
    json.dumps([report.model_dump(), nothing.model_dump()], allow_nan=False)
