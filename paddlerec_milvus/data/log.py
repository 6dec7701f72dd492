# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Click logs: ``uid,item,time`` lines, no header, strict integers, item ids from 1 (0 is padding).

This is the one reader of the contract's logs: a fast pass for a clean file, and a slow one that
finds the first bad line of any other. The slow pass defines what is accepted.
"""

from __future__ import annotations

import io
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.data.files import HashedFile, expand, read_bytes
from paddlerec_milvus.errors import DataError

Ints = npt.NDArray[np.int64]

_COLUMNS = ("uid", "item", "time")
_LINE = re.compile(rb"\s*([+-]?\d+)\s*,\s*([+-]?\d+)\s*,\s*([+-]?\d+)\s*")
_INT64 = np.iinfo(np.int64)
_USERS_PER_BLOCK = 65_536


@dataclass(frozen=True)
class ClickLog:
    """Clicks grouped by user. U users, n clicks; all arrays int64.

    ``items[indptr[u]:indptr[u + 1]]`` are the clicks of user row u in time order; clicks of the
    same time keep the order of the file.
    """

    user_ids: Ints  # [U], ascending
    indptr: Ints  # [U + 1]
    items: Ints  # [n], ids from 1

    @property
    def lengths(self) -> Ints:
        """Clicks of each user, [U] int64."""
        return np.diff(self.indptr)


def group_clicks(users: Ints, items: Ints, times: npt.NDArray[np.generic]) -> ClickLog:
    """Sort clicks by user, then time, keeping the given order on ties. All arrays [n]."""
    if not _is_sorted(users, times):
        order = np.lexsort((times, users))
        users, items = users[order], items[order]
    starts = np.flatnonzero(np.diff(users, prepend=users[:1] - 1)) if len(users) else users
    indptr = np.append(starts, len(users)).astype(np.int64)
    return ClickLog(users[starts], indptr, items)


def _is_sorted(users: Ints, times: npt.NDArray[np.generic]) -> bool:
    same = users[1:] == users[:-1]
    return bool(np.all((users[1:] > users[:-1]) | (same & (times[1:] >= times[:-1]))))  # type: ignore[operator]


def read_click_log(paths: Path | Sequence[Path]) -> ClickLog:
    """Read log files, or folders of them, as one log.

    Plain and gz files, CRLF, a UTF-8 byte order mark and blank lines at the very end are fine.

    Raises:
        DataError: a file is missing, a line is not three integers, an item id is below 1, or
            there is no click at all. The message gives file and line.
    """
    files = expand(paths if isinstance(paths, Path | str) else list(paths))
    parts = [parse_clicks(read_bytes(file), str(file)) for file in files]
    users, items, times = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(users):
        names = ", ".join(map(str, files))
        raise DataError(f"{names}: no clicks (empty); expected uid,item,time lines")
    return group_clicks(users, items, times)


def parse_clicks(content: bytes, name: str) -> tuple[Ints, Ints, Ints]:
    """``uid,item,time`` lines as three arrays [n] in file order; ``name`` is for messages."""
    if content.endswith((b"\n\n", b"\n\r\n")):
        content = content.rstrip(b"\r\n")
    columns = _parse_fast(content)
    return columns if columns is not None else _parse_slow(content, name)


def _parse_fast(content: bytes) -> tuple[Ints, Ints, Ints] | None:
    """The columns of a clean file, None for one that the slow pass must judge."""
    if not content:
        empty = np.empty(0, np.int64)
        return empty, empty, empty
    try:
        frame = pl.read_csv(
            content, has_header=False, schema=dict.fromkeys(_COLUMNS, pl.Int64), quote_char=None
        )
    except pl.exceptions.PolarsError:
        return None
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    if frame.height != lines or any(frame.null_count().row(0)):
        return None
    users, items, times = (frame[column].to_numpy() for column in _COLUMNS)
    return None if items.min(initial=1) < 1 else (users, items, times)


def _parse_slow(content: bytes, name: str) -> tuple[Ints, Ints, Ints]:
    columns = (array("q"), array("q"), array("q"))
    for number, line in enumerate(io.BytesIO(content), 1):
        match = _LINE.fullmatch(line)
        values = [int(group) for group in match.groups()] if match else []
        if not values or not all(_INT64.min <= value <= _INT64.max for value in values):
            raise DataError(_not_a_click(name, number, line))
        if values[1] < 1:
            raise DataError(
                f"{name}, line {number}: item id {values[1]}; item ids start at 1 (0 is padding): "
                "renumber the log with prepare.py --interactions"
            )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    users, items, times = (np.array(column, dtype=np.int64) for column in columns)
    return users, items, times


def _not_a_click(name: str, number: int, line: bytes) -> str:
    text = line.decode("utf-8", "replace").strip("\r\n")
    shown = f"'{text[:60]}'" if text.strip() else "a blank line"
    hint = ""
    if number == 1 and text.strip():
        hint = " (a header? remove it, or run prepare.py --interactions)"
    return f"{name}, line {number}: found {shown}, expected uid,item,time as integers{hint}"


def write_clicks(file: HashedFile, log: ClickLog) -> None:
    """Write ``uid,item,order`` lines; order counts a user's clicks from 0."""
    for first in range(0, len(log.user_ids), _USERS_PER_BLOCK):
        rows = slice(first, first + _USERS_PER_BLOCK)
        lengths, starts = log.lengths[rows], log.indptr[:-1][rows]
        clicks = np.arange(starts[0], starts[0] + lengths.sum())
        frame = pl.DataFrame(
            {
                "uid": np.repeat(log.user_ids[rows], lengths),
                "item": log.items[clicks],
                "order": clicks - np.repeat(starts, lengths),
            }
        )
        file.write(frame.write_csv(include_header=False).encode())
