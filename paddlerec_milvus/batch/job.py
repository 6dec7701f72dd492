# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The lists of a share, part by part: what is there already is passed over."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Protocol

import polars as pl
from tqdm import tqdm

from paddlerec_milvus.batch.histories import UserClicks
from paddlerec_milvus.batch.lists import BATCH, BatchUsers, UserLists
from paddlerec_milvus.errors import UserError

logger = logging.getLogger(__name__)

Part = slice  # of the rows of UserClicks


class ListSink(Protocol):
    """Where lists go; a part that is written once is there, whatever comes after."""

    def missing(self, parts: Sequence[pl.Series]) -> list[int]:
        """The numbers of those ``parts``, each a column of users, that are not there."""
        ...

    def write(self, number: int, users: pl.Series, rows: pl.DataFrame) -> None:
        """Write the part ``number``: the ``rows`` of ``users``."""
        ...


def parts_of(clicks: UserClicks, size: int) -> list[Part]:
    """The rows of ``size`` users after the other; always the same ones."""
    count = len(clicks.users)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def make_lists(lists: UserLists, clicks: UserClicks, sink: ListSink, size: int) -> int:
    """Write the rows of all users in ``clicks`` that are not in ``sink``; returns how many.

    UserError, or KeyboardInterrupt: what is written stays, and says how much that is.
    """
    parts = parts_of(clicks, size)
    numbers = sink.missing([clicks.users[part] for part in parts])
    waiting = sum(parts[number].stop - parts[number].start for number in numbers)
    done = len(parts) - len(numbers)
    if done:
        logger.info("%d of %d parts are there", done, len(parts))
    progress, written = _Progress(waiting, len(parts)), 0
    batches = (batch for number in numbers for batch in _batches(clicks, parts[number]))
    try:
        with progress.bar, closing(lists.rows(batches)) as frames:
            for number in numbers:
                part = parts[number]
                count = len(range(part.start, part.stop, BATCH))
                rows = pl.concat(progress.counted(islice(frames, count)))
                sink.write(number, clicks.users[part], rows)
                done, written = done + 1, written + rows.height
                progress.tell(done)
    except UserError as error:
        raise type(error)(f"{str(error).rstrip('.')}. {_whole(done, len(parts))}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted. {_whole(done, len(parts))}") from None
    return written


def _batches(clicks: UserClicks, part: Part) -> Iterator[BatchUsers]:
    """A part's users; none of them goes together with one of another part."""
    for start in range(part.start, part.stop, BATCH):
        rows = slice(start, min(start + BATCH, part.stop))
        histories = [clicks.history(row) for row in range(rows.start, rows.stop)]
        yield BatchUsers(clicks.users[rows].to_list(), histories, clicks.profiles[rows])


def _whole(done: int, parts: int) -> str:
    return f"{done:,} of {parts:,} parts are written and stay: the same command goes on"


class _Progress:
    """A bar with users/s and the time left; lines of log where there is no terminal."""

    def __init__(self, users: int, parts: int) -> None:
        self.bar: Any = tqdm(total=users, desc="lists", unit="user", unit_scale=True, disable=None)
        self._users, self._parts, self._made = users, parts, 0
        self._began = time.perf_counter()

    def counted(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        for frame in frames:
            self._made += frame.height
            self.bar.update(frame.height)
            yield frame

    def tell(self, done: int) -> None:
        """After a part, of which ``done`` are there."""
        if not self.bar.disable:
            return
        rate = self._made / max(time.perf_counter() - self._began, 1e-9)
        left = (self._users - self._made) / max(rate, 1e-9)
        logger.info("%d of %d parts, %.0f users/s, %.0f s left", done, self._parts, rate, left)
