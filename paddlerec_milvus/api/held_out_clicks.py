# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users to measure on, from data frames: what they clicked later, and what they had clicked."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from paddlerec_milvus.api.histories import Histories, histories_of, known_histories
from paddlerec_milvus.data.cuts import indptr_of
from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out
from paddlerec_milvus.data.id_map import IdMap, OwnId
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.data.prepared import Prepared
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.evaluation.report import OwnIds

NOBODY = -1  # the number of a user that the log does not have: no profile


def held_out_users(
    test: Any,
    history: Any,
    prepared: Prepared,
    ids: OwnIds,
    columns: Mapping[str, str] | None = None,
) -> HeldOutUsers:
    """The users of ``test`` [U], in the order of their first rows there, in numbers.

    ``test`` and ``history`` are clicks as :func:`histories_of` takes them; without ``history`` it
    is all clicks that ``prepared`` has of a user. A truth that is no item of the log has a number
    beyond all others: it stays in the denominator. Users without a known click in their history
    cannot be measured and are left out, with a warning.

    Raises:
        DataError: ``test`` cannot be read, or nobody is left.
    """
    later = histories_of(test, ids.items, columns, "test")
    users = [_number(user, ids.users) if later.named else NOBODY for user in later.users]
    total = prepared.item_count - 1
    if history is None:
        if not later.named:
            raise DataError(
                "test: lists do not say whose they are; give as many lists as history=…, or a "
                "dict of user to ids, or a data frame with the columns user and item"
            )
        clicks = logged_clicks(prepared)
        known = [clicks.get(number, []) for number in users]
    else:
        before = histories_of(history, ids.items, columns, "history")
        if before.named != later.named or (
            not later.named and len(before.users) != len(later.users)
        ):
            raise DataError(
                f"history: {len(before.users)} users, test: {len(later.users)}; both name their "
                "users, or both are lists of equal length, one for each user"
            )
        rows = known_histories(before.items, ids.items, total).numbers
        by_user = dict(zip(map(str, before.users), rows, strict=True))
        known = [by_user.get(str(user), []) for user in later.users]
    return _joined(users, known, _truths(later, ids.items, total))


def logged_clicks(prepared: Prepared) -> dict[int, list[int]]:
    """All clicks that a prepared folder has of each user, oldest first, by the user's number."""
    log = read_click_log(prepared.train_dir)
    parts = np.split(log.items, log.indptr[1:-1])
    clicks = dict(zip(log.user_ids.tolist(), map(np.ndarray.tolist, parts), strict=True))
    for part in (prepared.valid_dir, prepared.test_dir):
        users = read_held_out(part)
        rows = zip(users.user_ids.tolist(), users.history_list(), users.truth_list(), strict=True)
        for user, before, after in rows:
            if len(before) + len(after) > len(clicks.get(user, [])):
                clicks[user] = [*before.tolist(), *after.tolist()]
    return clicks


def _number(user: OwnId, users: IdMap) -> int:
    """The number of a user of the log, by the text of the id."""
    if users.kind == "string":
        number = users.number(str(user))
    else:
        text = str(user).removesuffix(".0")  # of a column with missing values
        number = int(text) if text.removeprefix("-").isdecimal() else None
    return NOBODY if number is None else number


def _truths(later: Histories, items: IdMap, total: int) -> list[list[int]]:
    """The numbers of ``later`` clicks; ids that are no item's from ``total`` + 1 on."""
    known = known_histories(later.items, items, total)
    strangers = dict(zip(known.unknown, itertools.count(total + 1)))
    rows = []
    for row in later.items:
        numbers = (strangers.get(own) or items.number(own) for own in row)
        rows.append([number for number in numbers if number is not None])
    return rows


def _joined(users: list[int], histories: list[list[int]], truths: list[list[int]]) -> HeldOutUsers:
    rows = [row for row, history in enumerate(histories) if history and truths[row]]
    if not rows:
        raise DataError(
            f"test: none of its {len(users)} users has a known click before; give their clicks "
            "as history=…, by the user ids of the log"
        )
    if left := len(users) - len(rows):
        warnings.warn(
            f"{left} of {len(users)} users have no known click before, and are not measured",
            stacklevel=4,
        )
    parts = [[histories[row] for row in rows], [truths[row] for row in rows]]
    flat = [np.array(list(itertools.chain(*part)), np.int64) for part in parts]
    ends = [indptr_of(np.array([len(one) for one in part], np.int64)) for part in parts]
    numbers = np.array([users[row] for row in rows], np.int64)
    return HeldOutUsers(numbers, ends[0], flat[0], ends[1], flat[1])
