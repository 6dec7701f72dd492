# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Own ids: the log's, ints or strings, and the numbers that the files hold for them.

A prepared folder's files hold numbers. What its log called an item is in ``items.csv``, a user in
``users.csv`` where the log has strings for users (ints stay as they are); ``meta.json`` says which
of both kinds they are, as the text of an id does not tell ``7`` from ``"7"``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from paddlerec_milvus.data.files import read_bytes
from paddlerec_milvus.data.packed_texts import smallest_ints
from paddlerec_milvus.data.prepared import ITEMS, META, USERS, read_meta
from paddlerec_milvus.errors import DataError

Kind = Literal["int", "string"]
OwnId = int | str

FIRST_ITEM, FIRST_USER = 1, 0  # numbers in the files; 0 is no item but padding


class IdMap:
    """The own ids of items, or of users. Nothing changes after it is made: any thread may use it.

    ``own`` are the ids of the numbers ``first``, ``first`` + 1 …, all of ``kind``. Without them
    every int is its own number: so it is where a folder has no map. DataError: an id twice.
    """

    def __init__(
        self, kind: Kind = "int", own: Sequence[OwnId] | None = None, first: int = FIRST_ITEM
    ) -> None:
        self.kind: Kind = kind
        self._first = first
        self.is_identity = own is None or (
            kind == "int" and np.array_equal(own, first + np.arange(len(own)))
        )
        """Whether ids are the numbers themselves."""
        ids = () if own is None or self.is_identity else own
        self.in_order: Sequence[OwnId] = _packed(ids) if kind == "int" else ids
        """The ids of the numbers ``first`` …; empty where ids are the numbers."""
        self.numbers: Mapping[OwnId, int] = (
            _Numbers(self.in_order, first)
            if kind == "int"
            else {one: number for number, one in enumerate(ids, first)}
        )
        """The number of an id; empty where ids are the numbers."""
        if twice := len(self.in_order) - len(self.numbers):
            raise DataError(f"{twice} ids stand twice in an id map")

    def number(self, own: OwnId) -> int | None:
        """The number of an id, None: it is none of the map's, or of the other kind."""
        if self.is_identity:
            return own if isinstance(own, int) else None
        return self.numbers.get(own)

    def own(self, number: int) -> OwnId | None:
        """The id behind a number, None: there is none."""
        if self.is_identity:
            return number
        place = number - self._first
        return self.in_order[place] if 0 <= place < len(self.in_order) else None

    def own_ids(self, numbers: Iterable[int]) -> list[OwnId]:
        """The ids behind ``numbers``; DataError: one has none."""
        ids = list(map(self.own, numbers))
        if None in ids:
            raise DataError(f"{sum(one is None for one in ids)} numbers have no id in the id map")
        return ids  # type: ignore[return-value]


class _Numbers(Mapping[OwnId, int]):
    """The number of each of ``ids``, which are ints, in a sixth of a dict's memory."""

    def __init__(self, ids: Sequence[OwnId], first: int) -> None:
        own = np.asarray(ids, np.int64)
        order = np.argsort(own)
        self._ids, self._numbers = _packed(own[order]), _packed(first + order)
        self._count = len(np.unique(own))

    def __getitem__(self, own: OwnId) -> int:
        if isinstance(own, int):
            place = bisect_left(self._ids, own)
            if place < len(self._ids) and self._ids[place] == own:
                return self._numbers[place]
        raise KeyError(own)

    def __iter__(self) -> Iterator[OwnId]:
        return iter(self._ids)

    def __len__(self) -> int:
        return self._count


def _packed(ids: Sequence[OwnId] | NDArray[np.int64]) -> memoryview:
    return smallest_ints(np.asarray(ids, np.int64)).data


def read_item_ids(folder: Path | None) -> IdMap:
    """The ids of the items of a prepared folder; of one without meta.json they are the numbers.

    Raises:
        DataError: meta.json or items.csv is damaged, or of another format.
    """
    if folder is None or not (folder / META).exists():
        return IdMap()
    return _read(folder / ITEMS, "item", read_meta(folder)["ids"]["items"], FIRST_ITEM)


def read_user_ids(folder: Path | None) -> IdMap:
    """The ids of the users of a prepared folder; see :func:`read_item_ids`."""
    if folder is None or not (folder / META).exists() or user_kind(folder) == "int":
        return IdMap(first=FIRST_USER)
    return _read(folder / USERS, "uid", "string", FIRST_USER)


def user_kind(folder: Path | None) -> Kind:
    """The kind of the ids of users; int for a folder without meta.json."""
    if folder is None or not (folder / META).exists():
        return "int"
    kind: Kind = read_meta(folder)["ids"]["users"]
    return kind


def _read(path: Path, column: str, kind: Kind, first: int) -> IdMap:
    remedy = f"expected the columns {column} (from {first}, without a gap) and source_id"
    try:
        table = pl.read_csv(read_bytes(path), columns=[column, "source_id"], infer_schema=False)
        numbers = table[column].cast(pl.Int64).to_numpy()
        ids = table["source_id"].cast(pl.Int64) if kind == "int" else table["source_id"]
        if ids.has_nulls() or not np.array_equal(numbers, first + np.arange(len(numbers))):
            raise DataError(f"{path}: an empty id, or numbers that are not 1, 2 …; {remedy}")
        return IdMap(kind, ids.to_numpy().data if kind == "int" else ids.to_list(), first)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason}); {remedy}") from None
