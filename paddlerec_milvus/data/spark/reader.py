# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A log read by Spark: its clicks as a table, and how it was read, in the words of one machine.

Spark checks rows and cannot say what is wrong with one. Where a row is not clean, the reader of one
machine goes over the log, holding none of it, and its error is the one that is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddlerec_milvus.data.log_filters import ClickFilter
from paddlerec_milvus.data.log_ids import alike_ids
from paddlerec_milvus.data.log_options import LogOptions
from paddlerec_milvus.data.log_times import TimeColumn
from paddlerec_milvus.data.read_log import (
    no_clicks,
    require_clicks,
    require_same_shape,
    say_columns,
)
from paddlerec_milvus.data.spark.log_parts import LogPart, parts_of
from paddlerec_milvus.data.spark.rows import PLACE, rows_of
from paddlerec_milvus.data.spark.sql_ids import IdVerdict, SqlIds, stripped
from paddlerec_milvus.data.spark.sql_times import SqlTimes, TimeVerdict, number_of
from paddlerec_milvus.data.spark.work import Workplace
from paddlerec_milvus.errors import DataError, SettingsError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

logger = logging.getLogger(__name__)

_MOST_KINDS = 10_000  # that are counted
_FEW_TIMES = 100  # only of fewer different ones it matters how many there are


@dataclass(frozen=True)
class SparkClicks:
    """The clicks of a log that count, in the table ``clicks``: user, item, perhaps time, and
    ``part``, ``block``, ``row``, which order clicks of one time."""

    frame: DataFrame
    part: LogPart
    user_ids: str  # int or string
    item_ids: str
    dropped: dict[str, int]
    warnings: list[str]
    time_words: str

    @property
    def order(self) -> tuple[str, ...]:
        """The columns by which a user's clicks are in order."""
        return ("time", *PLACE) if "time" in self.frame.columns else PLACE


def read_clicks(work: Workplace, place: str, string_ids: bool, options: LogOptions) -> SparkClicks:
    """Read the log at ``place``, see ``read_interactions``, whose errors are the same.

    Raises:
        SettingsError: also for an option or a file that Spark does not read.
    """
    if options.encoding is not None:
        raise SettingsError(
            "--encoding does not go with --engine spark, which reads UTF-8; save the log as UTF-8"
        )
    parts = parts_of(work.spark, place, options, work.folder / "copies")
    require_same_shape([part.table for part in parts])
    return _Reader(work, place, parts, string_ids, options).clicks()


class _Reader:
    def __init__(
        self,
        work: Workplace,
        place: str,
        parts: list[LogPart],
        string_ids: bool,
        options: LogOptions,
    ) -> None:
        self._work, self._place, self._parts = work, place, parts
        self._table, self._options, self._string_ids = parts[0].table, options, string_ids
        self._filter = ClickFilter(options)
        self._filter.check(list(self._table.positions), str(self._table.path))

    def clicks(self) -> SparkClicks:
        say_columns(self._table, self._parts[0].name)
        rows = rows_of(self._work.spark, self._parts)
        if self._table.format != "parquet":
            rows = self._work.save(rows, "rows")  # lines are cut once
        self._require_line_order(rows)
        rows = rows.where("not header and not blank")
        users, items = (
            SqlIds(rows, kind, self._string_ids or self._table.is_token(kind))
            for kind in ("user", "item")
        )
        times = SqlTimes(rows) if "time" in rows.columns else None
        if not users.can_be_ids or not items.can_be_ids or (times and not times.can_be_times):
            self._judge()
        row = self._facts(rows, users, items, times)
        user_ids, item_ids = users.verdict(row), items.verdict(row)
        moments = times.verdict(row) if times else None
        if not (user_ids and item_ids) or (times and not moments):
            self._judge()
        assert user_ids is not None
        assert item_ids is not None
        return self._typed(rows, user_ids, item_ids, moments)

    def _judge(self) -> None:
        """Raise what the reader of one machine says of the log."""
        tables = [part.table for part in self._parts]
        require_clicks(tables, self._string_ids, self._options)
        raise SettingsError(
            f"{self._place}: holds rows that --engine spark does not read, such as cells in quotes "
            "that go over several lines; leave --engine out, or save the log as parquet with ids "
            "and times as integers or text"
        )

    def _require_line_order(self, rows: DataFrame) -> None:
        """One line of names a file, and blank lines at the end of files alone."""
        from pyspark.sql import functions as F  # noqa: N812

        at = F.struct("block", "row")
        facts = rows.groupBy("part").agg(
            F.count_if("header").alias("headers"),
            F.min(F.when(F.col("blank"), at)).alias("blank"),
            F.max(F.when(~F.col("blank"), at)).alias("last"),
        )
        headers = 1 if self._parts[0].header is not None else 0
        misplaced = facts.where(
            (F.col("headers") != headers) | F.coalesce(F.col("blank") < F.col("last"), F.lit(False))
        )
        if not misplaced.isEmpty():
            self._judge()

    def _facts(
        self, rows: DataFrame, users: SqlIds, items: SqlIds, times: SqlTimes | None
    ) -> Mapping[str, Any]:
        from pyspark.sql import functions as F  # noqa: N812

        facts = {
            "rows": F.count(F.lit(1)),
            "odd": F.count_if("odd"),
            **users.facts(),
            **items.facts(),
            **(times.facts() if times else {}),
        }
        if self._options.kinds:
            facts["other_kinds"] = F.count_if(~self._is_chosen_kind())
        if self._options.min_rating is not None:
            rating = self._rating(rows)
            facts["odd_ratings"] = F.count_if(rating.isNull() | F.isnan(rating))
            facts["low_ratings"] = F.count_if(
                (rating < self._options.min_rating) & self._is_chosen_kind()
            )
        all_facts = rows.agg(*(fact.alias(name) for name, fact in facts.items())).collect()[0]
        row: dict[str, Any] = all_facts.asDict()
        if not row["rows"]:
            raise DataError(no_clicks(self._place))
        if row["odd"] or row.get("odd_ratings"):
            self._judge()
        kinds = {}
        if "kind" in rows.columns:
            counts = rows.groupBy(_kind().alias("kind")).count()
            chosen_first = self._is_chosen_kind().desc()
            order = (chosen_first, F.desc("count"), "kind")
            largest = counts.orderBy(*order).limit(_MOST_KINDS).collect()
            kinds = {one["kind"]: one["count"] for one in largest}
        self._filter.count(kinds, row.get("other_kinds", 0), row.get("low_ratings", 0))
        return row

    def _rating(self, rows: DataFrame) -> Column:
        from pyspark.sql import functions as F  # noqa: N812

        if dict(rows.dtypes)["rating"] == "string":
            return number_of(F.col("rating"))
        return F.col("rating").cast("double")

    def _is_chosen_kind(self) -> Column:
        from pyspark.sql import functions as F  # noqa: N812

        return _kind().isin(*self._options.kinds) if self._options.kinds else F.lit(True)

    def _typed(
        self, rows: DataFrame, users: IdVerdict, items: IdVerdict, times: TimeVerdict | None
    ) -> SparkClicks:
        """The clicks that count, with ids and times as numbers where they are."""
        dropped, warnings = self._filter.finish()
        counting = rows.where(self._is_chosen_kind())
        if self._options.min_rating is not None:
            counting = counting.where(self._rating(rows) >= self._options.min_rating)
        columns = [users.column.alias("user"), items.column.alias("item")]
        columns += [times.column.alias("time")] if times else []
        frame = self._work.save(counting.select(*columns, *PLACE), "clicks")
        for kind, ids in (("user", users), ("item", items)):
            if ids.are_strings and (alike := _alike(frame, kind)):
                ids.warnings["alike"] = alike
        time_words = "no column: the order of lines is used"
        if times is not None:
            time_words, doubts = _words_of_times(frame, times)
            warnings += doubts
        of_ids = [*users.warnings.values(), *items.warnings.values()]
        logger.info("%s: time: %s", self._parts[0].name, time_words)
        return SparkClicks(
            frame,
            self._parts[0],
            "string" if users.are_strings else "int",
            "string" if items.are_strings else "int",
            dropped,
            [*self._table.doubts, *of_ids, *warnings],
            time_words,
        )


def _kind() -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    return stripped(F.coalesce(F.col("kind").cast("string"), F.lit("")))


def _alike(frame: DataFrame, kind: str) -> str:
    """The warning that ids differ in blanks and case alone, empty where none do."""
    from pyspark.sql import functions as F  # noqa: N812

    folded = F.lower(F.regexp_replace(F.col(kind), r"(?U)\s+", "")).alias("folded")
    alike = frame.select(kind, folded).distinct().groupBy("folded")
    several = alike.agg(F.sort_array(F.collect_list(kind)).alias("ids")).where("size(ids) > 1")
    row = several.agg(
        F.sum(F.size("ids")).alias("count"), F.min_by("ids", F.get("ids", F.lit(0))).alias("ids")
    ).collect()[0]
    return alike_ids(kind, row["count"], *row["ids"][:2]) if row["count"] else ""


def _words_of_times(frame: DataFrame, verdict: TimeVerdict) -> tuple[str, list[str]]:
    """How times were read, and why they may be none."""
    from pyspark.sql import functions as F  # noqa: N812

    row = frame.agg(
        F.max("time").alias("last"),
        F.count(F.lit(1)).alias("clicks"),
        F.approx_count_distinct("time").alias("distinct"),
    ).collect()[0]
    times = TimeColumn()
    few = row["distinct"] <= _FEW_TIMES
    values = {one["time"] for one in frame.select("time").distinct().collect()} if few else set()
    if not few or row["clicks"]:
        values |= {row["last"]}
    times.count(values, verdict.dates, verdict.zones)
    if not few:
        return times.words(), []
    pairs = frame.groupBy("user", "time").count().where("count > 1")
    return times.words(), times.doubts(row["clicks"], not pairs.isEmpty())
