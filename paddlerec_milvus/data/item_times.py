# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""When items were clicked, of a log that was split by time: ``item_times.csv``.

``item,first,earlier,before,last`` lines, with a header: the second since 1970 of an item's first
click, and its clicks in three stretches of time. The last one holds the last tenth of the train
clicks and ends where these end, the one before is as long, ``earlier`` is all time before both.

All of it is as of one moment, ``valid_from``, at which the train clicks end:

- The labels that a ranker learns from are the valid truths, all of them from ``valid_from`` on. So
  none of them is counted, and a user's list is made of what was known when it begins. (All valid
  users have train clicks, so no earlier place of their clicks is a list to learn from.)
- Test truths are from ``test_from`` on, later still. For their lists age and trend are as of
  ``valid_from`` as well: the vector model has seen no click after it, and what a ranker learned of
  them holds for a moment at which the train clicks end.
- A service ranks with the same table until there is a new one. An item without a train click is not
  in it: it is neither new nor rising.

The three counts of an item make its clicks in ``train/``. Where they do not, a later click was
counted (or one is missing), and the table is refused.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.data.cuts import Times, place_of_last_tenth, tick_of, with_unit
from paddlerec_milvus.data.files import read_bytes, sha256_of
from paddlerec_milvus.data.log import ClickLog, Ints
from paddlerec_milvus.data.prepared import ITEM_TIMES, META, read_meta
from paddlerec_milvus.data.split_choice import TIME, SplitChoice
from paddlerec_milvus.errors import DataError

COLUMNS = ("item", "first", "earlier", "before", "last")


class CountedTimes(NamedTuple):
    """The table of a log, and how long its last two stretches are."""

    frame: pl.DataFrame
    window: float
    """Seconds"""


class ItemTimes(NamedTuple):
    """When the items below V were clicked until the train clicks end; all arrays [V]."""

    age: npt.NDArray[np.float32]
    """Days from the first click to that moment; nan without a train click."""
    earlier: Ints
    """Clicks in all time before the last two stretches."""
    before: Ints
    last: Ints


def item_times(items: Ints, times: Times | None, choice: SplitChoice) -> CountedTimes | None:
    """Counted in the train clicks alone of all clicks on ``items`` [n], by the cuts of ``choice``.

    ``times`` [n] as for ``cuts_by_time``, which has set ``valid_from``; None: the split is another.
    What was clicked from there on changes nothing.
    """
    if times is None:
        return None
    assert choice.valid_from is not None  # of a split that was made
    values, ticks = with_unit(times)
    until = tick_of(choice.valid_from, ticks)
    early = values < until
    items, values = items[early], values[early]
    place = place_of_last_tenth(len(values))
    window = until - np.partition(values, place)[place].item()
    frame = (
        pl.DataFrame({"item": items, "time": values})
        .group_by("item")
        .agg(
            first=pl.col("time").min().floordiv(ticks).cast(pl.Int64),
            earlier=(pl.col("time") < until - 2 * window).sum().cast(pl.Int64),
            before=pl.col("time")
            .is_between(until - 2 * window, until - window, closed="left")
            .sum()
            .cast(pl.Int64),
            last=(pl.col("time") >= until - window).sum().cast(pl.Int64),
        )
        .sort("item")
    )
    return CountedTimes(frame, window / ticks)


def read_item_times(folder: Path, log: ClickLog, item_count: int) -> ItemTimes | None:
    """Of the prepared ``folder``, whose train clicks are ``log``; None: it has no such table.

    DataError: it is not the one that prepare.py wrote, cannot be read, or counts other clicks than
    those of ``log``: later ones would tell a ranker what it is to predict.
    """
    meta = read_meta(folder) if (folder / META).is_file() else {}
    record, split = meta.get("files", {}).get(ITEM_TIMES), meta.get("split", {})
    if record is None or split.get("kind") != TIME:
        return None
    path, again = folder / ITEM_TIMES, "prepare the folder again with --overwrite"
    if sha256_of(path) != record["sha256"]:
        raise DataError(f"{path}: is not the file that prepare.py wrote; {again}")
    until = datetime.fromisoformat(split["valid_from"].replace("Z", "+00:00")).timestamp()
    try:
        frame = pl.read_csv(read_bytes(path), schema=dict.fromkeys(COLUMNS, pl.Int64))
        item, first, *counts = (column.to_numpy() for column in frame)
        clicks = np.zeros((3, item_count), np.int64)
        clicks[:, item] = counts
    except (pl.exceptions.PolarsError, IndexError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}); {again}") from None
    differing = np.flatnonzero(clicks.sum(axis=0) != np.bincount(log.items, minlength=item_count))
    late = item[first >= until]
    if len(differing) or len(late):
        raise DataError(
            f"{path}: item {[*late, *differing][0]} has a click that is none of train/, from "
            f"{split['valid_from']} on perhaps: a ranker would learn from what it is to predict; "
            f"{again}"
        )
    age = np.full(item_count, np.nan, np.float32)
    age[item] = (until - first) / 86_400
    return ItemTimes(age, *clicks)
