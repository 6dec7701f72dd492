# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Times of clicks by Spark's SQL: numbers, or dates as microseconds since 1970."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddlerec_milvus.data.log_times import is_date
from paddlerec_milvus.data.spark.sql_ids import FLOATS, INTEGERS, stripped

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\z"
_INTEGER = r"^[+-]?[0-9]+\z"
_MOMENT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?[+-]\d\d:?\d\d\z"
_DATES = ("date", "timestamp", "timestamp_ntz")
_MICROSECONDS_OF_A_DAY = 86_400_000_000
_LARGEST_WHOLE = 2.0**63  # floats from here on are no int64


@dataclass(frozen=True)
class TimeVerdict:
    """The times as a column, whether they were dates, and whether with zones, without, or both."""

    column: Column
    dates: bool = False
    zones: set[bool] = field(default_factory=set)


class SqlTimes:
    """The column ``time`` of a log."""

    def __init__(self, frame: DataFrame) -> None:
        self._type = dict(frame.dtypes)["time"]
        self.can_be_times = self._type in (*INTEGERS, *FLOATS, *_DATES, "string")

    def facts(self) -> dict[str, Column]:
        """What has to be known of all cells, by names that begin with ``time``."""
        from pyspark.sql import functions as F  # noqa: N812

        cell = F.col("time")
        facts = {"time_nulls": F.count_if(cell.isNull())}
        if self._type in FLOATS:
            facts |= {
                "time_nan": F.count_if(F.isnan(cell)),
                "time_whole": F.count_if(_is_whole(cell)),
            }
        elif self._type == "string":
            text, number = stripped(cell), self._number()
            facts |= {
                "time_first": F.min_by(text, F.struct("part", "block", "row")),
                "time_integers": F.count(self._integer()),
                "time_numbers": F.count(number),
                "time_whole": F.count_if(_is_whole(number)),
                "time_moments": F.count(self._moment()),
                "time_zoned": F.count_if(_is_zoned(_iso(text))),
            }
        return facts

    def verdict(self, row: Mapping[str, Any]) -> TimeVerdict | None:
        """What the times are by the facts in ``row``; None where some have to be judged."""
        from pyspark.sql import functions as F  # noqa: N812

        rows, cell = row["rows"], F.col("time")
        if row["time_nulls"] or row.get("time_nan"):
            return None
        if self._type == "date":
            return TimeVerdict(F.unix_date(cell) * F.lit(_MICROSECONDS_OF_A_DAY), True)
        if self._type in _DATES:
            return TimeVerdict(F.unix_micros(cell.cast("timestamp")), True)
        if self._type in INTEGERS:
            return TimeVerdict(cell.cast("bigint"))
        if self._type in FLOATS:
            whole = row["time_whole"] == rows
            return TimeVerdict(cell.cast("bigint" if whole else "double"))
        if is_date(row["time_first"]):
            zones = {zoned for zoned, some in _zones(row["time_zoned"], rows) if some}
            whole = row["time_moments"] == rows
            return TimeVerdict(self._moment(), True, zones) if whole else None
        if row["time_integers"] == rows:
            return TimeVerdict(self._integer())
        if row["time_numbers"] < rows:
            return None
        whole = row["time_whole"] == rows
        return TimeVerdict(self._number().cast("bigint" if whole else "double"))

    def _integer(self) -> Column:
        from pyspark.sql import functions as F  # noqa: N812

        text = stripped(F.col("time"))
        return F.when(text.rlike(_INTEGER), text).try_cast("bigint")

    def _number(self) -> Column:
        from pyspark.sql import functions as F  # noqa: N812

        return number_of(F.col("time"))

    def _moment(self) -> Column:
        from pyspark.sql import functions as F  # noqa: N812

        iso = _iso(stripped(F.col("time")))
        iso = F.when(_is_zoned(iso), iso).otherwise(F.concat(iso, F.lit("+00:00")))
        return F.unix_micros(F.when(iso.rlike(_MOMENT), iso).try_cast("timestamp"))


def number_of(cell: Column) -> Column:
    """A text as double, null where it is no number."""
    from pyspark.sql import functions as F  # noqa: N812

    text = stripped(cell)
    return F.when(text.rlike(NUMBER), text).cast("double")


def _zones(zoned: int, rows: int) -> list[tuple[bool, bool]]:
    return [(True, zoned > 0), (False, zoned < rows)]


def _iso(text: Column) -> Column:
    """With a T and a zone as +00:00 where it says UTC; a day begins at midnight."""
    from pyspark.sql import functions as F  # noqa: N812

    iso = F.replace(text, F.lit("/"), F.lit("-"))
    iso = F.regexp_replace(iso, r"\s*(Z|UTC|GMT)\z", "+00:00")
    iso = F.regexp_replace(iso, r"^([^ ]*) ", "$1T")
    return F.when(F.length(iso) == len("2024-05-17"), F.concat(iso, F.lit("T00:00:00"))).otherwise(
        iso
    )


def _is_zoned(iso: Column) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    return iso.rlike(r"[+-]\d\d:?\d\d\z") & (F.length(iso) > 19)


def _is_whole(value: Column) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    return (value == F.rint(value)) & (F.abs(value) < _LARGEST_WHOLE)
