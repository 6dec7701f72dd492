# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One file of a log as a table: its format, recognised by content, and its rows in chunks."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from paddlerec_milvus.data.json_rows import json_chunks, json_fields
from paddlerec_milvus.data.log_bytes import line_blocks, open_log
from paddlerec_milvus.data.log_columns import (
    columns_by_content,
    known_columns,
    named_columns,
    numbered_columns,
)
from paddlerec_milvus.data.log_options import LogOptions
from paddlerec_milvus.data.log_times import Where
from paddlerec_milvus.data.text_rows import text_chunks
from paddlerec_milvus.data.unpacking import UnpackedReader
from paddlerec_milvus.errors import DataError

Chunks = Iterator[tuple[pl.DataFrame, Where]]

JSON_LINES = "json lines"
_SEPARATORS = ("::", "\t", ";", ",", "|")
_SAMPLE_LINES = 100
_PARQUET_MAGIC = b"PAR1"
_PARQUET_ROWS = 2_000_000


@dataclass(frozen=True)
class LogTable:
    """A file that was recognised. ``positions`` maps roles to columns, whose ``names`` are known
    where there is a header."""

    path: Path
    format: str
    names: tuple[str, ...]
    positions: Mapping[str, int]
    open_chunks: Callable[[], Chunks] = field(compare=False)
    doubts: tuple[str, ...] = ()
    separator: str = ""  # of a text
    has_header: bool = False
    types: Mapping[str, type[pl.DataType]] = field(default_factory=dict, compare=False)
    """Of the columns of JSON lines."""

    @property
    def shape(self) -> tuple[object, ...]:
        """What parts of one log have in common."""
        return self.format, self.names, tuple(sorted(self.positions.items()))

    def chunks(self) -> Chunks:
        """Frames with a column for each role, and for each row of a frame where it stands."""
        by_role = {role: self.names[at] for role, at in self.positions.items()}
        for frame, where in self.open_chunks():
            yield frame.select(pl.col(name).alias(role) for role, name in by_role.items()), where

    def is_token(self, role: str) -> bool:
        """Whether a header in RecBole's form calls the ids of a role tokens, which are strings."""
        return self.names[self.positions[role]].endswith(":token")

    def words(self) -> str:
        """Which columns are taken as what."""
        roles = [
            f"{role} = {self.names[at]}" + (" (for --min-rating alone)" if role == "rating" else "")
            for role, at in self.positions.items()
        ]
        rest = [name for at, name in enumerate(self.names) if at not in self.positions.values()]
        return f"{self.format}; columns: {', '.join(roles)}" + (
            f"; not used: {', '.join(rest)[:200]}" if rest else ""
        )


def open_table(path: Path, options: LogOptions) -> LogTable:
    """Recognise a file by its first lines.

    Raises:
        DataError: no format that is known; what was found is shown.
        SettingsError: ``options`` name a column that is not there.
    """
    with open_log(path) as file:
        packed = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    if packed:
        return _parquet_table(path, options)
    if path.suffix.lower() in (".parquet", ".pq") and b"\0" in path.read_bytes()[:4096]:
        raise DataError(f"{path}: not a parquet file that can be read; fetch it again")
    first = next(line_blocks(path, options.encoding), b"")
    lines = first[: 1 << 20].decode("utf-8", "ignore").split("\n")[:_SAMPLE_LINES]
    start = lines[0].lstrip()
    if start.startswith("{"):
        return _json_table(path, options, lines)
    if start.startswith("["):
        raise DataError(f"{path}: one JSON array; expected JSON lines, one object a line")
    return _text_table(path, options, [line for line in lines if line] if start else [""])


def frame_table(frame: pl.DataFrame, what: str, options: LogOptions) -> LogTable:
    """A data frame as a log, which words call ``what``; its columns have names.

    Raises:
        SettingsError: a column of ``options`` is not there.
        DataError: no column for user or item.
    """

    def chunks() -> Chunks:
        for first in range(0, frame.height, _PARQUET_ROWS):
            yield frame.slice(first, _PARQUET_ROWS), _row_of(Path(what), first)

    names = tuple(frame.columns)
    positions = named_columns(names, options.columns, what)
    return LogTable(Path(what), "data frame", names, positions, chunks)


def _parquet_table(path: Path, options: LogOptions) -> LogTable:
    source: Path | io.BytesIO = path
    with open_log(path) as file:
        if isinstance(file, UnpackedReader):
            source = io.BytesIO(file.read())
    try:
        names = pl.scan_parquet(source, glob=False).collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable_parquet(path, error) from None
    if options.columns or known_columns(names) or len(names) != 3:
        positions = named_columns(names, options.columns, str(path))
    else:
        positions = {"user": 0, "item": 1, "time": 2}

    def chunks() -> Chunks:
        wanted = [names[at] for at in positions.values()]
        try:
            rows = pl.scan_parquet(source, glob=False).select(pl.len()).collect().item()
            for first in range(0, rows, _PARQUET_ROWS):
                lazy = (
                    pl.scan_parquet(source, glob=False).select(wanted).slice(first, _PARQUET_ROWS)
                )
                yield lazy.collect(), _row_of(path, first)
        except pl.exceptions.PolarsError as error:
            raise _unreadable_parquet(path, error) from None

    return LogTable(path, "parquet", tuple(names), positions, chunks)


def _row_of(path: Path, first: int) -> Where:
    return lambda row: f"{path}, row {first + row + 1}"


def _unreadable_parquet(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0]
    return DataError(f"{path}: not a parquet file that can be read ({reason})")


def _json_table(path: Path, options: LogOptions, lines: list[str]) -> LogTable:
    fields = json_fields(lines[0], f"{path}, line 1")
    names = list(fields)
    _require_whole_first_object(path, options, names, lines)
    positions = named_columns(names, options.columns, f"{path}, line 1")
    schema = {names[at]: fields[names[at]] for at in positions.values()}
    required = {names[at] for role, at in positions.items() if role != "rating"}
    return LogTable(
        path,
        JSON_LINES,
        tuple(names),
        positions,
        lambda: json_chunks(path, options.encoding, schema, required),
        types=schema,
    )


def _require_whole_first_object(
    path: Path, options: LogOptions, names: list[str], lines: list[str]
) -> None:
    """DataError: another of the sampled lines has a role that line 1, with ``names``, lacks."""
    first = _roles(names, options)
    for number, line in enumerate(lines[1:], 2):
        try:
            roles = _roles(list(json_fields(line, "")), options)
        except DataError:  # a line that is cut off; of others the reader of all lines says it
            continue
        for role, name in roles.items():
            if role not in first and (role != "rating" or options.min_rating is not None):
                raise DataError(
                    f"{path}, line 1: {name} is null or not there, and line {number} has it as "
                    f"{role}; fill it in, or remove the line"
                )


def _roles(names: list[str], options: LogOptions) -> dict[str, str]:
    """The field of each role among ``names``: the chosen one, else a known one."""
    known = {role: names[at] for role, at in known_columns(names).items()}
    chosen = {role: name for role, name in options.columns.items() if name in names}
    return {role: known[role] for role in known if role not in options.columns} | chosen


def _text_table(path: Path, options: LogOptions, lines: list[str]) -> LogTable:
    separator, rows = _sampled_rows(path, options, lines)
    place = f"{path}, line 1"
    width = len(rows[0])
    doubts: list[str] = []
    header = _is_header(rows, options)
    if header:
        names = [name.strip() for name in rows[0]]
        positions = named_columns(names, options.columns, place)
        twice = [names[at] for at in positions.values() if names.count(names[at]) > 1]
        if twice:
            raise DataError(
                f"{place}: the column '{twice[0]}' is there twice; take one away, or rename it"
            )
        names = [
            name if names.count(name) == 1 else f"{name} ({at})" for at, name in enumerate(names, 1)
        ]
    else:
        names = [f"column {at + 1}" for at in range(width)]
        if options.columns:
            positions = numbered_columns(width, options.columns, place)
        else:
            positions, doubts = columns_by_content(rows, place)
    shown = {"\t": "tabs", " ": "blanks"}.get(separator, f"'{separator}'")
    return LogTable(
        path,
        f"text, columns parted by {shown}" + ("" if header else ", no header"),
        tuple(names),
        positions,
        lambda: text_chunks(path, options.encoding, separator, tuple(names), header),
        tuple(doubts),
        separator,
        header,
    )


def _sampled_rows(path: Path, options: LogOptions, lines: list[str]) -> tuple[str, list[list[str]]]:
    """The separator, and the cells of each line. DataError: a cell in quotes is too long."""
    try:
        separator = options.separator or _separator(lines)
        return separator, [_cells(line, separator) for line in lines]
    except csv.Error as error:
        longest = 1 + max(range(len(lines)), key=lambda at: len(lines[at]))
        raise DataError(
            f"{path}, line {longest}: a cell that is too long ({error}); shorten it, or name the "
            "separator with --sep"
        ) from None


def _cells(line: str, separator: str) -> list[str]:
    if len(separator) == 1 and '"' in line:
        return next(csv.reader([line], delimiter=separator), [""]) or [""]
    return line.split(separator)


def _separator(lines: list[str]) -> str:
    """The separator that parts all sample lines alike, or at least the first."""
    widths = {sep: {len(_cells(line, sep)) for line in lines} for sep in _SEPARATORS}
    for separator, counts in widths.items():
        if len(counts) == 1 and min(counts) > 1:
            return separator
    parting = [sep for sep in _SEPARATORS if len(_cells(lines[0], sep)) > 1]
    return parting[0] if parting else ","


def _is_header(rows: list[list[str]], options: LogOptions) -> bool:
    """Whether the first line names columns: known names, or those of ``--columns``."""
    names = [name.strip() for name in rows[0]]
    if known_columns(names) or any(name.endswith(":token") for name in names):
        return True
    return any(not name.isdecimal() for name in options.columns.values())
