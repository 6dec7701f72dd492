# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Tables of side features as users bring them: csv with a header, an id, then its columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from paddlerec_milvus.data.files import read_bytes, sha256_of
from paddlerec_milvus.errors import DataError, SettingsError

DEFAULT_MIN_FEATURE_COUNT = 2
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class FeatureTable:
    """A file's content: string columns under the names of its header."""

    path: Path
    kind: str  # item or user, the name of the first column
    ids: pl.Series  # as they stand
    values: pl.DataFrame  # stripped, "" where there is none


@dataclass(frozen=True)
class FeatureFiles:
    """The tables given for a folder, and on how many rows a value must be to get a code."""

    items: Path | None = None
    users: Path | None = None
    min_count: int = DEFAULT_MIN_FEATURE_COUNT  # of items or users

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise SettingsError(f"--min-feature-count is {self.min_count}; expected 1 or more")

    def identity(self) -> dict[str, str | int]:
        """For meta.json, as a source's: equal for equal features; empty when nothing is asked."""
        if self == FeatureFiles():
            return {}
        named = {"item_features": self.items, "user_features": self.users}
        files = {name: path for name, path in named.items() if path}
        return {
            **{f"{name}_file": path.name for name, path in files.items()},
            **{f"{name}_sha256": sha256_of(path) for name, path in files.items()},
            "min_feature_count": self.min_count,
        }

    def read(self) -> tuple[FeatureTable | None, FeatureTable | None]:
        """The tables of items and of users."""
        return (
            read_feature_file(self.items, "item") if self.items else None,
            read_feature_file(self.users, "user") if self.users else None,
        )


def read_feature_file(path: Path, kind: str) -> FeatureTable:
    """Read a csv (or csv.gz) whose header is ``item`` or ``user`` (``kind``), then column names.

    Raises:
        DataError: not UTF-8, no such header, a column twice or with a name that is none, a row of
            another width, an empty id, or an id twice. The message gives the line.
    """
    rows = _rows(path)
    _, names = next(rows, (1, []))
    _check_header(path, kind, names)
    columns: list[list[str]] = [[] for _ in names]
    lines: dict[str, int] = {}
    for line, cells in rows:
        where = f"{path}, line {line}"
        if len(cells) != len(names):
            shown = f"'{','.join(cells)[:60]}', {len(cells)} cells" if cells else "a blank line"
            raise DataError(f"{where}: found {shown}; the header has {len(names)}")
        if not cells[0].strip():
            raise DataError(f"{where}: found an empty {kind} id; name the {kind}, or drop the line")
        first = lines.setdefault(cells[0], line)
        if first != line:
            raise DataError(
                f"{where}: {kind} '{cells[0]}' again, first seen in line {first}; keep one of them"
            )
        for column, cell in zip(columns, [cells[0], *map(str.strip, cells[1:])], strict=True):
            column.append(cell)
    if not lines:
        raise DataError(f"{path}: a header and no rows; expected a line for each {kind}")
    frame = pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String), orient="col")
    return FeatureTable(path, kind, frame[kind], frame.drop(kind))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number (of its start) and cells of each row, the names of the header stripped."""
    content = read_bytes(path).rstrip(b"\r\n")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        for cells in reader:
            yield start, [cell.strip() for cell in cells] if start == 1 else cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: not csv ({error}); mend its quotes") from None


def _check_header(path: Path, kind: str, names: list[str]) -> None:
    where = f"{path}, line 1"
    expected = f"expected a header {kind},<column>… such as {kind},category,brand"
    if not names:
        raise DataError(f"{where}: a blank line or an empty file; {expected}")
    if names[0] != kind:
        shown = f"'{','.join(names)[:60]}'"
        raise DataError(f"{where}: found {shown}, whose first column is not '{kind}'; {expected}")
    if len(names) == 1:
        raise DataError(f"{where}: no column of features beside '{kind}'; {expected}")
    check_columns(where, names)


def check_columns(where: str, names: list[str]) -> None:
    """Raise DataError for a name that is no identifier of ASCII letters, digits and _, or twice."""
    for place, name in enumerate(names):
        if not _COLUMN.fullmatch(name):
            raise DataError(
                f"{where}: column {place + 1} is named '{name[:60]}'; expected letters, digits and "
                "_ with no digit first"
            )
        if name in names[:place]:
            raise DataError(f"{where}: column '{name}' appears twice; rename or remove one")
