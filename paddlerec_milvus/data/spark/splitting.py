# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A log renumbered and split by Spark, as ``split_log`` does it, and its files written.

Items are in the driver's memory, and of users two numbers; clicks never are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from paddlerec_milvus.data.cuts import (
    Times,
    moments_of,
    place_of_last_tenth,
    require_held_out,
    split_of_rows,
)
from paddlerec_milvus.data.dataset import (
    TEST_FILE,
    TRAIN_FILE,
    VALID_FILE,
    SplitCounts,
    held_out_counts,
)
from paddlerec_milvus.data.files import HashedFile, Record, write_file
from paddlerec_milvus.data.item_times import CountedTimes
from paddlerec_milvus.data.prepared import USERS
from paddlerec_milvus.data.spark.work import Workplace
from paddlerec_milvus.data.split_choice import LEAVE_ONE_OUT, TIME, SplitChoice

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_PARTS = {"valid": (1, VALID_FILE), "test": (2, TEST_FILE)}
_BLOCK = 1 << 20


def cut_users(
    work: Workplace, clicks: DataFrame, choice: SplitChoice, seed: int, named: bool
) -> SplitChoice:
    """The table ``cuts``: user, its number ``uid``, and where its clicks are cut: those before
    ``train`` train; those before ``valid_history`` are the valid history, those from there to
    ``valid_end`` truths; likewise of test. Returns the choice with every moment.
    """
    from pyspark.sql import functions as F  # noqa: N812

    n = F.col("n")
    counted = [F.count(F.lit(1)).alias("n")]
    if choice.kind == TIME:
        choice, valid, test = _moments(work, clicks, choice)
        counted += [F.count_if(F.col("time") < valid).alias("early")]
        counted += [F.count_if(F.col("time") < test).alias("before")]
    users = work.ranked(clicks.groupBy("user").agg(*counted), "users", "user")
    users = users.withColumn("uid", F.col("rank" if named else "user"))
    if choice.kind == TIME:
        ends = [F.col("early"), F.col("early"), F.col("before"), F.col("before"), n]
    elif choice.kind == LEAVE_ONE_OUT:
        ends = [n - 2, n - 2, n - 1, n - 1, n]
    else:
        drawn = split_of_rows(users.count(), seed)
        table = pl.DataFrame({"rank": np.arange(len(drawn)), "split": drawn})
        users = users.join(work.share(table, "drawn"), "rank")
        history = (n * F.lit(0.8)).cast("bigint")
        ends = [_if_split(0, n)]
        for split in (1, 2):
            ends += [_if_split(split, history), _if_split(split, n)]
    names = ("train", "valid_history", "valid_end", "test_history", "test_end")
    columns = [end.cast("bigint").alias(name) for end, name in zip(ends, names, strict=True)]
    work.save(users.select("user", "uid", *columns), "cuts")
    return choice


def _if_split(split: int, value: Column) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    return F.when(F.col("split") == split, value).otherwise(0)


def _moments(
    work: Workplace, clicks: DataFrame, choice: SplitChoice
) -> tuple[SplitChoice, int, int]:
    ends = first_and_last(clicks) if "time" in clicks.columns else None
    return moments_of(ends, choice, lambda test: time_of_last_tenth(work, clicks, test))


def first_and_last(clicks: DataFrame) -> Times:
    """The first and the last time of a log that has times."""
    from pyspark.sql import functions as F  # noqa: N812

    return np.array(clicks.agg(F.min("time"), F.max("time")).collect()[0])


def time_of_last_tenth(work: Workplace, clicks: DataFrame, end: int) -> float:
    """The time from which on the last tenth of the clicks before the tick ``end`` lie."""
    from pyspark.sql import functions as F  # noqa: N812

    before = clicks.where(F.col("time") < end).select("time")
    place = place_of_last_tenth(before.count())
    ranked = work.ranked(before, "times", "time").where(F.col("rank") == place)
    return ranked.collect()[0]["time"]  # type: ignore[no-any-return]


def is_held_out(part: str) -> Column:
    """Whether a user of the table ``cuts`` is in valid or test."""
    from pyspark.sql import functions as F  # noqa: N812

    history, end = F.col(f"{part}_history"), F.col(f"{part}_end")
    return (history > 0) & (end > history)


def place_clicks(work: Workplace, clicks: DataFrame, order: tuple[str, ...]) -> DataFrame:
    """The table ``placed``: each click with its place among its user's, from 0, and their cuts."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    cuts = work.table("cuts")
    place = F.row_number().over(Window.partitionBy("user").orderBy(*order)) - 1
    placed = clicks.select("user", "item", place.alias("place"))
    return work.save(placed.join(cuts, "user").drop("user"), "placed")


def item_counts(work: Workplace, placed: DataFrame) -> pl.DataFrame:
    """Of each item its clicks, its train clicks, and how often it is a valid or a test truth."""
    from pyspark.sql import functions as F  # noqa: N812

    place = F.col("place")
    truths = [
        F.count_if(is_held_out(part) & (place >= F.col(f"{part}_history")) & (place < end)).alias(
            part
        )
        for part in _PARTS
        for end in [F.col(f"{part}_end")]
    ]
    counts = placed.groupBy("item").agg(
        F.count(F.lit(1)).alias("clicks"),
        F.count_if(place < F.col("train")).alias("train"),
        *truths,
    )
    return work.fetch(counts, "item_counts")


@dataclass(frozen=True)
class SparkSplit:
    """A split log whose clicks are in tables of Spark's, see SplitLog."""

    work: Workplace
    items: pl.DataFrame
    item_ids: str
    user_ids: str
    split: Mapping[str, str]
    notes: Mapping[str, Any]
    counts_by_item: pl.DataFrame  # of item_counts, with the number of each item
    counts_by_part: Mapping[str, int] = field(default_factory=dict)  # of user_counts
    item_times: CountedTimes | None = None  # of a split by time alone

    def counts(self) -> SplitCounts:
        """The sizes of the three parts, see SplitLog."""
        by_part, cold = self.counts_by_part, self.counts_by_item.filter(train=0)
        splits = {"train": {"users": by_part["train_users"], "clicks": by_part["train_clicks"]}}
        for part in _PARTS:
            users, history, truths = (
                by_part[f"{part}_{name}"] for name in ("users", "history", "truths")
            )
            splits[part] = held_out_counts(users, history, truths, int(cold[part].sum()))
        return SplitCounts(splits, cold.height)

    def user_rows(self) -> pl.DataFrame:
        """The users of the three parts, see SplitLog."""
        from pyspark.sql import functions as F  # noqa: N812

        cuts = self.work.table("cuts")
        of_parts = cuts.where((F.col("train") > 0) | is_held_out("valid") | is_held_out("test"))
        rows = of_parts.select(
            F.col("uid").alias("user"), F.col("user").cast("string").alias("source_id")
        )
        return self.work.fetch(rows, "user_rows").sort("user")

    def write(self, folder: Path) -> dict[str, Record]:
        """Write the three parts, see SplitLog."""
        from pyspark.sql import functions as F  # noqa: N812

        numbers = self.work.share(self.counts_by_item.select("item", "number"), "numbers")
        placed = self.work.table("placed").join(numbers, "item")
        train = placed.where("place < train").select("uid", "number", "place")
        line = F.concat_ws(",", "uid", "number", "place")
        lines = train.orderBy("uid", "place").select(line.alias("value"))
        files = {TRAIN_FILE: _joined(folder / TRAIN_FILE, self.work.lines(lines, "train"))}
        for part, (_, name) in _PARTS.items():
            lines = _held_out_lines(placed, part)
            files[name] = _joined(folder / name, self.work.lines(lines, part))
        return files

    def write_users(self, folder: Path) -> dict[str, Record]:
        """Write the ids of users, see SplitLog."""
        if self.user_ids == "int":
            return {}

        def fill(file: HashedFile) -> None:
            file.write(b"uid,source_id\n")
            first = 0
            for part in self.work.parts("users"):
                uids = np.arange(first, first + part.height)
                table = pl.DataFrame({"uid": uids, "source_id": part["user"]})
                file.write(table.write_csv(include_header=False).encode())
                first += part.height

        return {USERS: write_file(folder / USERS, fill)}


def _held_out_lines(placed: DataFrame, part: str) -> DataFrame:
    """``user_id:7 target_item:0 hist_item:3 … eval_item:9`` of the users of valid or test."""
    from pyspark.sql import functions as F  # noqa: N812

    history, end = F.col(f"{part}_history"), F.col(f"{part}_end")
    key = F.when(F.col("place") < history, F.lit("hist_item:")).otherwise(F.lit("eval_item:"))
    tokens = placed.where(is_held_out(part) & (F.col("place") < end)).select(
        "uid",
        F.struct("place", F.concat(key, F.col("number").cast("string")).alias("token")).alias("at"),
    )
    users = tokens.groupBy("uid").agg(F.sort_array(F.collect_list("at")).alias("at"))
    words = F.array_join(F.col("at.token"), " ")
    line = F.concat(F.lit("user_id:"), F.col("uid").cast("string"), F.lit(" target_item:0 "), words)
    return users.orderBy("uid").select(line.alias("value"))


def _joined(path: Path, parts: list[Path]) -> Record:
    """The contents of ``parts`` one after the other."""

    def fill(file: HashedFile) -> None:
        for part in parts:
            with part.open("rb") as content:
                while block := content.read(_BLOCK):
                    file.write(block)

    return write_file(path, fill)


def user_counts(work: Workplace, choice: SplitChoice) -> dict[str, int]:
    """Users, clicks, histories and truths of the three parts, and cold users of valid and test.

    DataError: a split by time without a valid or a test user.
    """
    from pyspark.sql import functions as F  # noqa: N812

    train, zero = F.col("train"), F.lit(0)
    sums = {"users": F.count(F.lit(1)), "train_users": F.count_if(train > 0)}
    sums["train_clicks"] = F.sum(train)
    for part in _PARTS:
        history, end, held_out = F.col(f"{part}_history"), F.col(f"{part}_end"), is_held_out(part)
        sums[f"{part}_users"] = F.count_if(held_out)
        sums[f"{part}_history"] = F.sum(F.when(held_out, history).otherwise(zero))
        sums[f"{part}_truths"] = F.sum(F.when(held_out, end - history).otherwise(zero))
        sums[f"{part}_cold"] = F.count_if((history == 0) & (end > 0))
    cuts = work.table("cuts")
    sizes = cuts.agg(*(value.alias(name) for name, value in sums.items())).collect()[0]
    row: dict[str, int] = sizes.asDict()
    if choice.kind == TIME:
        require_held_out(choice, row["valid_users"] > 0, row["test_users"] > 0)
    return row
