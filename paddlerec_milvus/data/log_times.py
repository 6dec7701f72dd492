# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Times of clicks: numbers (an order, seconds, milliseconds …) or ISO dates, with zone or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.errors import DataError

Where = Callable[[int], str]
Times = npt.NDArray[np.generic]

_DATE = re.compile(r"\d{4}[-/]\d{2}[-/]\d{2}([ T].*)?")
_EPOCH = re.compile(r"\d{9,19}(\.\d+)?")
_YEAR_1980, _YEAR_2100 = 315_532_800, 4_102_444_800
# Smallest size that a time of 1980 or later has in this unit
_UNITS = {"nanoseconds": 10**9, "microseconds": 10**6, "milliseconds": 10**3, "seconds": 1}
_FEW, _MOST_STARS = 20, 10
_MOST_DISTINCT = 1000  # counted no further


def is_date(cell: str) -> bool:
    """Whether a cell is an ISO date, with or without a time of day."""
    return _DATE.fullmatch(cell) is not None


def is_epoch(cell: str) -> bool:
    """Whether a cell is a time since 1970 in some unit, between 1980 and 2100."""
    return _EPOCH.fullmatch(cell) is not None and unit_of(float(cell)) is not None


def unit_of(time: float) -> str | None:
    """The unit in which ``time`` is a moment between 1980 and 2100; None if there is none."""
    for unit, ticks in _UNITS.items():
        if _YEAR_1980 <= time / ticks < _YEAR_2100:
            return unit
    return None


def _moments(cells: pl.Series, form: str) -> pl.Series:
    moments: pl.Series = cells.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC")
    return moments


class TimeColumn:
    """A log's times, taken in chunk by chunk."""

    def __init__(self) -> None:
        self._chunks: list[pl.Series] = []
        self._values: set[float] = set()
        self._dates: bool | None = None
        self._zones: set[bool] = set()

    def parse(self, column: pl.Series, where: Where) -> pl.Series:
        """A chunk as Int64, or as Float64 where some have a fraction; dates as microseconds.

        Raises:
            DataError: an empty cell, or one that is neither a number nor a date.
        """
        if column.dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        if column.dtype == pl.String:
            column = pl.Series(column.str.strip_chars().replace("", None))
        if column.null_count():
            row = column.is_null().arg_max() or 0
            raise DataError(
                f"{where(row)}: time is empty; fill it in, or remove the line (the order of lines "
                "is used where no column is named as time)"
            )
        dates = column.dtype in (pl.Date, pl.Datetime)
        if dates:
            times = column.cast(pl.Datetime("us")).to_physical()
        elif column.dtype == pl.String or column.dtype.is_numeric():
            times, dates = self._from_cells(column)
        else:
            raise DataError(
                f"{where(0)}: times of type {column.dtype}; expected numbers, or dates with or "
                "without a time of day, such as 2024-05-17T08:30:00Z"
            )
        bad = times.is_null() | (times.is_nan() if times.dtype.is_float() else False)
        if self._dates is None:
            self._dates = dates
        if bad.any() or dates != self._dates:
            row = (bad.arg_max() or 0) if bad.any() else 0
            expected = "a date as before" if self._dates else "a number"
            raise DataError(
                f"{where(row)}: found time '{column[row]}', expected {expected}"
                + ("" if self._dates else ", or dates such as 2024-05-17T08:30:00Z in all lines")
            )
        return pl.Series(times)

    def _from_cells(self, column: pl.Series) -> tuple[pl.Series, bool]:
        """Times with nulls where a cell cannot be read, and whether they were dates."""
        if column.dtype == pl.String and is_date(column[0]):
            return self._from_dates(column), True
        times = column.cast(pl.Int64, strict=False) if not column.dtype.is_float() else column
        if times.null_count():
            times = column.cast(pl.Float64, strict=False)
        if times.dtype.is_float() and not times.null_count():
            whole = times.cast(pl.Int64, strict=False)
            if not whole.null_count() and bool((whole.cast(pl.Float64) == times).all()):
                times = whole
        return times, False

    def _from_dates(self, column: pl.Series) -> pl.Series:
        """ISO dates as microseconds since 1970; without a zone they are taken as UTC."""
        cells = (
            column.str.replace_all("/", "-", literal=True)
            .str.replace(r"\s*(Z|UTC|GMT)$", "+00:00")
            .str.replace(" ", "T", literal=True)
        )
        whole_day = cells.str.len_chars() == len("2024-05-17")
        cells = cells.zip_with(~whole_day, cells + "T00:00:00")
        zoned = cells.str.contains(r"[+-]\d\d:?\d\d$") & (cells.str.len_chars() > 19)
        self._zones |= set(zoned.unique().to_list())
        cells = cells.zip_with(zoned, cells + "+00:00")
        times = _moments(cells, "%Y-%m-%dT%H:%M:%S%.f%z")
        if times.null_count():
            times = times.zip_with(times.is_not_null(), _moments(cells, "%Y-%m-%dT%H:%M%z"))
        return times.to_physical()

    def add(self, times: pl.Series) -> None:
        """Take in the parsed times that are left after filtering."""
        if len(self._values) < _MOST_DISTINCT:
            self._values |= set(times.unique().head(_MOST_DISTINCT).to_list())
        self._chunks.append(times)

    def count(self, values: Iterable[float], dates: bool, zones: Iterable[bool]) -> None:
        """Take in what was read elsewhere: some times, whether dates, and whether with zones."""
        self._values |= set(values)
        self._dates = dates
        self._zones |= set(zones)

    def finish(self) -> Times:
        """All times [n], int64 or float64."""
        floats = any(chunk.dtype.is_float() for chunk in self._chunks)
        dtype = np.float64 if floats else np.int64
        times = np.empty(sum(map(len, self._chunks)), dtype)
        first = 0
        while self._chunks:
            chunk = self._chunks.pop(0)
            times[first : first + len(chunk)] = chunk.to_numpy()
            first += len(chunk)
        return times

    def words(self) -> str:
        """How the times were read, in a few words."""
        if self._dates:
            if self._zones == {False}:
                return "dates without a zone, taken as UTC"
            if len(self._zones) > 1:
                return "dates, some without a zone: these were taken as UTC"
            return "dates"
        unit = unit_of(max(self._values, default=0))
        return f"{unit} since 1970" if unit else "numbers, as an order"

    def doubts(self, clicks: int, ties: bool) -> list[str]:
        """Why the column may be no time. ``ties``: some user has two clicks of one time."""
        distinct = len(self._values)
        if clicks < 2 or not ties or distinct > _FEW:
            return []
        if distinct == 1:
            return [
                f"all {clicks:,} times are equal ({next(iter(self._values))}): the order of lines "
                "is used instead"
            ]
        stars = all(0 <= value <= _MOST_STARS and 2 * value % 1 == 0 for value in self._values)
        looks = ", and looks like a rating" if stars and not self._dates else ""
        return [
            f"what was taken as time has only {distinct} distinct values in {clicks:,} clicks"
            f"{looks}: clicks of one time stay in the order of lines. If it is no time, name the "
            "columns, such as --columns user=1,item=2,rating=3 (without a time the order of lines "
            "is used)"
        ]
