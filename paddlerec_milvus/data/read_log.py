# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Other people's logs, streamed: formats are recognised, and what was taken as what is said."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
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
    _check_same_shape(tables)
    return read_tables(tables, path, string_ids, options)


def read_tables(
    tables: Sequence[LogTable], path: Path, string_ids: bool, options: LogOptions
) -> RawLog:
    """The log that lies in ``tables``, parts of one shape, which words call ``path``.

    Errors are those of :func:`read_interactions`.
    """
    for fact in (tables[0].words(), *_products(tables[0])):
        logger.info("%s: %s", path.name, fact)
    log, dropped, warnings, time_words = _read(tables, string_ids, options)
    logger.info("%s: time: %s", path.name, time_words)
    log, more = filtered(log, options)
    for reason, clicks in (dropped | more).items():
        logger.info("%s: dropped %s clicks %s", path.name, f"{clicks:,}", reason)
    for warning in warnings:
        logger.warning("warning: %s: %s", path.name, warning)
    if not len(log.users):
        raise DataError(f"{path}: no click is left after filtering; take a wider filter")
    names, positions = tables[0].names, tables[0].positions
    notes = {
        "format": tables[0].format,
        "columns": {role: names[at] for role, at in positions.items()},
        "time": time_words,
        "dropped": dropped | more,
        "warnings": warnings,
    }
    return dataclasses.replace(log, notes=notes)


def _products(table: LogTable) -> list[str]:
    """What is worth a word about the item column."""
    item = table.names[table.positions["item"]]
    if item == "parent_asin" and "asin" in table.names:
        return ["parent_asin is the product; asin, a variant of it, is not used"]
    return []


def _check_same_shape(tables: Sequence[LogTable]) -> None:
    first = tables[0]
    for table in tables[1:]:
        if table.shape != first.shape:
            raise DataError(
                f"{table.path}: {table.format} with {', '.join(table.names)[:100]}, but "
                f"{first.path.name} in the same folder: {first.format} with "
                f"{', '.join(first.names)[:100]}; a folder holds parts of one log: name the file"
            )


def _read(
    tables: Sequence[LogTable], string_ids: bool, options: LogOptions
) -> tuple[RawLog, dict[str, int], list[str], str]:
    """The sorted log, dropped clicks by reason, warnings, and how time was read."""
    users, items = (
        IdColumn(kind, string_ids or tables[0].is_token(kind)) for kind in ("user", "item")
    )
    times = TimeColumn() if "time" in tables[0].positions else None
    clicks = ClickFilter(options)
    clicks.check(list(tables[0].positions), str(tables[0].path))
    rows = 0
    with tqdm(unit=" clicks", unit_scale=True, disable=None, file=sys.stderr) as bar:
        for frame, where in (chunk for table in tables for chunk in table.chunks()):
            if not frame.height:
                continue
            parsed = [users.parse(frame["user"], where), items.parse(frame["item"], where)]
            columns: list[IdColumn | TimeColumn] = [users, items]
            if times is not None:
                parsed.append(times.parse(frame["time"], where))
                columns.append(times)
            mask = clicks.mask(frame, where)
            for column, values in zip(columns, parsed, strict=True):
                column.add(values if mask is None else values.filter(mask))
            bar.update(frame.height)
            before, rows = rows, rows + frame.height
            if bar.disable and rows // _LINES_BETWEEN_WORDS > before // _LINES_BETWEEN_WORDS:
                logger.info("%s clicks read", f"{rows:,}")
    if not rows:
        raise DataError(f"{tables[0].path}: no clicks (empty); expected uid,item,time lines")
    dropped, warnings = clicks.finish()
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
