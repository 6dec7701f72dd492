# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which split of a log was chosen, by users, leave-one-out or by time: its options and words."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from paddlerec_milvus.errors import SettingsError, nearest

USERS, LEAVE_ONE_OUT, TIME = KINDS = ("users", "leave-one-out", "time")
_HELD_OUT = ("valid", "test")


@dataclass(frozen=True)
class SplitChoice:
    """What ``--split``, ``--test-from`` and ``--valid-from`` say; moments are in UTC.

    Raises:
        SettingsError: an unknown kind, ``time`` without ``test_from``, a moment with another kind,
            or a ``valid_from`` that is not before ``test_from``.
    """

    kind: str = USERS
    test_from: datetime | None = None
    valid_from: datetime | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            hint = nearest(self.kind, KINDS)
            raise SettingsError(f"--split {self.kind}: is none of {', '.join(KINDS)}{hint}")
        if self.kind != TIME:
            for option, moment in (("test", self.test_from), ("valid", self.valid_from)):
                if moment is not None:
                    raise SettingsError(f"--{option}-from goes with --split time; add it")
            return
        if self.test_from is None:
            raise SettingsError("--split time needs --test-from DATE, such as 2014-07-01")
        if self.valid_from is not None and self.valid_from >= self.test_from:
            raise SettingsError(
                f"--valid-from {iso(self.valid_from)} is not before --test-from "
                f"{iso(self.test_from)}"
            )

    def identity(self) -> dict[str, str]:
        """Kind and moments: equal for equal choices."""
        moments = {"test_from": self.test_from, "valid_from": self.valid_from}
        return {"kind": self.kind} | {k: iso(v) for k, v in moments.items() if v is not None}


BY_USERS = SplitChoice()


def add_split_options(parser: argparse.ArgumentParser) -> None:
    """``--split``, ``--test-from`` and ``--valid-from``."""
    parser.add_argument(
        "--split",
        choices=KINDS,
        help="users: 8:1:1 into train, valid and test, a held-out user's last 20 %% of clicks are "
        "truths (default); leave-one-out: each user's last click is the test truth, the one before "
        "it the valid truth; time: what was clicked from --test-from on",
    )
    parser.add_argument(
        "--test-from",
        metavar="DATE",
        help="--split time: clicks from then on are the test truths; 2014-07-01 or "
        "2014-07-01T12:00:00+02:00, UTC where no zone is named",
    )
    parser.add_argument(
        "--valid-from",
        metavar="DATE",
        help="--split time: only clicks before it train (default: such that the last tenth of the "
        "clicks before --test-from are valid truths)",
    )


def split_choice(options: argparse.Namespace) -> SplitChoice:
    """The choice that the options make. SettingsError: a date that cannot be read, see above."""
    return SplitChoice(
        options.split or USERS,
        moment_of("--test-from", options.test_from),
        moment_of("--valid-from", options.valid_from),
    )


def moment_of(option: str, text: str | None) -> datetime | None:
    """The date ``text`` of ``option`` in UTC. SettingsError: it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{option} {text}: expected a date as 2014-07-01 or 2014-07-01T12:00:00"
        ) from None


def iso(moment: datetime) -> str:
    """``2014-07-01T00:00:00Z``: a moment in UTC, a fraction of a second where it has one."""
    return moment.isoformat().replace("+00:00", "Z")


def words_of(split: Mapping[str, Any]) -> str:
    """The ``split`` of a meta.json as a short phrase for headings."""
    if split["kind"] == TIME:
        return f"split by time: valid from {split['valid_from']}, test from {split['test_from']}"
    return {USERS: "split by users 8:1:1", LEAVE_ONE_OUT: "split leave-one-out"}[split["kind"]]


def split_lines(meta: Mapping[str, Any]) -> list[str]:
    """How the log was split, and what of it no method that learns from clicks can get right."""
    lines = [words_of(meta.get("split", BY_USERS.identity()))]
    if meta.get("cold_items"):
        cold = [
            f"{meta['splits'][name]['cold_truths']:,} of the {name} truths" for name in _HELD_OUT
        ]
        lines.append(
            f"without a click in train: {meta['cold_items']:,} items; clicks alone cannot "
            f"recommend them, and {' and '.join(cold)} are theirs and stay in the denominator"
        )
    if window := meta.get("item_window"):
        lines.append(
            f"rising and new items: of the {window / 86_400:.1f} days before valid, which hold the "
            "last tenth of the train clicks"
        )
    new = [f"{meta[key]:,} {name}" for name in _HELD_OUT if meta.get(key := f"{name}_cold_users")]
    if new:
        lines.append(
            f"not measured, without a click before their truths: {' and '.join(new)} users"
        )
    return lines
