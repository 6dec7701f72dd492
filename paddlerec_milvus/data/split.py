# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Filter, renumber and split a raw log by users: the protocol of ComiRec.

Items with fewer than ``min_count`` clicks are dropped, then users with fewer than ``min_count``
remaining ones, one pass each and not iterated, so a kept item may end with a few clicks less.
Items are numbered from 1 by falling popularity. Users are sorted by id, shuffled with
``random.Random(seed)`` and cut 8:1:1. Of a held-out user's clicks the first 80 % are the history
and the rest the truths.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.data.dataset import Dataset
from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.log import ClickLog, Ints
from paddlerec_milvus.data.raw_log import RawLog
from paddlerec_milvus.errors import DataError, SettingsError

DEFAULT_SEED = 1230
DEFAULT_MIN_COUNT = 5
# A single pass over real logs leaves about 1 item in 10,000 below the limit (see already_filtered).
_LEFT_BELOW = 1000
_TRAIN, _VALID, _TEST = range(3)


def split_log(log: RawLog, seed: int = DEFAULT_SEED, min_count: int = DEFAULT_MIN_COUNT) -> Dataset:
    """Filter, renumber and split.

    Raises:
        SettingsError: ``min_count`` is below 2: a held-out user needs a history and a truth.
        DataError: too few users are left to fill three splits.
    """
    if min_count < 2:
        raise SettingsError(
            f"--min-count is {min_count}; expected 2 or more: a user needs a history and a truth"
        )
    untouched = already_filtered(log, min_count)
    keep = np.ones(len(log.users), bool) if untouched else frequent(log.users, log.items, min_count)
    users, items = log.users[keep], log.items[keep]
    clicks_of_user = np.bincount(users, minlength=len(log.user_ids))
    left_users = np.flatnonzero(clicks_of_user)
    part = split_of_rows(len(left_users), seed)
    if len(np.unique(part)) < 3:
        raise DataError(
            f"{len(left_users)} of {len(log.user_ids)} users are left after dropping items, then "
            f"users, with fewer than {min_count} clicks; a split into train, valid and test needs "
            "6 or more: give a larger log or a smaller --min-count"
        )
    number, source_rows = popularity_numbers(items, len(log.item_ids))
    named = log.user_ids.dtype == pl.String
    user_ids = np.arange(len(left_users)) if named else log.user_ids.to_numpy()[left_users]
    whole = _Clicks(user_ids.astype(np.int64), clicks_of_user[left_users], number[items])
    return Dataset(
        train=whole.only(part == _TRAIN).log(),
        valid=whole.only(part == _VALID).held_out(),
        test=whole.only(part == _TEST).held_out(),
        items=item_table(log.item_ids[source_rows], log.titles),
        users=pl.DataFrame({"uid": user_ids, "source_id": log.user_ids[left_users]})
        if named
        else None,
        item_ids="string" if log.item_ids.dtype == pl.String else "int",
        notes={
            "already_filtered": untouched,
            "dropped_users": len(log.user_ids) - len(left_users),
            "dropped_items": len(log.item_ids) - len(source_rows),
            "dropped_clicks": len(log.items) - len(items),
        },
    )


def frequent(users: Ints, items: Ints, min_count: int) -> npt.NDArray[np.bool_]:
    """Which clicks [n] survive: rare items first, then users who are rare without them."""
    frequent_item = np.bincount(items)[items] >= min_count
    clicks_of_user = np.bincount(users[frequent_item], minlength=int(users.max(initial=0)) + 1)
    return np.asarray(frequent_item & (clicks_of_user[users] >= min_count))


def already_filtered(log: RawLog, min_count: int) -> bool:
    """Whether the log is the output of this filter, which a second pass must not change.

    One pass over users can leave an item with fewer clicks than the limit, so filtering twice
    would drop it. An output shows by all of: integer item ids 1 … I without a gap, by falling
    popularity; no user below the limit; at most one item in a thousand below it.
    """
    counts = np.bincount(log.items, minlength=len(log.item_ids))
    if log.item_ids.dtype == pl.String or not len(counts):
        return False
    ids = log.item_ids.to_numpy()
    return bool(
        ids[0] == 1
        and ids[-1] == len(ids)
        and np.all(np.diff(counts) <= 0)
        and np.bincount(log.users).min() >= min_count
        and np.count_nonzero(counts < min_count) * _LEFT_BELOW <= len(counts)
    )


def popularity_numbers(items: Ints, size: int) -> tuple[Ints, Ints]:
    """Number items from 1 by falling clicks; the source's order decides ties.

    Returns:
        number [size] int64 of each source row (0: no click left), and the source rows [I] int64
        in the order of their numbers.
    """
    counts = np.bincount(items, minlength=size)
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    number = np.zeros(size, np.int64)
    number[order] = np.arange(1, len(order) + 1)
    return number, order


def split_of_rows(users: int, seed: int) -> npt.NDArray[np.int8]:
    """0 train, 1 valid, 2 test for each of the users [U] in the order of their ids."""
    rows = list(range(users))
    random.Random(seed).shuffle(rows)
    part = np.full(users, _TEST, np.int8)
    part[rows[: int(users * 0.9)]] = _VALID
    part[rows[: int(users * 0.8)]] = _TRAIN
    return part


def item_table(source_ids: pl.Series, titles: pl.DataFrame | None) -> pl.DataFrame:
    """Items 1 … I with their source's id, title and category; empty where unknown."""
    table = pl.DataFrame(
        {
            "item": np.arange(1, len(source_ids) + 1),
            "source_id": source_ids.cast(pl.String),
        }
    )
    if titles is None:
        return table.with_columns(title=pl.lit(""), category=pl.lit(""))
    known = titles.select("source_id", "title", "category").unique("source_id", keep="first")
    joined = table.join(known, on="source_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("title", "category").fill_null(""))


@dataclass(frozen=True)
class _Clicks:
    user_ids: Ints  # [U]
    lengths: Ints  # [U]
    items: Ints  # [n]

    def only(self, rows: npt.NDArray[np.bool_]) -> _Clicks:
        return _Clicks(
            self.user_ids[rows], self.lengths[rows], self.items[np.repeat(rows, self.lengths)]
        )

    def log(self) -> ClickLog:
        return ClickLog(self.user_ids, _indptr(self.lengths), self.items)

    def held_out(self) -> HeldOutUsers:
        return hold_out(self.log())


def hold_out(log: ClickLog) -> HeldOutUsers:
    """The first ``int(0.8 n)`` clicks of each user as history, the others as truths."""
    lengths = (log.lengths * 0.8).astype(np.int64)
    position = np.arange(len(log.items)) - np.repeat(log.indptr[:-1], log.lengths)
    past = position < np.repeat(lengths, log.lengths)
    return HeldOutUsers(
        user_ids=log.user_ids,
        history_indptr=_indptr(lengths),
        history=log.items[past],
        truth_indptr=_indptr(log.lengths - lengths),
        truths=log.items[~past],
    )


def _indptr(lengths: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
