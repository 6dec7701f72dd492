# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The histories of all users: those of a prepared folder, or of a parquet or csv.

Letters: U users, n clicks.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.api.frames import clicks_frame
from paddlerec_milvus.batch.shares import Share
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.id_map import FIRST_ITEM, IdMap, Kind, read_user_ids
from paddlerec_milvus.data.log import ClickLog, group_clicks, read_click_log
from paddlerec_milvus.data.log_columns import known_columns
from paddlerec_milvus.data.prepared import open_prepared
from paddlerec_milvus.errors import DataError

IntArray = npt.NDArray[np.int64]

LISTS = "items"  # the column of a file that has a row for each user
TYPES = {"int": pl.Int64, "string": pl.String}


class UserClicks(NamedTuple):
    """Users, none of them twice, and what they clicked, in the model's numbers."""

    users: pl.Series
    """[U], own ids: Int64 or String."""
    indptr: IntArray
    """[U + 1]"""
    items: IntArray
    """[n]; ``items[indptr[u]:indptr[u + 1]]`` are those of row u, oldest first."""
    profiles: IntArray
    """[U], numbers of the users in the prepared folder, -1: not of one."""
    unknown: int = 0
    """Clicks on items that the model does not know, which were left out."""

    @classmethod
    def of_rows(
        cls, users: pl.Series, rows: IntArray, numbers: IntArray, total: int, profiles: IntArray
    ) -> UserClicks:
        """Clicks on ``numbers`` [n] of the rising ``rows`` [n]; those on 1 … ``total`` count."""
        known = (numbers >= 1) & (numbers <= total)
        lengths = np.bincount(rows[known], minlength=len(users))
        indptr = np.append(0, np.cumsum(lengths)).astype(np.int64)
        return cls(users, indptr, numbers[known], profiles, int((~known).sum()))

    @property
    def kind(self) -> Kind:
        """What the ids of users are."""
        return "int" if self.users.dtype == pl.Int64 else "string"

    def with_clicks(self) -> UserClicks:
        """Those of the users who have a known click."""
        some = np.diff(self.indptr) > 0
        indptr = np.append(self.indptr[:-1][some], self.indptr[-1:])
        users, profiles = self.users.filter(pl.Series(some)), self.profiles[some]
        return self._replace(users=users, indptr=indptr, profiles=profiles)

    def history(self, row: int) -> IntArray:
        """The clicks of one user."""
        return self.items[self.indptr[row] : self.indptr[row + 1]]


def prepared_clicks(folder: Path, total: int, share: Share) -> UserClicks:
    """All clicks of the users of a prepared folder: train, and history and truths of the others.

    DataError: the folder, or a file of it, cannot be read.
    """
    log = _whole_log(folder)
    ids = read_user_ids(folder)
    users = pl.Series("user", ids.own_ids(log.user_ids.tolist()), TYPES[ids.kind])
    rows = np.repeat(np.arange(len(users)), log.lengths)
    return _of_share(users, rows, log.items, total, log.user_ids, share)


def _whole_log(folder: Path) -> ClickLog:
    """Users by rising number; one of several parts has the last one's clicks, which hold all."""
    prepared = open_prepared(folder)
    users, items = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for part in dict.fromkeys((prepared.test_dir, prepared.valid_dir)):
        others = read_held_out(part)
        past, later = np.diff(others.history_indptr), np.diff(others.truth_indptr)
        owners = [np.repeat(others.user_ids, past), np.repeat(others.user_ids, later)]
        _add(users, items, np.concatenate(owners), np.concatenate([others.history, others.truths]))
    log = read_click_log(prepared.train_dir)
    _add(users, items, np.repeat(log.user_ids, log.lengths), log.items)
    clicks = np.concatenate(users)
    return group_clicks(clicks, np.concatenate(items), np.zeros(len(clicks), np.int64))


def _add(users: list[IntArray], items: list[IntArray], owners: IntArray, clicked: IntArray) -> None:
    """Add the clicks of those ``owners`` who are not there."""
    fresh = ~np.isin(owners, np.concatenate(users))
    users.append(owners[fresh])
    items.append(clicked[fresh])


def file_clicks(file: Path, items: IdMap, users: Kind, total: int, share: Share) -> UserClicks:
    """The histories of a parquet or csv with a click a row, or with a user a row.

    A click a row: columns for user and item, in the order of a time, or of the rows. A user a row:
    the column ``items`` holds lists, or texts with ids between spaces. ``users`` is the kind of ids
    in a csv, which does not tell 7 from "7".

    DataError: it cannot be read, lacks a column, or names a user in two rows of the second kind.
    """
    lists = _lists_of(_read(file), users, file)
    own, column = lists["user"], lists[LISTS]
    flat = pl.DataFrame({"row": np.arange(len(own)), "item": column}).explode("item").drop_nulls()
    numbers = _numbers(flat["item"], items)
    profiles = np.full(len(own), -1, np.int64)
    return _of_share(own, flat["row"].to_numpy(), numbers, total, profiles, share)


def _of_share(
    users: pl.Series,
    rows: IntArray,
    numbers: IntArray,
    total: int,
    profiles: IntArray,
    share: Share,
) -> UserClicks:
    if share.total > 1:
        mine = share.holds(users.to_list())
        chosen = mine[rows]
        rows, numbers = (np.cumsum(mine) - 1)[rows[chosen]], numbers[chosen]
        users, profiles = users.filter(pl.Series(mine)), profiles[mine]
    return UserClicks.of_rows(users, rows, numbers, total, profiles)


def _read(file: Path) -> pl.DataFrame:
    if file.suffix not in (".parquet", ".csv"):
        raise DataError(f"--histories {file}: expected a file that ends in .parquet or .csv")
    try:
        if file.suffix == ".csv":
            return pl.read_csv(file, infer_schema=False)
        return pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"--histories {file}: cannot be read: {reason:.200}") from None


def _lists_of(frame: pl.DataFrame, users: Kind, file: Path) -> pl.DataFrame:
    """A row for each user: ``user`` and the list ``items``."""
    what = f"--histories {file}"
    if LISTS not in frame.columns:
        clicks = clicks_frame(frame, what).rename({"item": LISTS})
        clicks = clicks.with_columns(_own_users(clicks["user"], users, file))
        return clicks.group_by("user", maintain_order=True).agg(LISTS)
    place = known_columns(frame.columns).get("user")
    if place is None:
        raise DataError(f"{what}: has a column {LISTS} and none for users: call it user")
    own = frame.to_series(place).alias("user")
    if own.null_count():
        raise DataError(f"{what}: an empty user id in row {own.is_null().arg_max()}")
    own = _own_users(own, users, file)
    twice = own.filter(own.is_duplicated())
    if len(twice):
        raise DataError(
            f"{what}: user {twice[0]!r} stands in two rows, and which one counts? Leave one row "
            f"for each ({twice.n_unique():,} such users)"
        )
    lists = frame[LISTS]
    return pl.DataFrame([own, lists.str.extract_all(r"\S+") if lists.dtype == pl.String else lists])


def _own_users(users: pl.Series, kind: Kind, file: Path) -> pl.Series:
    """Ids as they are, of a csv those of the model's ``kind``; so 07 and 7 are one int."""
    if not users.dtype.is_integer() and users.dtype != pl.String:
        raise DataError(
            f"--histories {file}: ids of users are {users.dtype}: make them ints or texts"
        )
    ints = kind == "int" if file.suffix == ".csv" else users.dtype.is_integer()
    try:
        own: pl.Series = users.cast(pl.Int64 if ints else pl.String)
        return own
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"--histories {file}: the model's data have ints for users, and of these some are none "
            f"({str(error).splitlines()[0]:.100}); a .parquet says itself what they are"
        ) from None


def _numbers(own: pl.Series, ids: IdMap) -> IntArray:
    """The model's number for each id, 0: it has none."""
    typed = own.cast(TYPES[ids.kind], strict=False)
    if not ids.is_identity:
        own_ids = pl.Series("own", ids.in_order, TYPES[ids.kind])
        known = pl.DataFrame([own_ids]).with_row_index("number", FIRST_ITEM)
        rows = pl.DataFrame({"own": typed}).join(known, "own", "left", maintain_order="left")
        typed = rows["number"].cast(pl.Int64)
    numbers: IntArray = typed.fill_null(0).to_numpy()
    return numbers
