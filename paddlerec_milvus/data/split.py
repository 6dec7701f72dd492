# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Filter, renumber and split a raw log: by default ComiRec's protocol, a split by users.

Items with fewer than ``min_count`` clicks are dropped, then users with fewer than ``min_count``
remaining ones, one pass each and not iterated, so a kept item may end with a few clicks less.
Items are numbered from 1 by falling popularity. By users: these are sorted by id, shuffled with
``random.Random(seed)`` and cut 8:1:1; of a held-out user's clicks the first 80 % are the history
and the rest the truths. The other splits are described in ``cuts``. In those popularity is that
of the train clicks, so that not even the numbers tell what was clicked later.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.data.cuts import (
    Cuts,
    Times,
    cuts_by_time,
    cuts_by_users,
    cuts_leave_one_out,
    indptr_of,
)
from paddlerec_milvus.data.dataset import Dataset
from paddlerec_milvus.data.item_times import item_times
from paddlerec_milvus.data.item_titles import DETAILS
from paddlerec_milvus.data.log import ClickLog, Ints
from paddlerec_milvus.data.raw_log import RawLog
from paddlerec_milvus.data.split_choice import BY_USERS, LEAVE_ONE_OUT, TIME, USERS, SplitChoice
from paddlerec_milvus.errors import DataError, SettingsError

DEFAULT_SEED = 1230
DEFAULT_MIN_COUNT = 5
# A single pass over real logs leaves about 1 item in 10,000 below the limit (see already_filtered).
_LEFT_BELOW = 1000
_LEAST_CLICKS = {USERS: 2, LEAVE_ONE_OUT: 3, TIME: 2}  # of a user: history and truths
_LEAST_USERS = {USERS: 6, LEAVE_ONE_OUT: 1, TIME: 1}


def split_log(
    log: RawLog,
    seed: int = DEFAULT_SEED,
    min_count: int = DEFAULT_MIN_COUNT,
    choice: SplitChoice = BY_USERS,
) -> Dataset:
    """Filter, renumber and split.

    Raises:
        SettingsError: ``min_count`` is too small for a held-out user to have a history and truths.
        DataError: too few users are left to fill three splits; by time, see ``cuts_by_time``.
    """
    require_min_count(min_count, choice.kind)
    untouched = already_filtered(log, min_count)
    keep = np.ones(len(log.users), bool) if untouched else frequent(log.users, log.items, min_count)
    users, items = log.users[keep], log.items[keep]
    clicks_of_user = np.bincount(users, minlength=len(log.user_ids))
    left_users = np.flatnonzero(clicks_of_user)
    require_users(len(left_users), len(log.user_ids), min_count, choice.kind)
    lengths = clicks_of_user[left_users]
    times = None if log.times is None or choice.kind != TIME else log.times[keep]
    cuts, choice = _cuts(choice, lengths, seed, times)
    named = log.user_ids.dtype == pl.String
    user_ids = np.arange(len(left_users)) if named else log.user_ids.to_numpy()[left_users]
    whole = ClickLog(user_ids.astype(np.int64), indptr_of(lengths), items)
    counted = items if choice.kind == USERS else cuts.train_log(whole).items
    number, source_rows = popularity_numbers(items, len(log.item_ids), counted)
    whole = ClickLog(whole.user_ids, whole.indptr, number[items])
    return Dataset(
        train=cuts.train_log(whole),
        valid=cuts.valid.held_out(whole),
        test=cuts.test.held_out(whole),
        items=item_table(log.item_ids[source_rows], log.titles),
        users=_user_table(user_ids, log.user_ids[left_users]) if named else None,
        item_ids="string" if log.item_ids.dtype == pl.String else "int",
        split=choice.identity(),
        notes=split_notes(
            (len(log.user_ids), len(log.item_ids), len(log.items)),
            (len(left_users), len(source_rows), len(items)),
            (cuts.valid.cold_users, cuts.test.cold_users),
            untouched,
        ),
        item_times=item_times(whole.items, times, choice),
    )


def _user_table(user_ids: Ints, source_ids: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"uid": user_ids, "source_id": source_ids})


def require_min_count(min_count: int, kind: str) -> None:
    """SettingsError: a user of ``min_count`` clicks cannot be held out in a split of ``kind``."""
    least = _LEAST_CLICKS[kind]
    if min_count < least:
        raise SettingsError(
            f"--min-count is {min_count}; expected {least} or more: with --split {kind} a "
            "user needs a history and a truth"
            + (" in valid and in test" if kind == LEAVE_ONE_OUT else "")
        )


def require_users(left: int, users: int, min_count: int, kind: str) -> None:
    """DataError: the users that are ``left`` do not fill a split of ``kind``."""
    if left < _LEAST_USERS[kind]:
        raise DataError(
            f"{left} of {users} users are left after dropping items, then "
            f"users, with fewer than {min_count} clicks; a split into train, valid and test needs "
            f"{_LEAST_USERS[kind]} or more: give a larger log or a smaller --min-count"
        )


def split_notes(
    before: tuple[int, int, int],
    after: tuple[int, int, int],
    cold: tuple[int, int],
    untouched: bool,
) -> dict[str, int | bool]:
    """Counts for meta.json: users, items and clicks before and after filtering, cold users of valid
    and of test, and whether nothing was filtered."""
    dropped = [many - few for many, few in zip(before, after, strict=True)]
    return {
        "users": after[0],
        "clicks": after[2],
        "valid_cold_users": cold[0],
        "test_cold_users": cold[1],
        "already_filtered": untouched,
        "dropped_users": dropped[0],
        "dropped_items": dropped[1],
        "dropped_clicks": dropped[2],
    }


def _cuts(
    choice: SplitChoice, lengths: Ints, seed: int, times: Times | None
) -> tuple[Cuts, SplitChoice]:
    """The cuts of the chosen split, and the choice with every moment that it left open."""
    if choice.kind == TIME:
        return cuts_by_time(lengths, times, choice)
    if choice.kind == LEAVE_ONE_OUT:
        return cuts_leave_one_out(lengths), choice
    return cuts_by_users(lengths, seed), choice


def frequent(users: Ints, items: Ints, min_count: int) -> npt.NDArray[np.bool_]:
    """Which clicks [n] survive: rare items first, then users who are rare without them."""
    frequent_item = np.bincount(items)[items] >= min_count
    clicks_of_user = np.bincount(users[frequent_item], minlength=int(users.max(initial=0)) + 1)
    return np.asarray(frequent_item & (clicks_of_user[users] >= min_count))


def already_filtered(log: RawLog, min_count: int) -> bool:
    """Whether the log is the output of this filter, which a second pass must not change.

    One pass over users can leave an item with fewer clicks than the limit, so filtering twice
    would drop it.
    """
    counts = np.bincount(log.items, minlength=len(log.item_ids))
    users = np.bincount(log.users, minlength=len(log.user_ids))
    return is_filtered(log.item_ids, counts, int(users.min(initial=min_count)), min_count)


def is_filtered(item_ids: pl.Series, counts: Ints, fewest: int, min_count: int) -> bool:
    """Whether a log is an output of this filter, by all of: integer item ids 1 … I without a gap,
    by falling popularity; no user below the limit; at most one item in a thousand below it.

    ``counts`` [I] are the clicks of the sorted ``item_ids``, ``fewest`` those of some user.
    """
    if item_ids.dtype == pl.String or not len(counts):
        return False
    ids = item_ids.to_numpy()
    return bool(
        ids[0] == 1
        and ids[-1] == len(ids)
        and np.all(np.diff(counts) <= 0)
        and fewest >= min_count
        and np.count_nonzero(counts < min_count) * _LEFT_BELOW <= len(counts)
    )


def popularity_numbers(items: Ints, size: int, counted: Ints) -> tuple[Ints, Ints]:
    """Number the distinct ones of ``items`` from 1 by falling clicks among ``counted``.

    The source's order decides ties.

    Returns:
        number [size] int64 of each source row (0: no click left), and the source rows [I] int64
        in the order of their numbers.
    """
    order = by_popularity(
        np.bincount(items, minlength=size) > 0, np.bincount(counted, minlength=size)
    )
    number = np.zeros(size, np.int64)
    number[order] = np.arange(1, len(order) + 1)
    return number, order


def by_popularity(clicked: npt.NDArray[np.bool_], counts: Ints) -> Ints:
    """The rows of ``clicked`` items by falling ``counts`` [size]; their order decides ties."""
    order = np.argsort(-np.where(clicked, counts, -1), kind="stable")
    return order[: np.count_nonzero(clicked)]


def item_table(source_ids: pl.Series, titles: pl.DataFrame | None) -> pl.DataFrame:
    """Items 1 … I with their source's id and what ``titles`` holds of them; empty where unknown."""
    table = pl.DataFrame(
        {
            "item": np.arange(1, len(source_ids) + 1),
            "source_id": source_ids.cast(pl.String),
        }
    )
    if titles is None:
        return table.with_columns(title=pl.lit(""), category=pl.lit(""))
    columns = ["title", "category", *(name for name in DETAILS if name in titles.columns)]
    known = titles.select("source_id", *columns).unique("source_id", keep="first")
    joined = table.join(known, on="source_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col(columns).fill_null(""))
