# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Filter, numbering and split, by hand and as properties."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlerec_milvus.data.cuts import split_of_rows
from paddlerec_milvus.data.dataset import Dataset
from paddlerec_milvus.data.raw_log import RawLog, raw_log
from paddlerec_milvus.data.split import (
    already_filtered,
    frequent,
    popularity_numbers,
    split_log,
)
from paddlerec_milvus.errors import DataError, SettingsError


def log_of(sequences: dict[int, list[int]] | dict[str, list[str]]) -> RawLog:
    users = [user for user, clicks in sequences.items() for _ in clicks]
    items = [item for clicks in sequences.values() for item in clicks]
    return raw_log(pl.Series(users), pl.Series(items), np.arange(len(users)))


def sequences_of(dataset: Dataset) -> dict[int, list[int]]:
    """All users' clicks in source ids, whatever the split."""
    source = dict(zip(dataset.items["item"], dataset.items["source_id"].cast(int), strict=True))
    found = {}
    train = np.split(dataset.train.items, dataset.train.indptr[1:-1])
    for user, items in zip(dataset.train.user_ids.tolist(), train, strict=True):
        found[user] = [source[item] for item in items.tolist()]
    for part in (dataset.valid, dataset.test):
        pairs = zip(part.history_list(), part.truth_list(), strict=True)
        for user, (history, truths) in zip(part.user_ids.tolist(), pairs, strict=True):
            assert len(history) == int(len([*history, *truths]) * 0.8)
            found[user] = [source[item] for item in [*history.tolist(), *truths.tolist()]]
    return found


def test_items_go_first_then_users_and_only_once() -> None:
    # min_count 2. Item 9 has one click: dropped; that leaves user 2 with one click: dropped; that
    # leaves item 5 with one click, which a second pass over items would drop and this one keeps.
    users = np.array([0, 0, 1, 1, 1, 2, 2])
    items = np.array([1, 5, 1, 1, 1, 5, 9])
    assert frequent(users, items, 2).tolist() == [True, True, True, True, True, False, False]


def test_numbers_fall_with_popularity_and_ties_keep_the_source_order() -> None:
    # clicks: row 0 once, row 1 three times, row 2 never, row 3 once
    clicks = np.array([1, 3, 1, 0, 1])
    number, rows = popularity_numbers(clicks, 4, clicks)
    assert rows.tolist() == [1, 0, 3]
    assert number.tolist() == [2, 1, 0, 3]
    # of these the last two count: row 0 once, row 1 once, row 3 never, which comes last
    assert popularity_numbers(clicks, 4, clicks[3:])[1].tolist() == [0, 1, 3]


def test_ties_of_string_ids_are_lexicographic_and_of_integers_numeric() -> None:
    strings = split_log(log_of({f"u{u}": ["10", "9", "b"] for u in range(10)}), min_count=2)
    assert strings.items["source_id"].to_list() == ["10", "9", "b"]
    integers = split_log(log_of({u: [10, 9, 700] for u in range(10)}), min_count=2)
    assert integers.items["source_id"].to_list() == ["9", "10", "700"]


@pytest.mark.parametrize("seed", [0, 1230])
def test_the_split_is_the_documented_shuffle(seed: int) -> None:
    ids = list(range(137))
    random.Random(seed).shuffle(ids)
    part = split_of_rows(137, seed)
    # int(0.8 * 137) = 109, int(0.9 * 137) = 123
    assert np.flatnonzero(part == 0).tolist() == sorted(ids[:109])
    assert np.flatnonzero(part == 1).tolist() == sorted(ids[109:123])
    assert np.flatnonzero(part == 2).tolist() == sorted(ids[123:])


def test_string_users_are_numbered_in_the_order_of_their_names() -> None:
    names = [f"u{n}" for n in range(12)]
    dataset = split_log(log_of({name: ["a", "b", "c"] for name in names}), min_count=2)
    assert dataset.users is not None
    assert dataset.users["source_id"].to_list() == sorted(names)
    assert dataset.users["uid"].to_list() == list(range(12))


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.integers(-50, 1000), st.lists(st.integers(1, 12), max_size=14), min_size=12, max_size=60
    ),
    st.integers(2, 4),
    st.integers(0, 9),
)
def test_the_parts_together_are_the_filtered_log(
    sequences: dict[int, list[int]], min_count: int, seed: int
) -> None:
    log = log_of(sequences)
    if already_filtered(log, min_count):
        return
    counts = np.bincount([i for clicks in sequences.values() for i in clicks], minlength=13)
    filtered = {u: [i for i in clicks if counts[i] >= min_count] for u, clicks in sequences.items()}
    expected = {u: clicks for u, clicks in filtered.items() if len(clicks) >= min_count}
    if len(expected) < 6:
        with pytest.raises(DataError, match="users are left"):
            split_log(log, seed, min_count)
        return
    dataset = split_log(log, seed, min_count)
    assert sequences_of(dataset) == expected
    clicks = [i for row in expected.values() for i in row]
    popularity = [clicks.count(int(source)) for source in dataset.items["source_id"]]
    assert all(left >= right for left, right in pairwise(popularity))
    assert dataset.items["item"].to_list() == list(range(1, len(set(clicks)) + 1))


def test_filtering_an_output_changes_nothing() -> None:
    # 2,000 items: item 2,000 keeps 4 clicks, as one pass may leave it
    sequences = {user: list(range(1, 2001)) for user in range(4)} | {
        user: list(range(1, 2000)) for user in range(4, 10)
    }
    log = log_of(sequences)
    dataset = split_log(log, min_count=5)
    assert dataset.notes["already_filtered"] is True
    assert dataset.items["source_id"].to_list() == [str(n) for n in range(1, 2001)]
    assert sequences_of(dataset) == sequences


def test_a_raw_log_that_happens_to_be_numbered_is_filtered() -> None:
    # items 1 … 3 by falling popularity, all users long enough, but a third of the items is rare
    sequences = {user: [1, 2, 1, 2, 1] for user in range(9)} | {9: [1, 2, 1, 2, 1, 3]}
    dataset = split_log(log_of(sequences))
    assert dataset.items["source_id"].to_list() == ["1", "2"]
    assert dataset.notes["dropped_clicks"] == 1


def test_one_user_and_short_users_are_too_few() -> None:
    with pytest.raises(DataError, match=r"1 of 1 users are left .* needs 6 or more"):
        split_log(log_of({1: [1, 1, 1, 1, 1]}))
    with pytest.raises(DataError, match="0 of 20 users are left"):
        split_log(log_of({user: [1, 2, 3, 4] for user in range(20)}))
    with pytest.raises(SettingsError, match="--min-count is 1"):
        split_log(log_of({1: [1]}), min_count=1)


def test_users_below_the_limit_are_dropped_and_counted() -> None:
    sequences = {user: [1, 2, 3, 1, 2] for user in range(10)} | {99: [1, 2, 3, 1]}
    dataset = split_log(log_of(sequences))
    assert 99 not in sequences_of(dataset)
    assert dataset.notes["dropped_users"] == 1
    assert dataset.notes["dropped_clicks"] == 4
