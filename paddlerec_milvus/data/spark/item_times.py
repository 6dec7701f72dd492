# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""When items were clicked, counted by Spark: ``item_times.csv``, as one machine writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from paddlerec_milvus.data.cuts import tick_of, with_unit
from paddlerec_milvus.data.item_times import CountedTimes
from paddlerec_milvus.data.spark.splitting import first_and_last, time_of_last_tenth
from paddlerec_milvus.data.spark.work import Workplace
from paddlerec_milvus.data.split_choice import SplitChoice

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def item_times(
    work: Workplace, clicks: DataFrame, choice: SplitChoice, numbers: pl.DataFrame
) -> CountedTimes | None:
    """Of the train clicks of all ``clicks``, by the cuts of ``choice``; None: the split is another.

    ``numbers`` has a row for each item: item, as in ``clicks``, and its number.
    """
    from pyspark.sql import functions as F  # noqa: N812

    if choice.valid_from is None:
        return None
    _, ticks = with_unit(first_and_last(clicks))
    until = tick_of(choice.valid_from, ticks)
    window = until - time_of_last_tenth(work, clicks, until)
    before, last = until - 2 * window, until - window
    time = F.col("time")
    counts = (
        clicks.where(time < until)
        .groupBy("item")
        .agg(
            F.min(time).alias("first"),
            F.count_if(time < before).alias("earlier"),
            F.count_if((time >= before) & (time < last)).alias("before"),
            F.count_if(time >= last).alias("last"),
        )
    )
    frame = numbers.join(work.fetch(counts, "item_times"), "item").select(
        pl.col("number").alias("item"),
        pl.col("first").floordiv(ticks).cast(pl.Int64),
        "earlier",
        "before",
        "last",
    )
    return CountedTimes(frame.sort("item"), window / ticks)
