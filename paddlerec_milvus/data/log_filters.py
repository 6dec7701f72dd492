# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which clicks of a log count: kinds of event, ratings, repeated clicks, and the k-core."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.data.log_options import LogOptions
from paddlerec_milvus.data.log_times import Where
from paddlerec_milvus.data.raw_log import RawLog
from paddlerec_milvus.errors import DataError, SettingsError, nearest

REPEATED = "on an item that their user had clicked before"

_MOST_KINDS = 50  # more are no kinds of event but some text


class ClickFilter:
    """Drops clicks by kind of event and by rating while a log is read, and counts them."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._kinds: Counter[str] = Counter()
        self._other_kinds = 0
        self._low_ratings = 0

    def count(self, kinds: Mapping[str, int], other_kinds: int, low_ratings: int) -> None:
        """Take in what was counted elsewhere: clicks of the kinds that are to be shown, those of
        kinds that were not chosen, and of the others those of low rating."""
        self._kinds.update(kinds)
        self._other_kinds += other_kinds
        self._low_ratings += low_ratings

    def check(self, columns: list[str], place: str) -> None:
        """SettingsError where an option needs a column that the log lacks."""
        for option, role in (("kinds", "kind"), ("min_rating", "rating")):
            if getattr(self._options, option) not in (None, ()) and role not in columns:
                raise SettingsError(
                    f"--{option.replace('_', '-')}: no column of {place} is taken as {role}; name "
                    f"it with --columns user=…,item=…,time=…,{role}=…"
                )

    def mask(self, frame: pl.DataFrame, where: Where) -> pl.Series | None:
        """Which rows count, None for all."""
        passes = None
        if "kind" in frame.columns:
            kinds = frame["kind"].cast(pl.String).fill_null("").str.strip_chars()
            if self._options.kinds:
                passes = kinds.is_in(list(self._options.kinds))
                self._other_kinds += int((~passes).sum())
            if len(self._kinds) > _MOST_KINDS:  # no further ones are counted but those chosen
                kinds = kinds.filter(kinds.is_in([*self._kinds, *self._options.kinds]))
            counts = kinds.rename("kind").value_counts()
            self._kinds.update(dict(counts.iter_rows()))
        if self._options.min_rating is not None:
            ratings = frame["rating"].cast(pl.Float64, strict=False)
            bad = ratings.is_null() | ratings.is_nan()
            if bad.any():
                row = bad.arg_max() or 0
                raise DataError(
                    f"{where(row)}: found rating '{frame['rating'][row]}', expected a number; "
                    "--min-rating needs one in all lines"
                )
            high = ratings >= self._options.min_rating
            self._low_ratings += int((~high if passes is None else ~high & passes).sum())
            passes = high if passes is None else passes & high
        return passes

    def finish(self) -> tuple[dict[str, int], list[str]]:
        """Clicks dropped by reason, and warnings.

        Raises:
            SettingsError: a kind that was chosen and that no line has.
        """
        known = sorted(self._kinds, key=lambda kind: (-self._kinds[kind], kind))
        for kind in self._options.kinds:
            if kind not in self._kinds:
                raise SettingsError(
                    f"--kinds: no event of kind '{kind}' in the log{nearest(kind, known)}; it has "
                    f"{_counts(self._kinds, known)}"
                )
        dropped = {}
        if self._options.kinds:
            dropped["of other kinds than --kinds"] = self._other_kinds
        if self._options.min_rating is not None:
            dropped["with a rating below --min-rating"] = self._low_ratings
        if not self._options.kinds and len(known) > 1:
            return dropped, [
                f"kinds of event are mixed ({_counts(self._kinds, known)}): all count as clicks; "
                f"choose with --kinds {known[0]} or --kinds {known[0]},{known[1]}"
            ]
        return dropped, []


def _counts(kinds: Counter[str], known: list[str]) -> str:
    shown = [f"{kind or '(empty)'} {kinds[kind]:,}" for kind in known[:8]]
    return ", ".join(shown) + (" …" if len(known) > 8 else "")


def filtered(log: RawLog, options: LogOptions) -> tuple[RawLog, dict[str, int]]:
    """The log without repeated clicks and cut to its k-core, and clicks dropped by reason."""
    dropped = {}
    if options.drop_repeats:
        before = len(log.users)
        log = _only(log, _first_clicks(log))
        dropped[REPEATED] = before - len(log.users)
    if options.k_core is not None:
        before = len(log.users)
        log = _only(log, k_core(log, options.k_core))
        dropped[outside(options.k_core)] = before - len(log.users)
    return log, dropped


def outside(k: int) -> str:
    """Why a click is dropped that is in no k-core."""
    return f"outside the {k}-core"


def _only(log: RawLog, clicks: npt.NDArray[np.bool_]) -> RawLog:
    times = None if log.times is None else log.times[clicks]
    return dataclasses.replace(log, users=log.users[clicks], items=log.items[clicks], times=times)


def _first_clicks(log: RawLog) -> npt.NDArray[np.bool_]:
    """The first click [n] of a user on an item, in time order."""
    pairs = log.users * len(log.item_ids) + log.items
    first = np.zeros(len(pairs), bool)
    first[np.unique(pairs, return_index=True)[1]] = True
    return first


def k_core(log: RawLog, k: int) -> npt.NDArray[np.bool_]:
    """The clicks [n] of the largest part in which all users and all items have ``k`` of them."""
    inside = np.ones(len(log.users), bool)
    while True:
        users = np.bincount(log.users[inside], minlength=len(log.user_ids)) >= k
        items = np.bincount(log.items[inside], minlength=len(log.item_ids)) >= k
        smaller = inside & users[log.users] & items[log.items]
        if smaller.sum() == inside.sum():
            return inside
        inside = smaller
