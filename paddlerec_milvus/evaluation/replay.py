# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Two configurations, A and B, over the same held-out users: what differs, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.metrics import measures_by_user
from paddlerec_milvus.evaluation.results import EvaluationResult, Gain
from paddlerec_milvus.evaluation.statistics import paired_bootstrap, standard_error
from paddlerec_milvus.retrieval.base import MISSING_ID

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

RESAMPLES = 2_000
FEW = 5  # clicks of a history, of users with few
BOTH_QUANTILES = 1.96 + 0.84  # of the normal distribution: level 5 % on two sides, power 80 %


class ReplaySide(EvaluationResult):
    """One of two configurations, and what of it answered."""

    words: str
    """Its options as they were typed."""
    model: str
    epoch: int
    retriever: str
    """``exact``, or the uri of Milvus."""
    ranker: str | None
    """Which ranker, 16 hex digits; None: the vector model's own order."""
    settings: dict[str, Any]


class MeasureChange(EvaluationResult):
    """A measure's mean over users by A and by B, and B - A."""

    a: float
    b: float
    change: Gain


class ListOverlap(EvaluationResult):
    """How alike lists are at one length."""

    differing: int
    """Users whose lists differ, in their items or in their order."""
    overlap: float
    """The mean over users of the share of items that both lists have."""


class GroupChange(MeasureChange):
    """The same of some of the users."""

    title: str
    users: int


class ReplayReport(EvaluationResult):
    """All that is measured of two configurations."""

    format: Literal[1] = 1
    held_out: str
    """Whom the lists are measured on, in words."""
    data: str
    """Fingerprint of the data."""
    users: int
    a: ReplaySide
    b: ReplaySide
    measures: dict[str, MeasureChange]
    """By names such as ``ndcg@10``."""
    overlap: dict[int, ListOverlap]
    """By length of the list."""
    groups: list[GroupChange]
    """Of the measure that decides."""
    decides: str
    """The measure that the verdict is by."""
    verdict: str
    versions: dict[str, str]
    machine: dict[str, Any]


class ListComparison:
    """Lists ``a`` and ``b`` [U, N] of the same ``users``, short ones ending with -1."""

    def __init__(
        self, a: IntArray, b: IntArray, users: HeldOutUsers, lengths: Sequence[int]
    ) -> None:
        """The first of ``lengths`` decides. SettingsError: the lists are not of these users."""
        if not len(a) == len(b) == len(users):
            raise SettingsError(f"{len(a)} lists by A and {len(b)} by B of {len(users)} users")
        self._lists, self._users, self._lengths = (a, b), users, lengths
        self.decides = f"ndcg@{lengths[0]}"
        self._values = [self._by_user(lists) for lists in self._lists]

    def _by_user(self, lists: IntArray) -> dict[str, FloatArray]:
        values: dict[str, FloatArray] = {}
        for top_n in self._lengths:
            values |= measures_by_user(lists, self._users.truth_indptr, self._users.truths, top_n)
        return values

    def measures(self) -> dict[str, MeasureChange]:
        """Each measure over all users."""
        a, b = self._values
        return {name: MeasureChange(**change_of(a[name], b[name])) for name in a}

    def overlap(self) -> dict[int, ListOverlap]:
        """How alike the lists are, at each length."""
        return {top_n: list_overlap(*self._lists, top_n) for top_n in self._lengths}

    def groups(self) -> list[GroupChange]:
        """The deciding measure by groups of users; groups of one user, or of all, are left out."""
        clicks = np.diff(self._users.history_indptr)
        middle = int(np.median(clicks))
        masks = {
            f"few clicks: a history of at most {FEW}": clicks <= FEW,
            f"shorter histories: at most {middle}": clicks <= middle,
            f"longer histories: above {middle}": clicks > middle,
        }
        a, b = (values[self.decides] for values in self._values)
        return [
            GroupChange(title=title, users=int(mask.sum()), **change_of(a[mask], b[mask]))
            for title, mask in masks.items()
            if 1 < mask.sum() < len(mask)
        ]

    def verdict(self, percent: float = 1.0) -> str:
        """What to act on, by the deciding measure; where nothing can be seen, how many users a
        change of ``percent`` per cent would need."""
        a, b = (values[self.decides] for values in self._values)
        return verdict_of(self.decides, a, b, percent)


def list_overlap(a: IntArray, b: IntArray, top_n: int) -> ListOverlap:
    """How alike the first ``top_n`` items of the lists ``a`` and ``b`` [U, N] are.

    An overlap is |A ∩ B| over the longer of both lists, 1 where both are empty.
    """
    first, second = a[:, :top_n], b[:, :top_n]
    width = max(first.shape[1], second.shape[1])
    first, second = (_filled(lists, width) for lists in (first, second))
    shares = []
    for one, other in zip(first, second, strict=True):
        ours, theirs = (set(row[row != MISSING_ID].tolist()) for row in (one, other))
        longer = max(len(ours), len(theirs))
        shares.append(len(ours & theirs) / longer if longer else 1.0)
    differing = int((first != second).any(axis=1).sum())
    return ListOverlap(differing=differing, overlap=float(np.mean(shares)))


def _filled(lists: IntArray, width: int) -> IntArray:
    rest = np.full((len(lists), width - lists.shape[1]), MISSING_ID, np.int64)
    return np.concatenate([lists, rest], axis=1)


def change_of(a: FloatArray, b: FloatArray) -> dict[str, Any]:
    """The fields of a :class:`MeasureChange` from the values [U] of the same users or lists."""
    difference = paired_bootstrap(b, a, RESAMPLES)
    change = Gain(mean=difference.mean, low=difference.low, high=difference.high)
    return {"a": float(a.mean()), "b": float(b.mean()), "change": change}


def users_needed(a: FloatArray, b: FloatArray, percent: float) -> int | None:
    """About how many users would show a change of ``percent`` per cent of A's mean.

    By the standard error of ``b`` - ``a`` [U]: n = ((z.975 + z.80) s / δ)², so that four of five
    such experiments have an interval without 0. None: A's mean is 0, or nothing varies.
    """
    spread = standard_error(b - a) * math.sqrt(len(a))
    effect = percent / 100 * float(a.mean())
    if not effect or not spread > 0:
        return None
    return max(2, math.ceil((BOTH_QUANTILES * spread / effect) ** 2))


def verdict_of(name: str, a: FloatArray, b: FloatArray, percent: float) -> str:
    """A line to act on, from the values [U] of the measure ``name`` by A and by B."""
    if np.array_equal(a, b):
        return f"no difference in {name}: A and B have the same value for every user"
    difference = paired_bootstrap(b, a, RESAMPLES)
    low, high = 100 * difference.low, 100 * difference.high
    interval = f"{low:+.2f} … {high:+.2f} points"
    if low > 0 or high < 0:
        better, side = ("B", "above") if low > 0 else ("A", "below")
        share = abs(100 * difference.relative)  # nan where A has 0
        by = "" if math.isnan(share) else f"B is {share:.1f} % {side} A, "
        return (
            f"{better} is better in {name}: {by}and the interval of B - A, {interval}, is {side} 0"
        )
    text = f"no difference can be seen in {name} (the interval {interval} holds 0)"
    needed = users_needed(a, b, percent)
    if needed is None:
        return text
    if needed <= len(a):
        return f"{text}: with {len(a):,} users a change of {percent:g} % would most likely show"
    return (
        f"{text}: about {needed:,} users would be needed to see a change of {percent:g} %, and "
        f"there are {len(a):,}"
    )


def replay_tables(report: ReplayReport) -> str:
    """All that is printed of a report; the last line is the one to act on."""
    sides = "\n".join(
        f"{name}: {side.words}  ({side.model}, epoch {side.epoch}, {_answered_by(side)})"
        for name, side in (("A", report.a), ("B", report.b))
    )
    head = ["A", "B", "B - A", "its 95 % interval"]
    measures = tabulate(
        [[name, *change_cells(change)] for name, change in report.measures.items()],
        headers=[f"per cent, {report.users:,} users", *head],
        stralign="right",
        disable_numparse=True,
    )
    overlap = "\n".join(
        f"first {top_n}: {one.differing:,} of {report.users:,} lists differ; "
        f"mean overlap {100 * one.overlap:.1f} %"
        for top_n, one in report.overlap.items()
    )
    groups = tabulate(
        [[group.title, f"{group.users:,}", *change_cells(group)] for group in report.groups],
        headers=[f"{report.decides}, per cent", "users", *head],
        colalign=("left", *["right"] * 5) if report.groups else None,
        disable_numparse=True,
    )
    parts = [report.held_out, sides, measures, overlap, groups if report.groups else ""]
    return "\n\n".join([*filter(None, parts), report.verdict])


def _answered_by(side: ReplaySide) -> str:
    ranked = "" if side.ranker is None else f", ranker {side.ranker}"
    return f"{side.retriever}{ranked}"


def change_cells(change: MeasureChange) -> list[str]:
    """A, B, B - A and its interval in per cent, as tables show them."""
    gain = change.change
    interval = f"{100 * gain.low:+.2f} … {100 * gain.high:+.2f}"
    return [f"{100 * change.a:.2f}", f"{100 * change.b:.2f}", f"{100 * gain.mean:+.2f}", interval]
