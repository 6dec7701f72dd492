# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Histories as callers have them, in the log's own ids, and as a model takes them, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from paddlerec_milvus.api.frames import SHOWN, Library, clicks_frame, library_of, plain
from paddlerec_milvus.data.id_map import IdMap, Kind, OwnId
from paddlerec_milvus.data.log_ids import IdColumn
from paddlerec_milvus.errors import DataError

_EXPECTED = (
    'expected one list of ids for each user, such as [["B001", "B007"], ["B003"]], a dict of user '
    "to ids, or a data frame with the columns user and item"
)


class Histories(NamedTuple):
    """Histories of B users, oldest click first."""

    users: list[OwnId]
    """[B]; numbers from 0 where the caller named nobody."""
    items: list[list[OwnId]]
    """[B], own ids."""
    library: Library | None = None
    """Whose data frame they came in."""
    named: bool = True
    """False: the users' numbers are places of a list, and no ids of the log."""


class KnownHistories(NamedTuple):
    """The same in numbers, of items that the model knows."""

    numbers: list[list[int]]
    """[B], from 1."""
    unknown: list[OwnId]
    """Ids that are none of the model's, in the order of their first click."""


def histories_of(
    value: Any, ids: IdMap, columns: Mapping[str, str] | None = None, what: str = "histories"
) -> Histories:
    """Histories from lists of ids, a mapping of users to such, or a data frame of clicks.

    ``ids`` says whether ids are ints or strings; a data frame's are made what they are.

    Raises:
        DataError: ``value`` is none of these, or an id is of another type than the log's.
    """
    library = library_of(value)
    if library is not None:
        return _of_clicks(clicks_frame(value, what, columns), ids.kind, library, what)
    if isinstance(value, Mapping):
        users, rows = list(map(plain, value)), list(value.values())
    elif isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes):
        users, rows = list(range(len(value))), list(value)
    else:
        raise DataError(f"{what} is a {type(value).__name__}; {_EXPECTED}")
    for user, row in zip(users, rows, strict=True):
        if isinstance(row, str | bytes) or not isinstance(row, Sequence | np.ndarray | pl.Series):
            raise DataError(f"{what}: {row!r:.{SHOWN}} of user {user!r} is no list; {_EXPECTED}")
    items = [[_own(item, ids.kind, what) for item in row] for row in rows]
    return Histories(users, items, named=isinstance(value, Mapping))


def known_histories(histories: Sequence[Sequence[OwnId]], ids: IdMap, total: int) -> KnownHistories:
    """The numbers 1 … ``total`` of the items that the model knows, and the ids that it does not."""
    numbers, unknown = [], dict[OwnId, None]()
    for history in histories:
        row = []
        for own in history:
            number = ids.number(own)
            if number is None or not 1 <= number <= total:
                unknown[own] = None
            else:
                row.append(number)
        numbers.append(row)
    return KnownHistories(numbers, list(unknown))


def _of_clicks(clicks: pl.DataFrame, kind: Kind, library: Library, what: str) -> Histories:
    items = own_column(clicks["item"], kind, "item", what)
    rows: dict[OwnId, list[OwnId]] = {}
    for user, item in zip(clicks["user"].to_list(), items.to_list(), strict=True):
        rows.setdefault(user, []).append(item)
    return Histories(list(rows), list(rows.values()), library)


def own_column(column: pl.Series, kind: Kind, role: str, what: str) -> pl.Series:
    """A column of ids as the log's are: Int64 or String.

    DataError: they are names, and the log has ints.
    """
    if kind == "string":
        return pl.Series(column.cast(pl.String))
    ids = IdColumn(role).parse(column, lambda row: f"{what}, row {row + 1}")
    if ids.dtype != pl.Int64:
        raise DataError(
            f"{what}: ids of {role}s are integers in the log, and here such as "
            f"{column[0]!r:.{SHOWN}}"
        )
    return ids


def _own(value: Any, kind: Kind, what: str) -> OwnId:
    """An id of a list. DataError: it is of the other kind."""
    value = plain(value)
    if kind == "int" and type(value) is int:
        return value
    if kind == "string" and isinstance(value, str):
        return value
    shown = f"{value!r:.{SHOWN}}"
    if kind == "string":
        hint = f': give "{value}", not {shown}' if type(value) is int else f", not {shown}"
        raise DataError(f"{what}: ids of items are strings in the log{hint}")
    hint = f": give {value}, not {shown}" if str(value).isdecimal() else f", not {shown}"
    raise DataError(f"{what}: ids of items are integers in the log{hint}")
