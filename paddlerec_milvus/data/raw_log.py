# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Other people's logs: csv, csv.gz or parquet with user, item and time, and tables of titles."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.data.files import read_bytes
from paddlerec_milvus.data.log import Ints
from paddlerec_milvus.errors import DataError

# Known names of the three columns, compared in lower case without "_" and "-".
_NAMES = {
    "uid": ("uid", "user", "userid", "reviewerid", "visitorid", "customerid"),
    "item": ("item", "itemid", "iid", "asin", "parentasin", "movieid", "bookid", "productid"),
    "time": ("time", "timestamp", "ts", "order", "unixreviewtime", "unixtime"),
}
_COLUMNS = tuple(_NAMES)
# A column of integers with at most this many exceptions is taken for a damaged one.
_FEW_EXCEPTIONS, _FEW_EXCEPTIONS_SHARE = 3, 0.05

Where = Callable[[int], str]


@dataclass(frozen=True)
class RawLog:
    """Clicks of a source, sorted by user, then time. n clicks, U users, I items.

    ``users`` and ``items`` [n] int64 are rows of ``user_ids`` [U] and ``item_ids`` [I], which are
    sorted and either integers or strings. ``titles`` has the string columns source_id, title and
    category, for any number of items. ``times`` [n] are the clicks' times, None where there is only
    an order.
    """

    users: Ints
    items: Ints
    user_ids: pl.Series
    item_ids: pl.Series
    titles: pl.DataFrame | None = None
    times: npt.NDArray[np.generic] | None = None


def read_interactions(path: Path, string_ids: bool = False) -> RawLog:
    """Read a log of any of the formats; ids may be integers or strings.

    Columns go by their names where there is a header with known ones, else by position. A time
    is a number (parquet: or a date). Integer ids are told from strings by their content;
    ``string_ids`` takes all ids as strings.

    Raises:
        DataError: a line that does not fit, with its number; an integer item id below 1.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        frame, where = _read_parquet(path)
    else:
        frame, where = _read_csv(path)
    if not frame.height:
        raise DataError(f"{path}: no clicks (empty); expected uid,item,time lines")
    users = ids_of(frame["uid"], "user", where, string_ids)
    items = ids_of(frame["item"], "item", where, string_ids)
    if items.dtype == pl.Int64 and (low := items.arg_min()) is not None and items[low] < 1:
        raise DataError(
            f"{where(low)}: item id {items[low]}; integer item ids start at 1 (0 is padding): "
            "number them from 1, or take ids as they are with --string-ids"
        )
    return raw_log(users, items, _times(frame["time"], where))


def raw_log(users: pl.Series, items: pl.Series, times: npt.NDArray[np.generic]) -> RawLog:
    """Code ids [n] by their sorted order and sort clicks by user, then time (stable)."""
    user_ids, user_rows = _codes(users)
    item_ids, item_rows = _codes(items)
    order = np.lexsort((times, user_rows))
    return RawLog(user_rows[order], item_rows[order], user_ids, item_ids, times=times[order])


def _codes(ids: pl.Series) -> tuple[pl.Series, Ints]:
    """Distinct ids in ascending order (strings by their bytes), and the row of each click."""
    if ids.dtype == pl.String:
        distinct = ids.unique().sort()
        return distinct, ids.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64).to_numpy()
    values, rows = np.unique(ids.to_numpy(), return_inverse=True)
    return pl.Series(values), rows.astype(np.int64)


def ids_of(column: pl.Series, kind: str, where: Where, string_ids: bool) -> pl.Series:
    """A column of ids as Int64 where all are integers in their plain form, else as String.

    Raises:
        DataError: an empty id, an id of another type, or a few that are no integers among many
            that are: more likely a damaged line than a log of strings.
    """
    if column.dtype.is_integer():
        integers: pl.Series = column.cast(pl.Int64, strict=False)
    elif column.dtype in (pl.String, pl.Categorical, pl.Enum):
        column = pl.Series(column.cast(pl.String).replace("", None))
        integers = column.cast(pl.Int64, strict=False)
        # "007" is a name: as a number it would become another id than "7" is
        integers = integers.set(integers.cast(pl.String).ne_missing(column), None)
    else:
        raise DataError(f"{where(0)}: {kind} ids of type {column.dtype}; expected integers or text")
    if column.null_count():
        raise DataError(f"{where(_first(column.is_null()))}: a blank line or an empty {kind} id")
    if string_ids:
        return pl.Series(column.cast(pl.String))
    exceptions = integers.null_count()
    if not exceptions:
        return integers
    if exceptions <= max(_FEW_EXCEPTIONS, _FEW_EXCEPTIONS_SHARE * len(column)) < len(column) / 2:
        row = _first(integers.is_null())
        raise DataError(
            f"{where(row)}: found {kind} id '{column[row]}', expected an integer as in the other "
            "lines; mend the line, or take all ids as strings with --string-ids"
        )
    return pl.Series(column.cast(pl.String))


def _first(mask: pl.Series) -> int:
    return int(mask.arg_max() or 0)


def _times(column: pl.Series, where: Where) -> npt.NDArray[np.generic]:
    """Times [n] as int64, or float64 where some have a fraction."""
    if column.dtype.is_temporal():
        column = column.to_physical()
    times = column.cast(pl.Int64, strict=False) if not column.dtype.is_float() else column
    if times.null_count():
        times = column.cast(pl.Float64, strict=False)
    bad = times.is_null() | (times.is_nan() if times.dtype.is_float() else False)
    if bad.any():
        row = _first(bad)
        raise DataError(f"{where(row)}: found time '{column[row]}', expected a number")
    values: npt.NDArray[np.generic] = times.to_numpy()
    return values


def _known(names: Sequence[str]) -> dict[str, int]:
    """Position of each column that has a known name."""
    plain = [name.strip().lower().replace("_", "").replace("-", "") for name in names]
    positions = {}
    for column, synonyms in _NAMES.items():
        hits = [plain.index(synonym) for synonym in synonyms if synonym in plain]
        if hits:
            positions[column] = hits[0]
    return positions


def _columns_of(names: Sequence[str], place: str) -> dict[str, int]:
    positions = _known(names)
    missing = [column for column in _COLUMNS if column not in positions]
    if missing:
        raise DataError(
            f"{place}: no column for {', '.join(missing)} among {', '.join(names)}; name the "
            "columns uid,item,time"
        )
    return positions


def _read_parquet(path: Path) -> tuple[pl.DataFrame, Where]:
    try:
        frame = pl.read_parquet(io.BytesIO(read_bytes(path)))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a parquet file that can be read ({reason})") from None
    names = frame.columns
    if not _known(names) and len(names) == 3:
        at = {column: position for position, column in enumerate(_COLUMNS)}
    else:
        at = _columns_of(names, str(path))
    chosen = frame.select(frame.to_series(at[column]).alias(column) for column in _COLUMNS)
    return chosen, lambda row: f"{path}, row {row + 1}"


def _read_csv(path: Path) -> tuple[pl.DataFrame, Where]:
    content = read_bytes(path)
    try:
        first_line = content[: content.find(b"\n") + 1 or None].decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}, line 1: not UTF-8 text; save it as UTF-8") from None
    first = next(csv.reader([first_line]), [])
    header = bool(_known(first))
    if header:
        at = _columns_of(first, f"{path}, line 1")
    else:
        _check_first(path, first)
        at = {column: position for position, column in enumerate(_COLUMNS)}
    if content.endswith((b"\n\n", b"\n\r\n")):
        content = content.rstrip(b"\r\n")
    width = len(first)
    try:
        frame = pl.read_csv(content, has_header=False, skip_rows=int(header), infer_schema=False)
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=dict.fromkeys(_COLUMNS, pl.String)), lambda row: str(path)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            _misshapen(path, content, width) or f"{path}: {str(error).splitlines()[0]}"
        ) from None
    if frame.width != width:
        raise DataError(
            _misshapen(path, content, width) or f"{path}: lines of different numbers of columns"
        )
    chosen = frame.select(frame.to_series(at[column]).alias(column) for column in _COLUMNS)
    if any(chosen.null_count().row(0)) and (message := _misshapen(path, content, width)):
        raise DataError(message)
    return chosen, lambda row: f"{path}, line {_line_of_row(content, row + header)}"


def _check_first(path: Path, fields: list[str]) -> None:
    """The first line of a file without a known header must be a click."""
    problem = None
    if len(fields) != len(_COLUMNS):
        problem = f"{len(fields)} columns and no header"
    else:
        try:
            math.isfinite(float(fields[2]))
        except ValueError:
            problem = f"'{fields[2]}' where a time was expected, and no known header"
    if fields and problem:
        shown = ",".join(fields)[:60]
        raise DataError(
            f"{path}, line 1: found '{shown}': {problem}; expected uid,item,time, or a header with "
            "these names"
        )
    if not fields:
        raise DataError(f"{path}, line 1: a blank line or an empty file; expected uid,item,time")


def _misshapen(path: Path, content: bytes, width: int) -> str | None:
    """The first line that is blank or has another number of columns, said in words."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8", "replace", newline=""))
    for fields in reader:
        if not any(field.strip() for field in fields):
            return f"{path}, line {reader.line_num}: a blank line; remove it"
        if len(fields) != width:
            shown = ",".join(fields)[:60]
            return (
                f"{path}, line {reader.line_num}: found '{shown}', {len(fields)} columns where the "
                f"first line has {width}"
            )
    return None


def _line_of_row(content: bytes, row: int) -> int:
    """Line number of a row; they part where a quoted field holds a line break."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8", "replace", newline=""))
    for number, _ in enumerate(reader):
        if number == row:
            return reader.line_num
    return row + 1


def read_titles_file(path: Path) -> pl.DataFrame:
    """A csv with a header, columns item and title, and optionally category.

    Returns:
        string columns source_id, title and category.

    Raises:
        DataError: no such file, no such columns, or a damaged line.
    """
    content = read_bytes(path)
    try:
        frame = pl.read_csv(content, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a csv table that can be read ({reason})") from None
    at = _known(frame.columns)
    if "item" not in at or "title" not in frame.columns:
        raise DataError(
            f"{path}: columns {', '.join(frame.columns)[:100]}; expected a header with item and "
            "title, and optionally category"
        )
    category = frame["category"] if "category" in frame.columns else pl.lit("")
    return frame.select(
        frame.to_series(at["item"]).alias("source_id"),
        pl.col("title").fill_null(""),
        category.fill_null("").alias("category"),
    ).drop_nulls("source_id")
