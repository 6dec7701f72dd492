# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Filters over the whole log by Spark: repeated clicks, the k-core, rare items and users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddlerec_milvus.data.log_filters import REPEATED, outside
from paddlerec_milvus.data.log_options import LogOptions
from paddlerec_milvus.data.spark.work import Workplace

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def filter_clicks(
    work: Workplace, clicks: DataFrame, order: tuple[str, ...], options: LogOptions
) -> tuple[DataFrame, dict[str, int]]:
    """Without repeated clicks and cut to its k-core, and clicks dropped by reason."""
    dropped = {}
    if options.drop_repeats:
        before = clicks.count()
        clicks = work.save(_first_clicks(clicks, order), "first_clicks")
        dropped[REPEATED] = before - clicks.count()
    if options.k_core is not None:
        before = clicks.count()
        clicks = _k_core(work, clicks, options.k_core)
        dropped[outside(options.k_core)] = before - clicks.count()
    return clicks, dropped


def _first_clicks(clicks: DataFrame, order: tuple[str, ...]) -> DataFrame:
    """The first click of a user on an item, in time order."""
    from pyspark.sql import functions as F  # noqa: N812

    first = clicks.groupBy("user", "item").agg(F.min(F.struct(*order)).alias("first"))
    return first.select("user", "item", "first.*")


def _k_core(work: Workplace, clicks: DataFrame, k: int) -> DataFrame:
    """The largest part in which all users and all items have ``k`` clicks."""
    left, number = clicks.count(), 0
    while True:
        smaller = clicks
        for kind in ("user", "item"):
            smaller = smaller.join(_of_at_least(clicks, kind, k), kind, "left_semi")
        smaller = work.save(smaller, f"core_{number}")
        work.remove(f"core_{number - 1}")
        before, left = left, smaller.count()
        if left == before:
            return smaller
        clicks, number = smaller, number + 1


def frequent_clicks(work: Workplace, clicks: DataFrame, min_count: int) -> DataFrame:
    """Rare items are dropped first, then users who are rare without them."""
    of_items = clicks.join(_of_at_least(clicks, "item", min_count), "item", "left_semi")
    users = _of_at_least(of_items, "user", min_count)
    return work.save(of_items.join(users, "user", "left_semi"), "frequent")


def _of_at_least(clicks: DataFrame, kind: str, least: int) -> DataFrame:
    return clicks.groupBy(kind).count().where(f"count >= {least}").select(kind)
