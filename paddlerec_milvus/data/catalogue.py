# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What is known of the items beside their vectors: how many, titles, categories."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddlerec_milvus.data.item_titles import DETAILS
from paddlerec_milvus.data.prepared import ITEMS, read_categories, read_items, read_titles
from paddlerec_milvus.errors import DataError

logger = logging.getLogger(__name__)

IntArray = NDArray[np.int64]

NO_CATEGORY = -1
_ACCENTS = re.compile("[\u0300-\u036f]")
_END = b"\n"


class Catalogue:
    """Items 1 … ``total``, 1 the most popular; ``titles`` and ``categories`` of those with one.

    ``details``: authors and year of those that have them.
    Nothing changes after it is made: any thread may use it.
    """

    def __init__(
        self,
        total: int,
        titles: Mapping[int, str] | None = None,
        categories: Mapping[int, str] | None = None,
        details: Mapping[int, ItemDetails] | None = None,
    ) -> None:
        self.total = total
        self.titles: Mapping[int, str] = titles or {}
        self.categories: Mapping[int, str] = categories or {}
        self.details: Mapping[int, ItemDetails] = details or {}
        self._category_numbers, self._by_item = _numbered(self.categories, total)
        words = dict(self.titles)
        for item in words.keys() & self.details.keys():
            words[item] += f" {self.details[item].authors}"
        self._titled, self._text, self._starts = _searchable(words, total)

    def category_sizes(self) -> list[tuple[str, int]]:
        """Each category and the number of its items, the largest first."""
        numbers, known = self._by_item, len(self._category_numbers)
        sizes: list[int] = np.bincount(numbers[numbers >= 0], minlength=known).tolist()
        pairs = zip(self._category_numbers, sizes, strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))

    def category_numbers(self, items: IntArray) -> IntArray:
        """A number for the category of each of ``items`` (any shape), -1 for those without one."""
        inside = (items >= 1) & (items <= self.total)
        return np.where(inside, self._by_item[np.where(inside, items, 0)], NO_CATEGORY)

    def items_of(self, categories: Collection[str]) -> IntArray:
        """The items of these categories, the most popular first."""
        numbers = [self._category_numbers.get(name, NO_CATEGORY) for name in categories]
        known = np.array([number for number in numbers if number != NO_CATEGORY], np.int64)
        return np.flatnonzero(np.isin(self._by_item, known))

    def search_titles(self, q: str, limit: int = 20) -> list[int]:
        """At most ``limit`` items with all words of ``q`` in title or authors, popular ones first.

        Case and accents do not count, and a word may be a part of one. Without a word: the most
        popular items, titled or not.
        """
        words = [word.encode("utf-8", "replace") for word in _folded(q).split()]
        if not words:
            return list(range(1, min(limit, self.total) + 1))
        lines = list(islice(_lines_with(words, self._text), limit))
        items: list[int] = self._titled[np.searchsorted(self._starts, lines)].tolist()
        return items


def read_catalogue(folder: Path | None, total: int) -> Catalogue:
    """What ``items.csv`` of a prepared folder says; without one nothing is known."""
    if folder is None or not (folder / ITEMS).is_file():
        return Catalogue(total)
    try:
        details = {
            item: one for item, one in read_item_details(folder).items() if one.authors or one.year
        }
        return Catalogue(total, read_titles(folder), read_categories(folder), details)
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
    if not (folder / ITEMS).is_file():
        return {}
    table = read_items(folder)
    names = ["title", *DETAILS]
    known = [table[name] if name in table.columns else [""] * table.height for name in names]
    rows = zip(*known, strict=True)
    return dict(zip(table["item"].to_list(), map(ItemDetails._make, rows), strict=True))


def _numbered(categories: Mapping[int, str], total: int) -> tuple[dict[str, int], IntArray]:
    """A number for each name, and the number of each item [total + 1], -1 for none."""
    by_item = np.full(total + 1, NO_CATEGORY, np.int64)
    known = {item: name for item, name in categories.items() if 1 <= item <= total}
    numbers = {name: number for number, name in enumerate(sorted(set(known.values())))}
    by_item[list(known)] = [numbers[name] for name in known.values()]
    return numbers, by_item


def _searchable(titles: Mapping[int, str], total: int) -> tuple[IntArray, bytes, IntArray]:
    """Titled items by falling popularity, their folded titles a line each, where lines start."""
    items = sorted(item for item in titles if 1 <= item <= total)
    text = "".join(" ".join(titles[item].split()) + "\n" for item in items)
    folded = _folded(text).encode("utf-8", "replace")
    ends = np.flatnonzero(np.frombuffer(folded, np.uint8) == ord(_END))
    starts = np.append(0, ends + 1)[: len(items)]
    return np.array(items, np.int64), folded, starts


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
