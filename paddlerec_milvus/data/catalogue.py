# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What is known of the items beside their vectors: how many, titles, categories."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from paddlerec_milvus.data.item_titles import DETAILS
from paddlerec_milvus.data.packed_texts import (
    NO_NAME,
    PackedTexts,
    SharedTexts,
    SmallInts,
    smallest_ints,
)
from paddlerec_milvus.data.prepared import ITEMS, item_columns, read_column, read_items
from paddlerec_milvus.errors import DataError

logger = logging.getLogger(__name__)

IntArray = NDArray[np.int64]

_ACCENTS = re.compile("[\u0300-\u036f]")
_END = b"\n"


class Catalogue:
    """Items 1 … ``total``, 1 the most popular; ``titles`` and ``categories`` of those with one.

    Both are pairs of an item and its text. ``details``: authors and year of those that have them.
    Nothing changes after it is made: any thread may use it.
    """

    def __init__(
        self,
        total: int,
        titles: Iterable[tuple[int, str]] = (),
        categories: Iterable[tuple[int, str]] = (),
        details: Mapping[int, ItemDetails] | None = None,
    ) -> None:
        self.total = total
        self.titles = PackedTexts(titles, total)
        self.categories = SharedTexts(categories, total)
        self.details: Mapping[int, ItemDetails] = details or {}

    def category_sizes(self) -> list[tuple[str, int]]:
        """Each category and the number of its items, the largest first."""
        numbers, names = self.categories.by_number, self.categories.names
        sizes: list[int] = np.bincount(numbers[numbers >= 0], minlength=len(names)).tolist()
        pairs = zip(names, sizes, strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))

    def category_numbers(self, items: IntArray) -> IntArray:
        """A number for the category of each of ``items`` (any shape), -1 for those without one."""
        inside = (items >= 1) & (items <= self.total)
        numbers = self.categories.by_number[np.where(inside, items, 0)].astype(np.int64)
        return np.where(inside, numbers, NO_NAME)

    def items_of(self, categories: Collection[str]) -> IntArray:
        """The items of these categories, the most popular first."""
        numbers = np.flatnonzero([name in categories for name in self.categories.names])
        return np.flatnonzero(np.isin(self.categories.by_number, numbers))

    def search_titles(self, q: str, limit: int = 20) -> list[int]:
        """At most ``limit`` items with all words of ``q`` in title or authors, popular ones first.

        Case and accents do not count, and a word may be a part of one. Without a word: the most
        popular items, titled or not.
        """
        words = [word.encode("utf-8", "replace") for word in _folded(q).split()]
        if not words:
            return list(range(1, min(limit, self.total) + 1))
        titled, text, starts = self._searchable
        lines = list(islice(_lines_with(words, text), limit))
        items: list[int] = titled[np.searchsorted(starts, lines)].tolist()
        return items

    @cached_property
    def _searchable(self) -> tuple[SmallInts, bytes, SmallInts]:
        """Titled items by falling popularity, their folded words a line each, where lines start.

        Made by the first search: as large as all titles, and a service may never see one.
        """
        items, text = np.fromiter(self.titles, np.int64, len(self.titles)), bytearray()
        for item, title in self.titles.items():
            line = _folded(_line(title, self.details.get(item)))
            text += line.encode("utf-8", "replace") + _END
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(_END))
        starts = np.append(0, ends + 1)[: len(items)]
        return smallest_ints(items), bytes(text), smallest_ints(starts)


def read_catalogue(folder: Path | None, total: int) -> Catalogue:
    """What ``items.csv`` of a prepared folder says; without one nothing is known."""
    if folder is None or not (folder / ITEMS).is_file():
        return Catalogue(total)
    try:
        titles, categories = (read_column(folder, name) for name in ("title", "category"))
        details = {}
        if not {*DETAILS}.isdisjoint(item_columns(folder)):
            known = _details(folder).filter(pl.any_horizontal(pl.col(DETAILS) != ""))
            details = _by_item(known)
        return Catalogue(total, titles, categories, details)
    except DataError as error:
        logger.warning("no titles and no categories: %s", error)
        return Catalogue(total)


class ItemDetails(NamedTuple):
    """What can be shown of an item; "" where it is not known."""

    title: str
    authors: str
    """Names, parted by commas, the main one first."""
    year: str
    """Of the first edition; negative before Christ."""


def read_item_details(folder: Path) -> dict[int, ItemDetails]:
    """Title, authors and year of all items of a prepared folder; without an ``items.csv`` of none.

    A folder whose table of items had no such columns knows titles alone. DataError: damaged.
    """
    return _by_item(_details(folder)) if (folder / ITEMS).is_file() else {}


def _details(folder: Path) -> pl.DataFrame:
    """Columns item and those of ``ItemDetails``, "" where the table has no such column."""
    names, there = ItemDetails._fields, item_columns(folder)
    missing = [pl.lit("").alias(name) for name in names if name not in there]
    table = read_items(folder, [name for name in names if name in there])
    return table.with_columns(missing).select("item", *names)


def _by_item(details: pl.DataFrame) -> dict[int, ItemDetails]:
    return {item: ItemDetails(*known) for item, *known in details.iter_rows()}


def _line(title: str, details: ItemDetails | None) -> str:
    return " ".join(f"{title} {details.authors if details else ''}".split())


def _folded(text: str) -> str:
    """Without case and accents."""
    lower = text.casefold()
    if lower.isascii():
        return lower
    return _ACCENTS.sub("", unicodedata.normalize("NFKD", lower))


def _lines_with(words: Sequence[bytes], text: bytes) -> Iterator[int]:
    """Where the lines of ``text`` start that hold all ``words``.

    The next place of each word is looked for; the line of the furthest is the first that can hold
    all, so common words are skipped along with the rare one.
    """
    start = 0
    while True:
        hits = [text.find(word, start) for word in words]
        if min(hits) < 0:
            return
        line = text.rfind(_END, 0, max(hits)) + 1
        if min(hits) >= line:
            yield line
            start = text.find(_END, line) + 1
        else:
            start = line
