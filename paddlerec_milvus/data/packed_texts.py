# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Texts of items by number in little memory: a dict of short strings takes five times as much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
SmallInts = NDArray[np.integer]

NO_NAME = -1
_ERRORS = "surrogatepass"  # what a log holds comes back as it was


def smallest_ints(values: IntArray) -> SmallInts:
    """``values`` in as few bytes each as hold all of them."""
    least, most = values.min(initial=0), values.max(initial=0)
    return values.astype(np.min_scalar_type(most if least == 0 else min(least, -most - 1)))


class _ByNumber(Mapping[int, str]):
    """A text for some of the numbers 1 … ``total``; nothing changes after it is made."""

    def __init__(self, total: int, count: int) -> None:
        self._total, self._count = total, count

    def _text(self, number: int) -> str:
        """Of a number from 1 to the total; "": it has none."""
        raise NotImplementedError

    def __getitem__(self, key: int) -> str:
        text = self._text(key) if 1 <= key <= self._total else ""
        if not text:
            raise KeyError(key)
        return text

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (number for number in range(1, self._total + 1) if self._text(number))


class PackedTexts(_ByNumber):
    """One after the other, for ``texts`` that are seldom the same: pairs of a number and a text.

    Numbers that are not 1 … ``total`` are left out, and "" is none.
    """

    def __init__(self, texts: Iterable[tuple[int, str]], total: int) -> None:
        joined = bytearray()
        starts, ends = np.zeros((2, total + 1), np.int64)
        for number, text in texts:
            if 1 <= number <= total and text:
                starts[number] = len(joined)
                joined += text.encode(errors=_ERRORS)
                ends[number] = len(joined)
        self._bytes = bytes(joined)
        self._starts, self._ends = smallest_ints(starts).data, smallest_ints(ends).data
        super().__init__(total, int(np.count_nonzero(ends)))

    def _text(self, number: int) -> str:
        return self._bytes[self._starts[number] : self._ends[number]].decode(errors=_ERRORS)


class SharedTexts(_ByNumber):
    """Each once, for ``texts`` that many numbers share; else as :class:`PackedTexts`.

    Attributes:
        names: each text, sorted.
        by_number: the place in ``names`` for the numbers 0 … total [total + 1], -1 for none.
    """

    def __init__(self, texts: Iterable[tuple[int, str]], total: int) -> None:
        numbers: dict[str, int] = {}
        by_number = np.full(total + 1, NO_NAME, np.int64)
        for number, text in texts:
            if 1 <= number <= total and text:
                by_number[number] = numbers.setdefault(text, len(numbers))
        self.names = sorted(numbers)
        places = {name: place for place, name in enumerate(self.names)}
        sorted_places = np.array([*map(places.__getitem__, numbers), NO_NAME], np.int64)
        self.by_number = smallest_ints(sorted_places)[by_number]  # the last is that of NO_NAME
        self._places = self.by_number.data
        super().__init__(total, int(np.count_nonzero(self.by_number != NO_NAME)))

    def _text(self, number: int) -> str:
        place = self._places[number]
        return self.names[place] if place != NO_NAME else ""
