# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Leave-one-out and the split by time: by hand, against brute force, and what they refuse."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from paddlerec_milvus.data.cuts import first_80_percent
from paddlerec_milvus.data.dataset import Dataset
from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.data.raw_log import RawLog, raw_log
from paddlerec_milvus.data.split import split_log
from paddlerec_milvus.data.split_choice import LEAVE_ONE_OUT, TIME, SplitChoice
from paddlerec_milvus.errors import DataError, SettingsError

BEGIN = datetime(2014, 6, 1, tzinfo=timezone.utc)
DAY = 86_400


def at(day: float) -> datetime:
    return BEGIN + timedelta(days=day)


def log_of(clicks: list[tuple[int, int, float]], ticks: int = 1) -> RawLog:
    """Clicks of (user, item, day after BEGIN), times in ``ticks`` a second."""
    users, items, days = zip(*clicks, strict=True)
    times = [int(BEGIN.timestamp() + day * DAY) * ticks for day in days]
    return raw_log(pl.Series(users), pl.Series(items), np.array(times))


def by_time(test: float, valid: float | None = None) -> SplitChoice:
    return SplitChoice(TIME, at(test), None if valid is None else at(valid))


def in_source_ids(dataset: Dataset) -> tuple[dict[int, list[int]], ...]:
    """Train clicks of each user, then (history, truths) of valid and of test users."""
    source = [0, *map(int, dataset.items["source_id"])]
    log = dataset.train
    train = np.split(log.items, log.indptr[1:-1])

    def held_out(users: HeldOutUsers) -> dict[int, list[int]]:
        pairs = zip(users.history_list(), users.truth_list(), strict=True)
        parts = [[source[i] for i in h] + [0] + [source[i] for i in t] for h, t in pairs]
        return dict(zip(users.user_ids.tolist(), parts, strict=True))

    clicked = [[source[i] for i in items] for items in train]
    return (
        dict(zip(log.user_ids.tolist(), clicked, strict=True)),
        held_out(dataset.valid),
        held_out(dataset.test),
    )


def test_leave_one_out_by_hand() -> None:
    clicks = [(u, i, i) for u in (1, 2) for i in (5, 6, 7, 8)] + [(3, 5, 1), (3, 6, 2), (3, 8, 3)]
    dataset = split_log(log_of(clicks), min_count=3, choice=SplitChoice(LEAVE_ONE_OUT))
    # item 7 has two clicks: dropped
    train, valid, test = in_source_ids(dataset)
    assert train == {1: [5], 2: [5], 3: [5]}
    assert valid == {u: [5, 0, 6] for u in (1, 2, 3)}
    assert test == {u: [5, 6, 0, 8] for u in (1, 2, 3)}
    assert dataset.split == {"kind": "leave-one-out"}
    assert (dataset.notes["users"], dataset.notes["clicks"]) == (3, 9)


def test_numbers_of_leave_one_out_do_not_tell_the_truths() -> None:
    clicks = [(u, item, place) for u in (1, 2, 3) for place, item in enumerate((5, 6, 9))]
    clicks += [(4, item, place) for place, item in enumerate((5, 9, 9))]
    dataset = split_log(log_of(clicks), min_count=3, choice=SplitChoice(LEAVE_ONE_OUT))
    assert dataset.items["source_id"].to_list() == ["5", "6", "9"]  # 9 has most, all of them truths


def test_by_time_by_hand() -> None:
    clicks = [
        *((1, item, day) for item, day in ((3, 0), (4, 1), (3, 5), (4, 9))),
        *((2, item, day) for item, day in ((3, 0.5), (3, 10))),  # no valid truth
        *((3, item, day) for item, day in ((9, 4), (4, 6))),  # no click before valid: new there
        *((4, item, day) for item, day in ((4, 8), (9, 9))),  # no click before test: new
    ]
    dataset = split_log(log_of(clicks), min_count=2, choice=by_time(test=8, valid=4))
    train, valid, test = in_source_ids(dataset)
    assert train == {1: [3, 4], 2: [3]}
    assert valid == {1: [3, 4, 0, 3]}
    assert test == {1: [3, 4, 3, 0, 4], 2: [3, 0, 3]}
    assert (dataset.notes["valid_cold_users"], dataset.notes["test_cold_users"]) == (1, 1)
    assert (dataset.notes["users"], dataset.notes["clicks"]) == (4, 10)
    # numbers fall with the clicks before valid: 3 has two, 4 one, 9 none, though 4 has most in all
    assert dataset.items["source_id"].to_list() == ["3", "4", "9"]
    assert dataset.split == {
        "kind": "time",
        "test_from": "2014-06-09T00:00:00Z",
        "valid_from": "2014-06-05T00:00:00Z",
    }


@pytest.mark.parametrize("ticks", [1, 10**3, 10**6, 10**9])
def test_a_unit_of_time_is_told_by_its_size(ticks: int) -> None:
    clicks = [(user, 1 + day % 3, day) for user in range(4) for day in range(10)]
    seconds = split_log(log_of(clicks), min_count=2, choice=by_time(test=7, valid=5))
    scaled = split_log(log_of(clicks, ticks), min_count=2, choice=by_time(test=7, valid=5))
    assert in_source_ids(scaled) == in_source_ids(seconds)
    # 4 x 7 clicks before: the last tenth are those from place 25 on, of the last of these days
    chosen = split_log(log_of(clicks, ticks), min_count=2, choice=by_time(test=7))
    assert chosen.split["valid_from"] == "2014-06-07T00:00:00Z"
    assert len(chosen.valid.truths) == 4


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 6), st.integers(0, 12)),
        min_size=12,
        max_size=60,
    ),
    st.integers(2, 7),
    st.integers(1, 4),
)
def test_by_time_against_brute_force(
    log: list[tuple[int, int, int]], valid_from: int, more: int
) -> None:
    test_from = valid_from + more
    counts = np.bincount([item for _, item, _ in log])
    clicks = sorted((c for c in log if counts[c[1]] >= 2), key=lambda c: (c[0], c[2]))
    clicks = [c for c in clicks if sum(o[0] == c[0] for o in clicks) >= 2]
    of_user = {u: [(i, d) for v, i, d in clicks if v == u] for u, _, _ in clicks}
    expected: list[dict[int, list[int]]] = []
    for before, until in ((valid_from, test_from), (test_from, 99)):
        parts = {}
        for user, own in of_user.items():
            history = [i for i, d in own if d < before]
            truths = [i for i, d in own if before <= d < until]
            if history and truths:
                parts[user] = [*history, 0, *truths]
        expected.append(parts)
    assume(all(expected))
    early = {u: [i for i, d in own if d < valid_from] for u, own in of_user.items()}
    train = {user: items for user, items in early.items() if items}
    dataset = split_log(log_of(log), min_count=2, choice=by_time(test_from, valid_from))
    assert in_source_ids(dataset) == (train, *expected)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (by_time(30), "--test-from 2014-07-01T00:00:00Z: no click is later; the log's"),
        (by_time(0), "--test-from 2014-06-01T00:00:00Z: no click is earlier; the log's clicks are "
         "from 2014-06-01T00:00:00Z to 2014-06-10T00:00:00Z"),
        (by_time(7, -3), "--valid-from 2014-05-29T00:00:00Z: no click is earlier"),
        (by_time(1), "have the log's first time, 2014-06-01T00:00:00Z, so the last tenth"),
        (by_time(7, 6.5), "no user has clicks both before the valid truths and among them"),
    ],
)  # fmt: skip
def test_moments_that_split_nothing_are_said(choice: SplitChoice, said: str) -> None:
    log = log_of([(user, 1 + day % 3, day) for user in range(4) for day in range(10)])
    with pytest.raises(DataError) as raised:
        split_log(log, min_count=2, choice=choice)
    assert said in str(raised.value)


def test_a_log_without_moments_cannot_be_split_by_time() -> None:
    log = raw_log(pl.Series([1, 1, 2, 2]), pl.Series([3, 4, 3, 4]), np.array([0, 1, 0, 1]))
    with pytest.raises(DataError, match="0 to 1, are no moments but an order"):
        split_log(log, min_count=2, choice=by_time(1))
    ordered = RawLog(log.users, log.items, log.user_ids, log.item_ids)
    with pytest.raises(DataError, match="only an order of clicks: --split time needs a column"):
        split_log(ordered, min_count=2, choice=by_time(1))


def test_leave_one_out_needs_three_clicks_and_a_user() -> None:
    log = log_of([(1, 2, 0), (1, 3, 1)])
    with pytest.raises(SettingsError, match="--min-count is 2; expected 3 or more: with --split"):
        split_log(log, min_count=2, choice=SplitChoice(LEAVE_ONE_OUT))
    with pytest.raises(DataError, match=r"0 of 1 users are left .* needs 1 or more"):
        split_log(log, min_count=3, choice=SplitChoice(LEAVE_ONE_OUT))


def test_who_has_no_history_or_no_truth_is_not_held_out() -> None:
    log = ClickLog(np.array([4, 7, 9]), np.array([0, 1, 3, 8]), np.arange(1, 9))
    users = first_80_percent(log.lengths).held_out(log)
    assert users.user_ids.tolist() == [7, 9]
    assert [h.tolist() for h in users.history_list()] == [[2], [4, 5, 6, 7]]
    assert [t.tolist() for t in users.truth_list()] == [[3], [8]]
