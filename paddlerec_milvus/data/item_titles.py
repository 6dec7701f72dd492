# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A table of titles and categories beside a log, and of what else a list can show of an item."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from paddlerec_milvus.data.files import read_bytes
from paddlerec_milvus.data.log_columns import known_columns
from paddlerec_milvus.errors import DataError

DETAILS = ("authors", "year")
"""Columns that are kept beside title and category where a table has them."""


def read_titles_file(path: Path) -> pl.DataFrame:
    """A csv with a header, columns item and title, and optionally category, authors and year.

    Returns:
        string columns source_id, title and category, and those of authors and year that it has.

    Raises:
        DataError: no such file, no such columns, or a damaged line.
    """
    content = read_bytes(path)
    try:
        frame = pl.read_csv(content, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a csv table that can be read ({reason})") from None
    return titles_of(frame, str(path))


def titles_of(frame: pl.DataFrame, place: str) -> pl.DataFrame:
    """The same of a table that is read, whose columns hold anything; words call it ``place``.

    DataError: no such columns, or one of them holds lists.
    """
    at = known_columns(frame.columns)
    if "item" not in at or "title" not in frame.columns:
        raise DataError(
            f"{place}: columns {', '.join(frame.columns)[:100]}; expected a header with item and "
            "title, and optionally category, authors and year"
        )
    shown = [name for name in ("title", "category", *DETAILS) if name in frame.columns]
    for column in (frame.to_series(at["item"]), *(frame[name] for name in shown)):
        if column.dtype.is_nested():
            raise DataError(
                f"{place}: the column '{column.name}' holds values of type {column.dtype}; "
                "expected one text in a row: join the texts of a list"
            )
    columns = [_texts(frame[name]).fill_null("") for name in shown]
    if "category" not in shown:
        columns.insert(1, pl.Series("category", [""] * len(frame), pl.String))
    ids = _texts(frame.to_series(at["item"])).alias("source_id")
    return pl.DataFrame([ids, *columns]).drop_nulls("source_id")


def _texts(column: pl.Series) -> pl.Series:
    """As strings; whole numbers that a missing value beside them made floats are whole."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
        if (column.drop_nulls() % 1 == 0).all():
            column = column.cast(pl.Int64)
    return pl.Series(column.cast(pl.String))
