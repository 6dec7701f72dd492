# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The rows of a log by Spark's SQL: lines cut into cells, and which of them one has to judge.

The columns are user, item and whichever of time, kind and rating there are, as they stand in the
file; ``part``, ``block`` and ``row``, which order rows as the files have them; and of lines
``header``, ``blank`` and ``odd``: a line that is not clean, whatever is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from paddlerec_milvus.data.log_table import JSON_LINES, LogTable
from paddlerec_milvus.data.spark.log_parts import LogPart
from paddlerec_milvus.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

PLACE = ("part", "block", "row")
"""The columns that order rows as the files have them."""

_STAND_IN = "\x1f"  # for a separator of several bytes
_JSON_TYPES = {
    pl.String: "string",
    pl.Int64: "bigint",
    pl.Float64: "double",
    pl.Boolean: "boolean",
}


def rows_of(spark: SparkSession, parts: Sequence[LogPart]) -> DataFrame:
    """The rows of a log's files, parts of one shape.

    Raises:
        DataError: parts that end their lines differently, or parquet of different types.
    """
    table = parts[0].table
    if table.format == "parquet":
        return _parquet_rows(spark, parts)
    if len({part.line_end for part in parts}) > 1:
        raise DataError(
            f"{table.path.parent}: some parts end their lines with CR alone, others do not; save "
            "them alike"
        )
    return _line_rows(spark, parts, table)


def _ordered(spark: SparkSession, frame: DataFrame, parts: Sequence[LogPart]) -> DataFrame:
    """With the number of the file that a row is of, and its line of names."""
    from pyspark.sql import functions as F  # noqa: N812

    names = [(part.encoded_name, number, part.header) for number, part in enumerate(parts)]
    of_file = spark.createDataFrame(names, "file string, number int, names string")
    frame = frame.join(F.broadcast(of_file), "file", "left")
    unknown = F.raise_error(F.concat(F.lit("rows of no file of the log: "), "file"))
    return frame.withColumn("part", F.coalesce("number", unknown.cast("int"))).drop(
        "file", "number"
    )


def _parquet_rows(spark: SparkSession, parts: Sequence[LogPart]) -> DataFrame:
    from pyspark.sql import functions as F  # noqa: N812

    table = parts[0].table
    read = spark.read.option("mergeSchema", len(parts) > 1)
    frame = read.parquet(*(part.pattern for part in parts)).select(
        *(F.col(_quoted(table.names[at])).alias(role) for role, at in table.positions.items()),
        F.col("_metadata.file_name").alias("file"),
        F.lit(0).cast("bigint").alias("block"),
        F.col("_metadata.row_index").alias("row"),
    )
    none = F.lit(False)
    flags = {"header": none, "blank": none, "odd": none}
    return _ordered(spark, frame, parts).drop("names").withColumns(flags)


def _quoted(name: str) -> str:
    doubled = name.replace("`", "``")
    return f"`{doubled}`"


def _line_rows(spark: SparkSession, parts: Sequence[LogPart], table: LogTable) -> DataFrame:
    from pyspark.sql import functions as F  # noqa: N812

    read = spark.read.option("lineSep", parts[0].line_end)
    frame = read.text([part.pattern for part in parts]).select(
        "value",
        F.col("_metadata.file_name").alias("file"),
        F.col("_metadata.file_block_start").alias("block"),
        F.monotonically_increasing_id().alias("row"),
    )
    frame = _ordered(spark, frame, parts)
    whole = F.is_valid_utf8("value") & ~F.contains("value", F.lit("\0"))
    line = F.when(F.endswith("value", F.lit("\r")), F.expr("left(value, length(value) - 1)"))
    frame = frame.withColumn("line", line.otherwise(F.col("value")))
    for inside in ("\r", "\n"):
        whole &= ~F.contains("line", F.lit(inside))
    cells, fits = (_json if table.format == JSON_LINES else _cells)(table)
    return frame.select(
        *(cell.alias(role) for role, cell in cells.items()),
        *PLACE,
        F.coalesce(F.col("line") == F.col("names"), F.lit(False)).alias("header"),
        (F.col("line") == "").alias("blank"),
        F.coalesce(~(whole & fits), F.lit(True)).alias("odd"),
    )


def _json(table: LogTable) -> tuple[dict[str, Column], Column]:
    """A role's column of the object in ``line``, and whether the object is as it should be."""
    from pyspark.sql import functions as F  # noqa: N812

    schema = ", ".join(f"{_quoted(name)} {_JSON_TYPES[kind]}" for name, kind in table.types.items())
    values = F.from_json("line", schema)
    cells = {role: values.getField(table.names[at]) for role, at in table.positions.items()}
    fits = F.col("line").rlike(r"^\s*\{.*\}\s*$")
    for role, cell in cells.items():
        if role != "rating":
            fits &= cell.isNotNull()
    return cells, fits


def _cells(table: LogTable) -> tuple[dict[str, Column], Column]:
    """A role's cell of the text in ``line``, null where empty, and whether the line is whole."""
    from pyspark.sql import functions as F  # noqa: N812

    line, mark = F.col("line"), table.separator
    if len(mark.encode()) > 1:
        line, mark = F.replace(line, F.lit(mark), F.lit(_STAND_IN)), _STAND_IN
    sep, other = re.escape(mark), f"[^{re.escape(mark)}]"
    quotes = r'"[^"]*+(?:""[^"]*+)*+"'
    marked = F.concat(F.lit(mark), line)
    # without a quote, which few logs have, a line is parted at the marks alone
    has_quotes = F.contains(line, F.lit('"'))
    parted = F.split(line, sep, -1)
    quoted = F.regexp_extract_all(marked, F.lit(f"{sep}({quotes}|{other}*)"), F.lit(1))
    whole = ~has_quotes | marked.rlike(f'^(?:{sep}(?:{quotes}|(?!"){other}*+))++$')
    cells = F.when(has_quotes, quoted).otherwise(parted)
    return (
        {role: _bare(F.get(cells, F.lit(at))) for role, at in table.positions.items()},
        whole & (F.size(cells) == len(table.names)),
    )


def _bare(cell: Column) -> Column:
    """Without the quotes around a cell; null where nothing is left."""
    from pyspark.sql import functions as F  # noqa: N812

    inner = F.substring(cell, F.lit(2), F.length(cell) - 2)
    inner = F.replace(inner, F.lit('""'), F.lit('"'))
    return F.nullif(F.when(F.startswith(cell, F.lit('"')), inner).otherwise(cell), F.lit(""))
