# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Between the ids of calls, which are the log's own, and a model's numbers; items added later, too.

Numbers 1 … N are the model's rows. An item that was added to the index since has a number from 2^62
on, made of its id; where ids are numbers themselves, it has its id. A user tower has no row for
such an item: in a history it stands for the item of the model that is nearest to its vector.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from cachetools import TTLCache

from paddlerec_milvus.data.id_map import IdMap, Kind, OwnId
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.retrieval.base import MISSING_ID, FloatArray, IntArray, Neighbours

logger = logging.getLogger(__name__)

FIRST_NEW = 2**62  # numbers of items that the log does not have
LARGEST = 2**63 - 1
MOST_RESOLVED = 4_096  # ids of one request that may be new items: one call
ABSENT_SECONDS, MOST_ABSENT = (
    2.0,
    100_000,
)  # an id that is no item's is not looked up again for so long
_INT = re.compile(r"-?(0|[1-9][0-9]{0,18})")


def int_of(text: str) -> int | None:
    """The 64-bit integer that ``text`` is in its plain form: 7, but not 07 and not +7."""
    number = int(text) if _INT.fullmatch(text) else None
    return number if number is None or -LARGEST - 1 <= number <= LARGEST else None


def new_number(own: OwnId) -> int:
    """The number of an item that the log does not have; 0: no item can have this id."""
    if isinstance(own, int):
        return FIRST_NEW + own if 0 <= own < FIRST_NEW else 0
    digest = hashlib.blake2b(own.encode(), digest_size=8).digest()
    return FIRST_NEW + (int.from_bytes(digest, "big") >> 2)


@runtime_checkable
class NamedItems(Protocol):
    """A retriever that tells what it stores of single items."""

    def stored_vectors(self, ids: Sequence[int]) -> Mapping[int, FloatArray]:
        """The vectors [D] of those of ``ids`` that are stored."""
        ...

    def stored_names(self, ids: Sequence[int]) -> Mapping[int, str]:
        """The own ids of those of ``ids`` that were stored with one."""
        ...

    def search(
        self, queries: FloatArray, k: int, *, filter: str = "", consistency: str | None = None
    ) -> Neighbours:
        """The ``k`` nearest items of each of ``queries`` [n, D]."""
        ...


class ItemIds:
    """The ids of a model's ``total`` items, by the map ``ids`` of its prepared folder.

    Safe to use from several threads.
    """

    def __init__(self, ids: IdMap, total: int) -> None:
        self.kind: Kind = ids.kind
        self.total = total
        self._ids = ids
        self._retriever: NamedItems | None = None
        self._names: dict[int, str] = {}  # of new items with strings for ids
        self._stand_ins: dict[int, int] = {}
        self._absent: TTLCache[int, None] = TTLCache(MOST_ABSENT, ABSENT_SECONDS)
        self._lock = threading.Lock()

    @property
    def is_plain(self) -> bool:
        """Whether ids are the numbers 1 … ``total`` themselves."""
        return self._ids.is_identity

    def follow(self, retriever: object) -> None:
        """Look new items up in ``retriever`` from now on; those of another are forgotten."""
        with self._lock:
            self._retriever = retriever if isinstance(retriever, NamedItems) else None
            self._stand_ins, self._names = {}, {}
            self._absent.clear()

    def numbers(self, own_ids: Sequence[OwnId]) -> list[int]:
        """A number for each id, whether the model knows it or not; 0 for one that no item has."""
        if self._ids.is_identity:
            return [own if isinstance(own, int) else 0 for own in own_ids]
        known = map(self._ids.numbers.get, own_ids)
        return [
            new_number(own) if number is None else number
            for own, number in zip(own_ids, known, strict=True)
        ]

    def own_ids(self, numbers: Iterable[int]) -> list[OwnId | None]:
        """The id behind each number; None: nobody knows it."""
        if self._ids.is_identity:
            return list(numbers)
        own, last = self._ids.in_order, len(self._ids.in_order)
        return [own[number - 1] if 1 <= number <= last else self._new(number) for number in numbers]

    def _new(self, number: int) -> OwnId | None:
        """The id of an item that the model does not have."""
        if number < FIRST_NEW:
            return None
        return number - FIRST_NEW if self.kind == "int" else self._names.get(number)

    def written(self, *, as_text: bool) -> ItemIds | TextIds:
        """These ids as calls write them: themselves, or with ``as_text`` all of them as strings."""
        return TextIds(self) if as_text and self.kind == "int" else self

    def known(self, numbers: Sequence[int]) -> list[int]:
        """For each number the row of the model that it is in a history, 0 for none.

        Of new items those that have been looked up.
        """
        total, stand_ins = self.total, self._stand_ins
        return [number if 1 <= number <= total else stand_ins.get(number, 0) for number in numbers]

    def unresolved(self, numbers: Iterable[int]) -> list[int]:
        """Those of ``numbers`` that may be new items of which nothing is known here yet."""
        if self._retriever is None:
            return []
        with self._lock:
            fresh = {
                number
                for number in numbers
                if number > self.total
                and number not in self._stand_ins
                and number not in self._absent
            }
        return sorted(fresh)[:MOST_RESOLVED]

    def resolve(self, numbers: Sequence[int]) -> None:
        """Find which of ``numbers`` are new items, and what they stand for; asks the retriever.

        Where that fails, they are unknown for now.
        """
        retriever = self._retriever
        if retriever is None or not numbers:
            return
        try:
            vectors = retriever.stored_vectors(numbers)
            rows = self._nearest(retriever, list(vectors.values())) if vectors else []
        except UserError as error:
            logger.warning("new items of a history were not looked up: %s", type(error).__name__)
            return
        with self._lock:
            if retriever is self._retriever:
                self._stand_ins |= {n: row for n, row in zip(vectors, rows, strict=True) if row}
                for number in set(numbers) - set(vectors):
                    self._absent[number] = None

    def _nearest(self, retriever: NamedItems, vectors: Sequence[FloatArray]) -> list[int]:
        hits = retriever.search(np.stack(vectors), 1, filter=f"item <= {self.total}")
        return [0 if item == MISSING_ID else item for item in hits.ids[:, 0].tolist()]

    def name(self, number: int, own: OwnId) -> str:
        """What is stored beside a new item so that others find its id; empty: nothing need be."""
        return own if number >= FIRST_NEW and isinstance(own, str) else ""

    def changed(self, named: Mapping[int, OwnId]) -> None:
        """New items were stored, or items deleted: ``named`` are their ids by number."""
        with self._lock:
            for number, own in named.items():
                self._stand_ins.pop(number, None)
                self._absent.pop(number, None)
                if number >= FIRST_NEW and isinstance(own, str):
                    self._names[number] = own

    def clash(self, number: int, own: OwnId) -> OwnId | None:
        """Another item that has the number of ``own`` already."""
        other = self._names.get(number)
        return None if other == own else other

    def learn_names(self, *numbers: IntArray) -> None:
        """Ask the retriever for the ids of new items among ``numbers`` that are not known here."""
        retriever = self._retriever
        if self.kind == "int" or self._ids.is_identity or retriever is None:
            return
        fresh = {
            number
            for part in numbers
            for number in part[part >= FIRST_NEW].tolist()
            if number not in self._names
        }
        if fresh:
            names = retriever.stored_names(sorted(fresh))
            with self._lock:
                self._names |= names


class TextIds:
    """Ids as text, for a browser: JavaScript has no integers above 2^53."""

    def __init__(self, ids: ItemIds) -> None:
        self._ids = ids

    def numbers(self, own_ids: Sequence[OwnId]) -> list[int]:
        """See :meth:`ItemIds.numbers`; text that is no integer is no item's."""
        integers = [int_of(str(own)) for own in own_ids]
        numbers = iter(self._ids.numbers([one for one in integers if one is not None]))
        return [0 if one is None else next(numbers) for one in integers]

    def own_ids(self, numbers: Iterable[int]) -> list[OwnId | None]:
        """See :meth:`ItemIds.own_ids`; an id is written as text."""
        return [None if own is None else str(own) for own in self._ids.own_ids(numbers)]
