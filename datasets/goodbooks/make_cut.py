# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Make the demo's cut of goodbooks from the whole log, the same bytes each time.

    python datasets/goodbooks/make_cut.py --from goodbooks_mix

The whole log is a folder with interactions.csv (``uid,item,order``, no header) and items.csv
(``item,source_id,title,authors,year,…``). Users are drawn by a seed; then books of few readers and
users of few books are dropped until none is left of either, and the books are numbered from 1 by
falling popularity. No result of a model or a baseline has a part in it.
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
from pathlib import Path

import polars as pl

from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.demo.books import BOOKS, CLICKS

USERS = 6_000
ITEMS = 3_500
LEAST_CLICKS = 5  # of a user and of a book
SEED = 1230


def cut_of(clicks: pl.DataFrame, users: int = USERS, items: int = ITEMS) -> pl.DataFrame:
    """The clicks [n] of the most read ``items`` among ``users`` drawn ones, with their old ids.

    ``clicks`` and the result have the int columns uid, item and time, by user and time.
    """
    ids = sorted(clicks["uid"].unique().to_list())
    random.Random(SEED).shuffle(ids)
    cut = clicks.filter(pl.col("uid").is_in(ids[:users]))
    before = -1
    while cut.height != before:
        before = cut.height
        read = cut.group_by("item").len().sort(["len", "item"], descending=[True, False])
        read = read.filter(pl.col("len") >= LEAST_CLICKS).head(items)
        cut = cut.filter(pl.col("item").is_in(read["item"].to_list()))
        cut = cut.filter(pl.len().over("uid") >= LEAST_CLICKS)
    return cut.sort("uid", "time")


def numbered(cut: pl.DataFrame, items: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Clicks and books with the books' numbers: 1 is the most read one, the old id decides ties."""
    order = cut.group_by("item").len().sort(["len", "item"], descending=[True, False])
    numbers = order.select("item", number=pl.int_range(1, order.height + 1))
    clicks = cut.join(numbers, on="item", maintain_order="left")
    books = numbers.join(items, on="item", maintain_order="left")
    return (
        clicks.select("uid", item="number", time="time"),
        books.select("title", "authors", "year", item="number", goodbooks_10k="source_id").select(
            "item", "title", "authors", "year", "goodbooks_10k"
        ),
    )


def write(table: pl.DataFrame, file: Path) -> None:
    """``table`` as csv in a gzip without a name and a time."""
    with replacing(file) as fresh:
        fresh.write_bytes(gzip.compress(table.write_csv().encode(), 9, mtime=0))


def main() -> int:
    """Read the whole log, write the cut's two files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--from", dest="log", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=CLICKS.parent, metavar="DIR")
    arguments = parser.parse_args()
    names = ["uid", "item", "time"]
    clicks = pl.read_csv(arguments.log / "interactions.csv", has_header=False, new_columns=names)
    items = pl.read_csv(arguments.log / "items.csv", schema_overrides={"year": pl.String})
    clicks, books = numbered(cut_of(clicks), items)
    for table, file in ((clicks, CLICKS), (books, BOOKS)):
        write(table, arguments.out / file.name)
        size = (arguments.out / file.name).stat().st_size
        print(f"{arguments.out / file.name}: {table.height:,} rows, {size:,} bytes")
    print(f"{clicks['uid'].n_unique():,} users, {books.height:,} books, {clicks.height:,} clicks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
