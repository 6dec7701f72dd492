# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A log as a source of ``prepare``, read, filtered and split by Spark: the same prepared folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from paddlerec_milvus.data.item_titles import read_titles_file
from paddlerec_milvus.data.read_log import notes_of, nothing_left, say_losses
from paddlerec_milvus.data.sources import (
    Identity,
    Interactions,
    Reviews,
    require_reviews,
    require_titles_of,
)
from paddlerec_milvus.data.spark.filters import filter_clicks, frequent_clicks
from paddlerec_milvus.data.spark.item_times import item_times
from paddlerec_milvus.data.spark.log_parts import checksum_of, is_address
from paddlerec_milvus.data.spark.reader import SparkClicks, read_clicks
from paddlerec_milvus.data.spark.session import spark_failures, spark_session
from paddlerec_milvus.data.spark.splitting import (
    SparkSplit,
    cut_users,
    item_counts,
    place_clicks,
    user_counts,
)
from paddlerec_milvus.data.spark.work import Workplace
from paddlerec_milvus.data.split import (
    by_popularity,
    is_filtered,
    item_table,
    require_min_count,
    require_users,
    split_notes,
)
from paddlerec_milvus.data.split_choice import BY_USERS, USERS, SplitChoice
from paddlerec_milvus.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@contextmanager
def spark_log(source: Interactions | Reviews, place: str, out: Path) -> Iterator[SparkLog]:
    """``source`` read by Spark from ``place``, while the session lasts.

    Tables on the way are in a hidden folder beside ``out``, which goes at the end.
    """
    folder = out.resolve().parent / f".{out.name}.spark"
    with spark_session() as spark:
        log = SparkLog(source, place, Workplace(spark, folder))
        try:
            with spark_failures(place):
                yield log
        finally:
            if log.began:
                shutil.rmtree(folder, ignore_errors=True)


@dataclass
class SparkLog:
    """A log of any format, here or at an address of Spark's."""

    source: Interactions | Reviews
    place: str
    work: Workplace
    began: bool = False  # else the folder may be that of another run, which goes on

    def identity(self) -> Identity:
        """That of the source, so that both engines know each other's folders; of an address the
        checksum is that of names, sizes and times of change."""
        if not is_address(self.place):
            return self.source.identity()
        named: Identity = {
            "file": PurePosixPath(self.place).name,
            "sha256": checksum_of(self.work.spark, self.place),
        }
        return self.source.identity_of(named)

    def dataset(self, seed: int, min_count: int, split: SplitChoice = BY_USERS) -> SparkSplit:
        """Read, filter and split, see Source."""
        self.began = True
        shutil.rmtree(self.work.folder, ignore_errors=True)  # of a run that was killed
        (self.work.folder / "copies" / "whole").mkdir(parents=True)
        strings = isinstance(self.source, Reviews) or self.source.string_ids
        read = read_clicks(self.work, self.place, strings, self.source.options)
        clicks, more = filter_clicks(self.work, read.frame, read.order, self.source.options)
        dropped = read.dropped | more
        say_losses(read.part.name, dropped, read.warnings)
        if clicks.isEmpty():
            raise DataError(nothing_left(self.place))
        if isinstance(self.source, Reviews):
            require_reviews(self.place, read.part.table.format)
        notes = notes_of(read.part.table, read.time_words, dropped, read.warnings)
        return self._split(read, clicks, seed, min_count, split, {"log": notes})

    def _split(
        self,
        read: SparkClicks,
        clicks: DataFrame,
        seed: int,
        min_count: int,
        choice: SplitChoice,
        notes: dict[str, Any],
    ) -> SparkSplit:
        """``split_log`` of the ``clicks`` that the filters left of those that were ``read``."""
        items = self._items(read.frame, clicks)
        titles = None
        if self.source.titles is not None:
            titles = read_titles_file(self.source.titles)
            require_titles_of(titles, items["item"], str(self.source.titles))
        require_min_count(min_count, choice.kind)
        users = read.frame.select("user").distinct().count()
        untouched = is_filtered(
            items["item"], items["clicks"].to_numpy(), _fewest(clicks, users), min_count
        )
        left = clicks if untouched else frequent_clicks(self.work, clicks, min_count)
        left_users, left_clicks = left.select("user").distinct().count(), left.count()
        require_users(left_users, users, min_count, choice.kind)
        named = read.user_ids == "string"
        choice = cut_users(self.work, left, choice, seed, named)
        by_part = user_counts(self.work, choice)
        counts = item_counts(self.work, place_clicks(self.work, left, read.order))
        counts = _numbered(
            items.select("item"), counts, "clicks" if choice.kind == USERS else "train"
        )
        before = (users, items.height, clicks.count())
        after = (left_users, counts.height, left_clicks)
        cold = (by_part["valid_cold"], by_part["test_cold"])
        return SparkSplit(
            self.work,
            item_table(counts["item"], titles),
            item_ids=read.item_ids,
            user_ids=read.user_ids,
            split=choice.identity(),
            notes=split_notes(before, after, cold, untouched) | notes,
            counts_by_item=counts,
            counts_by_part=by_part,
            item_times=item_times(self.work, left, choice, counts.select("item", "number")),
        )

    def _items(self, read: DataFrame, clicks: DataFrame) -> pl.DataFrame:
        """The sorted items that were ``read``, and how often each is in ``clicks``."""
        counts = self.work.fetch(
            clicks.groupBy("item").count().withColumnRenamed("count", "clicks"), "items"
        )
        if clicks is not read:
            items = self.work.fetch(read.select("item").distinct(), "all_items")
            counts = items.join(counts, "item", how="left").fill_null(0)
        return counts.sort("item")


def _fewest(clicks: DataFrame, users: int) -> int:
    """The clicks of the user with fewest; 0 where not all ``users`` have some."""
    row = clicks.groupBy("user").count().selectExpr("count(*)", "min(count)").collect()[0]
    return int(row[1]) if row[0] == users else 0


def _numbered(items: pl.DataFrame, counts: pl.DataFrame, by: str) -> pl.DataFrame:
    """The items with clicks by falling popularity, that is the column ``by``, and their numbers."""
    table = items.join(counts, "item", how="left", maintain_order="left")
    table = table.with_columns(pl.exclude("item").fill_null(0))
    order = by_popularity(table["clicks"].to_numpy() > 0, table[by].to_numpy())
    return table[order].with_columns(number=np.arange(1, len(order) + 1))
