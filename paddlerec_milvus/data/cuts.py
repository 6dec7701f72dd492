# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Where each user's clicks are cut into train clicks, histories and truths, for each split.

A user's clicks are in time order, so each part is a stretch of them: a split is no more than
numbers of clicks for each of U users.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.log import ClickLog, Ints
from paddlerec_milvus.data.split_choice import SplitChoice, iso
from paddlerec_milvus.errors import DataError

Times = npt.NDArray[np.generic]

VALID_SHARE = 0.1  # of the clicks before --test-from, the last ones, where --valid-from is not set
_TRAIN, _VALID, _TEST = range(3)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECONDS = 10**6  # in a second
_TICKS = (1, 10**3, 10**6, 10**9)  # in a second, of the units that times may have
_LATEST = 10**11  # seconds: the year 5138. What is beyond it counts a smaller unit
_EARLIEST_END = 10**8  # seconds: a log that ends before 1973 has an order of clicks, no times


class HeldOutCut(NamedTuple):
    """Of a user's clicks the first ``history`` [U] are its history, those up to ``end`` [U] truths.

    Who has no history or no truth is not held out.
    """

    history: Ints
    end: Ints

    @property
    def rows(self) -> npt.NDArray[np.bool_]:
        """Which users [U] are held out."""
        return (self.history > 0) & (self.end > self.history)

    @property
    def cold_users(self) -> int:
        """How many users have truths and no history to recommend from."""
        return int(((self.history == 0) & (self.end > 0)).sum())

    def held_out(self, log: ClickLog) -> HeldOutUsers:
        """The held-out users of ``log``, in its order."""
        rows = self.rows
        history, end = self.history * rows, self.end * rows
        return HeldOutUsers(
            user_ids=log.user_ids[rows],
            history_indptr=indptr_of(history[rows]),
            history=_stretch(log, np.zeros_like(history), history),
            truth_indptr=indptr_of((end - history)[rows]),
            truths=_stretch(log, history, end),
        )


class Cuts(NamedTuple):
    """A whole split: the first ``train`` [U] clicks of a user train."""

    train: Ints
    valid: HeldOutCut
    test: HeldOutCut

    def train_log(self, log: ClickLog) -> ClickLog:
        """The clicks that train, of users who have any."""
        rows = self.train > 0
        clicks = _stretch(log, np.zeros_like(self.train), self.train)
        return ClickLog(log.user_ids[rows], indptr_of(self.train[rows]), clicks)


def indptr_of(lengths: Ints) -> Ints:
    """[U + 1] int64: where the clicks of each of U users begin, and the end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _stretch(log: ClickLog, start: Ints, end: Ints) -> Ints:
    """The items of each user's clicks from ``start`` [U] to before ``end`` [U]."""
    parts = np.column_stack([start, end - start, log.lengths - end])
    inside = np.repeat(np.tile([False, True, False], len(start)), parts.ravel())
    items: Ints = log.items[inside]
    return items


def first_80_percent(lengths: Ints) -> HeldOutCut:
    """ComiRec's: the first ``int(0.8 n)`` of a user's n clicks as history, the others as truths."""
    return HeldOutCut((lengths * 0.8).astype(np.int64), lengths)


def cuts_by_users(lengths: Ints, seed: int) -> Cuts:
    """Users 8:1:1, those of valid and test by their first 80 per cent; ``lengths`` [U] clicks."""
    part = split_of_rows(len(lengths), seed)
    history, end = first_80_percent(lengths)
    valid, test = (
        HeldOutCut(history * (part == name), end * (part == name)) for name in (_VALID, _TEST)
    )
    return Cuts(lengths * (part == _TRAIN), valid, test)


def split_of_rows(users: int, seed: int) -> npt.NDArray[np.int8]:
    """0 train, 1 valid, 2 test for each of the users [U] in the order of their ids."""
    rows = array("q", range(users))  # a list would be four times the size
    random.Random(seed).shuffle(rows)
    part = np.full(users, _TEST, np.int8)
    part[rows[: int(users * 0.9)]] = _VALID
    part[rows[: int(users * 0.8)]] = _TRAIN
    return part


def cuts_leave_one_out(lengths: Ints) -> Cuts:
    """The last click of each user is the test truth, the one before it the valid truth.

    The clicks before these train, and are the valid history; the valid truth ends the test history.
    ``lengths`` [U] are 3 or more.
    """
    return Cuts(lengths - 2, HeldOutCut(lengths - 2, lengths - 1), HeldOutCut(lengths - 1, lengths))


def cuts_by_time(
    lengths: Ints, times: Times | None, choice: SplitChoice
) -> tuple[Cuts, SplitChoice]:
    """Clicks before ``valid_from`` train; those from there on are valid truths, those from
    ``test_from`` on test truths. A history is all that its user clicked before.

    ``times`` [n] are those of the clicks, user by user in the order of ``lengths`` [U], each at
    least 1: seconds, milli-, micro- or nanoseconds since 1970, told apart by their size.

    Returns:
        the cuts, and ``choice`` with the ``valid_from`` that was used.

    Raises:
        DataError: no times or none that are moments, a moment outside the log, or nobody with
            clicks both before and after one.
    """
    values, _ = with_unit(times)

    def last_tenth(test: int) -> float:
        before = values[values < test]
        place = place_of_last_tenth(len(before))
        return np.partition(before, place)[place].item()  # type: ignore[no-any-return]

    choice, valid, test = moments_of(values, choice, last_tenth)
    starts = np.cumsum(lengths) - lengths
    train, history = (
        np.add.reduceat(values < tick, starts, dtype=np.int64) for tick in (valid, test)
    )
    cuts = Cuts(train, HeldOutCut(train, history), HeldOutCut(history, lengths))
    require_held_out(choice, bool(cuts.valid.rows.any()), bool(cuts.test.rows.any()))
    return cuts, choice


def place_of_last_tenth(clicks: int) -> int:
    """Which of ``clicks`` times, from 0 by rising time, begins the last ``VALID_SHARE``."""
    return int((1 - VALID_SHARE) * clicks)


def moments_of(
    times: Times | None, choice: SplitChoice, last_tenth: Callable[[int], float]
) -> tuple[SplitChoice, int, int]:
    """Where a split by time cuts, of a log whose first and last time are those of ``times``.

    ``last_tenth`` gives the time from which on the last ``VALID_SHARE`` of the clicks before a tick
    lie.

    Returns:
        the choice with every moment, the tick from which on clicks are valid truths, and that of
        test truths.

    Raises:
        DataError: see :func:`cuts_by_time`.
    """
    assert choice.test_from is not None  # of every choice of this kind
    values, ticks = with_unit(times)
    test = tick_of(choice.test_from, ticks)
    _require_both("--test-from", choice.test_from, test, values, ticks)
    valid_from = choice.valid_from or _moment(last_tenth(test), ticks)
    valid = tick_of(valid_from, ticks)
    if choice.valid_from is None and not values.min() < valid:
        raise DataError(
            f"most clicks before --test-from {iso(choice.test_from)} have the log's first time, "
            f"{iso(valid_from)}, so the last tenth of them cannot be taken as valid truths: name "
            "where these begin with --valid-from, or take another --split"
        )
    _require_both("--valid-from", valid_from, valid, values, ticks)
    return SplitChoice(choice.kind, choice.test_from, valid_from), valid, test


def require_held_out(choice: SplitChoice, valid: bool, test: bool) -> None:
    """DataError: a split by time without a valid user, or without a test user."""
    assert choice.test_from is not None
    assert choice.valid_from is not None
    for name, some in (("valid", valid), ("test", test)):
        if not some:
            raise DataError(
                f"--split time: no user has clicks both before the {name} truths and among them, "
                f"with valid from {iso(choice.valid_from)} and test from {iso(choice.test_from)}"
            )


def with_unit(times: Times | None) -> tuple[npt.NDArray[np.int64 | np.float64], int]:
    """The times, and how many of their unit make a second."""
    if times is None:
        raise DataError(
            "the log has no times, only an order of clicks: --split time needs a column of times; "
            "--split leave-one-out and --split users do without"
        )
    values: npt.NDArray[np.int64 | np.float64] = np.asarray(times)
    ticks = next((unit for unit in _TICKS if values.max() < _LATEST * unit), 0)
    if not ticks or values.max() < _EARLIEST_END:
        raise DataError(
            f"--split time: the times of the log, {values.min()} to {values.max()}, are no moments "
            "but an order; expected seconds or milliseconds since 1970, or dates"
        )
    return values, ticks


def tick_of(moment: datetime, ticks: int) -> int:
    """Of ``ticks`` a second since 1970 the first that is not before ``moment``."""
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    return -((-microseconds * ticks) // _MICROSECONDS)


def _moment(tick: float, ticks: int) -> datetime:
    return _EPOCH + timedelta(microseconds=int(tick) * _MICROSECONDS // ticks)


def _require_both(
    option: str,
    moment: datetime,
    tick: int,
    times: npt.NDArray[np.int64 | np.float64],
    ticks: int,
) -> None:
    """DataError unless there are clicks on both sides of ``moment``, which is ``tick``."""
    if times.min() < tick <= times.max():
        return
    first, last = (iso(_moment(time.item(), ticks)) for time in (times.min(), times.max()))
    side = "later" if times.min() < tick else "earlier"
    raise DataError(
        f"{option} {iso(moment)}: no click is {side}; the log's clicks are from {first} to {last}"
    )
