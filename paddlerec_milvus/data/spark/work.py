# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What Spark writes on its way: tables in a folder that driver and executors share.

A step that is written needs no step before it: an executor that is lost costs its own tasks alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


_WILDCARDS = str.maketrans({mark: f"\\{mark}" for mark in "\\*?[]{}"})


def literal(uri: str) -> str:
    """An address as Spark reads it, in which nothing is a wildcard."""
    return uri.translate(_WILDCARDS)


@dataclass(frozen=True)
class Workplace:
    """A folder of tables, and the session that writes them."""

    spark: SparkSession
    folder: Path

    def save(self, frame: DataFrame, name: str) -> DataFrame:
        """Write ``frame`` as the table ``name``; returns the table."""
        frame.write.mode("overwrite").parquet(self._uri(name))
        return self.spark.read.schema(frame.schema).parquet(literal(self._uri(name)))

    def table(self, name: str) -> DataFrame:
        """A table that was saved."""
        return self.spark.read.parquet(literal(self._uri(name)))

    def share(self, table: pl.DataFrame, name: str) -> DataFrame:
        """A table of the driver's for the executors."""
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        table.write_parquet(self.folder / name / "part-00000.parquet")
        return self.table(name)

    def fetch(self, frame: DataFrame, name: str) -> pl.DataFrame:
        """A small frame in the driver's memory, in any order."""
        schema = self.save(frame, name).schema
        parts = [part for part in self.parts(name) if part.height]
        if parts:
            return pl.concat(parts)
        kinds = {"string": pl.String, "double": pl.Float64}
        return pl.DataFrame(
            schema={field.name: kinds.get(field.dataType.typeName(), pl.Int64) for field in schema}
        )

    def parts(self, name: str) -> Iterator[pl.DataFrame]:
        """The parts of a saved table one after the other, in the order in which it was sorted."""
        for part in self._files(name):
            yield pl.read_parquet(part, glob=False)

    def lines(self, frame: DataFrame, name: str) -> list[Path]:
        """Write a sorted column of lines; returns the files whose contents follow each other."""
        frame.write.mode("overwrite").text(self._uri(name))
        return self._files(name)

    def ranked(self, frame: DataFrame, name: str, *order: str) -> DataFrame:
        """The frame, saved in the order of the columns ``order``, with a column rank from 0."""
        from pyspark.sql import functions as F  # noqa: N812

        frame = self.save(frame.orderBy(*order), name)
        frame = frame.select(
            "*",
            F.col("_metadata.file_name").alias("file"),
            F.col("_metadata.row_index").alias("place"),
        )
        sizes = {row["file"]: row["count"] for row in frame.groupBy("file").count().collect()}
        first, starts = 0, []
        for file in sorted(sizes):
            starts.append((file, first))
            first += sizes[file]
        if not starts:
            return frame.select("*", F.lit(0).cast("bigint").alias("rank")).drop("file", "place")
        firsts = F.broadcast(self.spark.createDataFrame(starts, "file string, first bigint"))
        ranked = frame.join(firsts, "file").withColumn("rank", F.col("first") + F.col("place"))
        return ranked.drop("file", "place", "first")

    def remove(self, name: str) -> None:
        """Make room: a table that nothing needs any more."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _uri(self, name: str) -> str:
        return f"file:{self.folder / name}"

    def _files(self, name: str) -> list[Path]:
        return sorted((self.folder / name).glob("part-*"))
