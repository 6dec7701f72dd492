# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Data frames of pandas and polars: taken in as polars, handed back in the library they came in."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeAlias
from uuid import UUID

import numpy as np
import polars as pl

from paddlerec_milvus.data.log_columns import named_columns
from paddlerec_milvus.data.log_options import require_roles
from paddlerec_milvus.data.log_times import TimeColumn
from paddlerec_milvus.errors import DataError, SettingsError, nearest

Frame: TypeAlias = Any
"""A data frame of pandas or of polars; pandas is imported by those alone who use it."""

Library = Literal["pandas", "polars"]

SHOWN = 40  # characters of a value in an error


def library_of(frame: object) -> Library | None:
    """Whose data frame this is; None: it is none."""
    if isinstance(frame, pl.DataFrame | pl.LazyFrame):
        return "polars"
    kind = type(frame)
    is_pandas = kind.__module__.partition(".")[0] == "pandas" and kind.__name__ == "DataFrame"
    return "pandas" if is_pandas else None


def checked_columns(columns: Mapping[str, str] | None) -> dict[str, str]:
    """``columns`` as texts. SettingsError: an unknown role, or a column that is two of them."""
    chosen = {str(role): str(name) for role, name in (columns or {}).items()}
    require_roles(chosen, "columns")
    return chosen


def log_frame(frame: Frame, what: str, columns: Mapping[str, str] | None = None) -> pl.DataFrame:
    """The columns of a log that ``frame`` has, under their own names.

    ``columns`` maps ``user``, ``item``, ``time`` … to names; known names need none.

    Raises:
        DataError: it is no data frame, has no column for user or item, or a column holds values
            of two types, or lists; or there is no row.
        SettingsError: a column of ``columns`` is not there.
    """
    names = _names(frame, what)
    chosen = checked_columns(columns)
    for role, name in chosen.items():
        if name not in names:
            raise SettingsError(
                f"columns: {what} has no column '{name}' for {role}; it has {', '.join(names):.200}"
                f"{nearest(name, names)}"
            )
    positions = named_columns(names, chosen, what)
    part = _part(frame, what, names, sorted(positions.values()))
    for column in part:
        if column.dtype.is_nested():
            raise DataError(
                f"{what}: the column '{column.name}' holds values of type {column.dtype}; expected "
                f"one number, text or time in a row ({what}.explode('{column.name}') makes rows of "
                "lists)"
            )
    if not part.height:
        raise DataError(
            f"{what}: no clicks, the data frame has no rows; give one with a click a row"
        )
    return part


def clicks_frame(frame: Frame, what: str, columns: Mapping[str, str] | None = None) -> pl.DataFrame:
    """The clicks of ``frame`` in their order: the columns ``user`` and ``item``, as they are.

    Where there is a time, by it, and users by their first rows; else by row. Errors are those of
    :func:`log_frame`.
    """
    part = log_frame(frame, what, columns)
    positions = named_columns(part.columns, checked_columns(columns), what)
    roles = {role: part.to_series(at) for role, at in positions.items()}
    clicks = pl.DataFrame({role: roles[role] for role in ("user", "item")})
    for role in clicks.columns:
        if clicks[role].null_count():
            raise DataError(f"{what}: an empty {role} id in row {clicks[role].is_null().arg_max()}")
    if "time" not in roles:
        return clicks
    times = TimeColumn().parse(roles["time"], lambda row: f"{what}, row {row + 1}")
    rows = clicks.with_row_index("row").with_columns(times.alias("time"))
    first = pl.col("row").min().over("user")
    return rows.sort(first, "time", maintain_order=True).select("user", "item")


def titles_frame(frame: Frame) -> pl.DataFrame:
    """The table of items, with all of its columns. DataError: it is no data frame."""
    names = _names(frame, "items")
    return _part(frame, "items", names, range(len(names)))


def in_library(frame: pl.DataFrame, library: Library) -> Frame:
    """``frame`` as a data frame of ``library``; missing numbers stay missing."""
    if library == "polars":
        return frame
    pandas = importlib.import_module("pandas")
    return pandas.DataFrame({one.name: _pandas_column(pandas, one) for one in frame})


def _names(frame: Frame, what: str) -> list[str]:
    if library_of(frame) is None:
        raise DataError(
            f"{what} is a {type(frame).__name__}; expected a data frame of pandas or polars"
        )
    names = frame.collect_schema().names() if isinstance(frame, pl.LazyFrame) else frame.columns
    return [str(name) for name in names]


def _part(frame: Frame, what: str, names: Sequence[str], places: Iterable[int]) -> pl.DataFrame:
    """The columns at ``places``, of polars. DataError: one name stands for two of them."""
    columns = {names[at]: at for at in places}
    for name in columns:
        if names.count(name) > 1:
            raise DataError(f"{what}: the column '{name}' is there twice; rename one of them")
    if library_of(frame) == "pandas":
        return pl.DataFrame([_of_pandas(frame.iloc[:, at], n, what) for n, at in columns.items()])
    part: pl.DataFrame = frame.lazy().select(list(columns)).collect()
    return part.with_columns(
        _of_values(one.to_list(), one.name, what) for one in part if one.dtype == pl.Object
    )


def _of_pandas(column: Any, name: str, what: str) -> pl.Series:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        return pl.Series(name, column.to_numpy(), nan_to_null=True)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "M":
        return pl.Series(name, column.to_numpy().astype("M8[us]"))
    cells = zip(column.tolist(), column.isna().tolist(), strict=True)
    return _of_values([None if missing else value for value, missing in cells], name, what)


def plain(value: Any) -> Any:
    """A single value as Python has it: of numpy's the value, of a UUID its text."""
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, UUID) else value


def _of_values(cells: list[Any], name: str, what: str) -> pl.Series:
    """A column of Python's values.

    DataError: of two types, such as 7 and "7", or of one that no column has, such as a set.
    """
    values = list(map(plain, cells))
    examples = {type(value): value for value in reversed(values) if value is not None}
    shown = ", ".join(f"{kind.__name__} ({one!r:.{SHOWN}})" for kind, one in examples.items())
    if len(examples) > 1:
        raise DataError(
            f"{what}: the column '{name}' holds values of several types: {shown}; make "
            f"them one, such as {what}['{name}'].astype(str)"
        )
    column = None
    with suppress(TypeError, pl.exceptions.PolarsError):  # of lists whose values are of two types
        column = pl.Series(name, values)
    if column is None or column.dtype == pl.Object:
        raise DataError(
            f"{what}: the column '{name}' holds values of type {shown}; expected numbers, texts or "
            "times, one in a row"
        )
    return column


def _pandas_column(pandas: Any, column: pl.Series) -> Any:
    if column.dtype.is_integer() and column.null_count():
        return pandas.array(column.to_list(), dtype="Int64")
    return column.to_list() if column.dtype == pl.String else column.to_numpy()
