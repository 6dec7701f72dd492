# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whether a new export is good enough to serve: beside the one that does, on the same users.

A measure passes where the lower end of the interval of new - old lies above its margin: so sure is
it that the new one is not worse than by that much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.id_map import IdMap
from paddlerec_milvus.errors import SettingsError, UserError
from paddlerec_milvus.evaluation.metrics import measures_by_user
from paddlerec_milvus.evaluation.replay import (
    MeasureChange,
    change_cells,
    change_of,
    users_needed,
)
from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.sampling import evenly_spread
from paddlerec_milvus.update.export_lists import ExportLists, OfferedLists
from paddlerec_milvus.update.traffic import named_number

FloatArray = npt.NDArray[np.float64]

INDEX_RECALL = "index_recall@50"
MARGINS: Mapping[str, float] = {"recall@50": -0.01, "ndcg@10": -0.01, INDEX_RECALL: 0.9}
"""By measure; that of the index is no margin but the least, of the lists that the service gives."""
SHOWN = "shown_"  # begins the measure of ranked lists
_MEASURE = re.compile(rf"({SHOWN})?(recall|ndcg|hitrate|mrr)@([1-9]\d*)")
LONGEST = 200
EXACT_PAIRS = 4_000_000_000  # of a user and an item; beyond these, fewer users
LEAST_USERS, MOST_RANKED = 1_000, 2_000


class GateError(UserError):
    """The new model is not good enough: nothing is switched."""


class GateRow(NamedTuple):
    """One measure of both exports."""

    name: str
    change: MeasureChange
    margin: float
    needed: int | None
    """About how many users would show a change of the margin's size; None: that cannot be told."""

    @property
    def passes(self) -> bool:
        """Whether it is sure that the new one is not worse than by the margin."""
        return self.change.change.low >= self.margin

    def reason(self, users: int) -> str:
        """Why it does not pass, in words."""
        gain = self.change.change
        interval = f"{100 * gain.low:+.2f} … {100 * gain.high:+.2f} points"
        worse = f"{self.name} of the new model less that of the old one: {interval}"
        if gain.high < self.margin:
            return f"{worse}, below the margin {100 * self.margin:+g}"
        more = "" if self.needed is None else f"; about {self.needed:,} users would tell"
        return (
            f"{worse} of {users:,} users: it may be below the margin {100 * self.margin:+g}{more}, "
            f"and --gate {self.name}={np.floor(1000 * gain.low) / 1000:g} would let it pass"
        )


def margins_of(words: Sequence[str]) -> dict[str, float]:
    """``recall@50=-0.01 …`` over the defaults; SettingsError: a word is no such pair."""
    margins = dict(MARGINS)
    for word in words:
        name, value = named_number(word)
        match = _MEASURE.fullmatch(name)
        in_range = 0 <= value <= 1 if name == INDEX_RECALL else -1 <= value <= 0
        if (match is None and name != INDEX_RECALL) or not in_range:
            raise SettingsError(
                f"--gate {word}: expected a measure and the most that it may fall, such as "
                f"recall@50=-0.01, ndcg@10=-0.005 or {SHOWN}ndcg@10=-0.01 (of ranked lists), or "
                f"{INDEX_RECALL}=0.9, the least that the index must find"
            )
        if match is not None and int(match[3]) > LONGEST:
            raise SettingsError(f"--gate {word}: lists are measured up to {LONGEST} items")
        margins[name] = value
    return margins


def gate_rows(
    new: ExportedModel,
    old: ExportedModel,
    users: HeldOutUsers,
    items: IdMap,
    margins: Mapping[str, float],
) -> tuple[list[GateRow], int]:
    """Both on the same ``users``, whose log calls its items ``items``; how many users that are."""
    names = [name for name in margins if name != INDEX_RECALL]
    if new.manifest.ranker and f"{SHOWN}ndcg@10" not in names:
        names.append(f"{SHOWN}ndcg@10")
    rank = any(name.startswith(SHOWN) for name in names)
    count = max(LEAST_USERS, EXACT_PAIRS // max(new.manifest.items, old.manifest.items))
    few = some_users(users, min(count, MOST_RANKED) if rank else count)
    item_count = 1 + max(new.manifest.items, few.largest_item())
    top_n = max(int(name.partition("@")[2]) for name in names)
    offered = [
        ExportLists(one, items, item_count).offered(few, top_n, rank=rank) for one in (old, new)
    ]
    rows = []
    for name in names:
        before, after = (_by_user(lists, few, name) for lists in offered)
        change = MeasureChange(**change_of(before, after))
        margin = margins.get(name, margins.get(name.removeprefix(SHOWN), -0.01))
        mean = float(before.mean())
        needed = users_needed(before, after, 100 * abs(margin) / mean) if mean and margin else None
        rows.append(GateRow(name, change, margin, needed))
    return rows, len(few)


def some_users(users: HeldOutUsers, count: int) -> HeldOutUsers:
    """At most ``count`` of ``users``, spread over all."""
    rows = evenly_spread(len(users), count)
    histories, truths = (
        [lists[row] for row in rows.tolist()]
        for lists in (users.history_list(), users.truth_list())
    )

    def ends(lists: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)

    return HeldOutUsers(
        users.user_ids[rows],
        ends(histories),
        np.concatenate(histories),
        ends(truths),
        np.concatenate(truths),
    )


def _by_user(lists: OfferedLists, users: HeldOutUsers, name: str) -> FloatArray:
    """[U] of the measure ``name``."""
    measure = name.removeprefix(SHOWN)
    rows = lists.candidates if measure == name else lists.shown
    top_n = int(measure.partition("@")[2])
    return measures_by_user(rows, users.truth_indptr, users.truths, top_n)[measure]


def gate_table(rows: Sequence[GateRow], users: int) -> str:
    """What was measured, with the verdict of each measure."""
    cells = [
        [
            row.name,
            *change_cells(row.change),
            f"{100 * row.margin:+g}",
            "passes" if row.passes else "fails",
        ]
        for row in rows
    ]
    head = [f"per cent, {users:,} users", "old", "new", "new - old", "its 95 % interval", "margin"]
    return tabulate(cells, [*head, ""], stralign="right", disable_numparse=True)
