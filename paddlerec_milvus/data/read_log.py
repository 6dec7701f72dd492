# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Other people's logs, streamed: formats are recognised, and what was taken as what is said."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from paddlerec_milvus.data.log_bytes import log_files
from paddlerec_milvus.data.log_filters import ClickFilter, filtered
from paddlerec_milvus.data.log_ids import IdColumn
from paddlerec_milvus.data.log_options import LogOptions
from paddlerec_milvus.data.log_table import JSON_LINES, LogTable, open_table
from paddlerec_milvus.data.log_times import TimeColumn
from paddlerec_milvus.data.raw_log import RawLog, sorted_log
from paddlerec_milvus.errors import DataError

__all__ = ["JSON_LINES", "read_interactions", "read_tables"]
logger = logging.getLogger(__name__)

_LINES_BETWEEN_WORDS = 10_000_000
_Parsed = tuple[list[tuple[IdColumn | TimeColumn, pl.Series]], pl.Series | None]


def read_interactions(
    path: Path, string_ids: bool = False, options: LogOptions | None = None
) -> RawLog:
    """Read a log, a file or a folder of parts, of any of the formats.

    Columns go by ``options``, else by known names of a header, else by what stands in them. Integer
    ids are told from strings by their content; ``string_ids`` takes all ids as strings. Of a
    large log no more than its ids and times are in memory, as numbers.

    Raises:
        DataError: a line that does not fit, with its number; an integer item id below 1.
        SettingsError: an option that does not fit the log.
    """
    options = options or LogOptions()
    tables = [open_table(file, options) for file in log_files(path)]
    require_same_shape(tables)
    return read_tables(tables, path, string_ids, options)


def read_tables(
    tables: Sequence[LogTable], path: Path, string_ids: bool, options: LogOptions
) -> RawLog:
    """The log that lies in ``tables``, parts of one shape, which words call ``path``.

    Errors are those of :func:`read_interactions`.
    """
    say_columns(tables[0], path.name)
    log, dropped, warnings, time_words = _read(tables, string_ids, options)
    logger.info("%s: time: %s", path.name, time_words)
    log, more = filtered(log, options)
    say_losses(path.name, dropped | more, warnings)
    if not len(log.users):
        raise DataError(nothing_left(path))
    return dataclasses.replace(log, notes=notes_of(tables[0], time_words, dropped | more, warnings))


def say_columns(table: LogTable, name: str) -> None:
    """Log what the columns of a log are taken as."""
    for fact in (table.words(), *_products(table)):
        logger.info("%s: %s", name, fact)


def say_losses(name: str, dropped: Mapping[str, int], warnings: Sequence[str]) -> None:
    """Log the clicks that were dropped, by reason, and what is doubtful."""
    for reason, clicks in dropped.items():
        logger.info("%s: dropped %s clicks %s", name, f"{clicks:,}", reason)
    for warning in warnings:
        logger.warning("warning: %s: %s", name, warning)


def nothing_left(place: Path | str) -> str:
    """The error of a log whose filters leave nothing."""
    return f"{place}: no click is left after filtering; take a wider filter"


def notes_of(
    table: LogTable, time_words: str, dropped: Mapping[str, int], warnings: Sequence[str]
) -> dict[str, Any]:
    """How a log was read, for meta.json."""
    return {
        "format": table.format,
        "columns": {role: table.names[at] for role, at in table.positions.items()},
        "time": time_words,
        "dropped": dict(dropped),
        "warnings": list(warnings),
    }


def require_clicks(tables: Sequence[LogTable], string_ids: bool, options: LogOptions) -> None:
    """Read all rows and hold none: raises what :func:`read_interactions` raises of them."""
    rows = _Rows(tables[0], string_ids, options)
    for _ in rows.parsed(tables):
        pass
    rows.users.check()
    rows.items.check()


def _products(table: LogTable) -> list[str]:
    """What is worth a word about the item column."""
    item = table.names[table.positions["item"]]
    if item == "parent_asin" and "asin" in table.names:
        return ["parent_asin is the product; asin, a variant of it, is not used"]
    return []


def require_same_shape(tables: Sequence[LogTable]) -> None:
    """DataError: the files of a folder are no parts of one log."""
    first = tables[0]
    for table in tables[1:]:
        if table.shape != first.shape:
            raise DataError(
                f"{table.path}: {table.format} with {', '.join(table.names)[:100]}, but "
                f"{first.path.name} in the same folder: {first.format} with "
                f"{', '.join(first.names)[:100]}; a folder holds parts of one log: name the file"
            )


class _Rows:
    """The rows of a log on their way through the checks of its columns."""

    def __init__(self, table: LogTable, string_ids: bool, options: LogOptions) -> None:
        self.users, self.items = (
            IdColumn(kind, string_ids or table.is_token(kind)) for kind in ("user", "item")
        )
        self.times = TimeColumn() if "time" in table.positions else None
        self.clicks = ClickFilter(options)
        self.clicks.check(list(table.positions), str(table.path))

    def parsed(self, tables: Sequence[LogTable]) -> Iterator[_Parsed]:
        """Columns with their parsed values, and which rows count, chunk by chunk."""
        rows = 0
        with tqdm(unit=" clicks", unit_scale=True, disable=None, file=sys.stderr) as bar:
            for frame, where in (chunk for table in tables for chunk in table.chunks()):
                if not frame.height:
                    continue
                columns: list[tuple[IdColumn | TimeColumn, pl.Series]] = [
                    (self.users, self.users.parse(frame["user"], where)),
                    (self.items, self.items.parse(frame["item"], where)),
                ]
                if self.times is not None:
                    columns.append((self.times, self.times.parse(frame["time"], where)))
                yield columns, self.clicks.mask(frame, where)
                bar.update(frame.height)
                before, rows = rows, rows + frame.height
                if bar.disable and rows // _LINES_BETWEEN_WORDS > before // _LINES_BETWEEN_WORDS:
                    logger.info("%s clicks read", f"{rows:,}")
        if not rows:
            raise DataError(no_clicks(tables[0].path))


def no_clicks(place: Path | str) -> str:
    """The error of a log without a row."""
    return f"{place}: no clicks (empty); expected uid,item,time lines"


def _read(
    tables: Sequence[LogTable], string_ids: bool, options: LogOptions
) -> tuple[RawLog, dict[str, int], list[str], str]:
    """The sorted log, dropped clicks by reason, warnings, and how time was read."""
    rows = _Rows(tables[0], string_ids, options)
    users, items, times = rows.users, rows.items, rows.times
    for columns, mask in rows.parsed(tables):
        for column, values in columns:
            column.add(values if mask is None else values.filter(mask))
    dropped, warnings = rows.clicks.finish()
    log = sorted_log(users.finish(), items.finish(), None if times is None else times.finish())
    time_words = "no column: the order of lines is used"
    if times is not None:
        time_words = times.words()
        warnings += times.doubts(len(log.users), _has_ties(log))
    of_ids = [*users.warnings.values(), *items.warnings.values()]
    return log, dropped, [*tables[0].doubts, *of_ids, *warnings], time_words


def _has_ties(log: RawLog) -> bool:
    """Whether some user has two clicks of the same time."""
    if log.times is None:
        return False
    same_user = log.users[1:] == log.users[:-1]
    return bool(np.any(same_user & (log.times[1:] == log.times[:-1])))
