# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A split log with its items and users: what a prepared folder holds, and how that is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.data.files import Record, write_file, write_table
from paddlerec_milvus.data.held_out import HeldOutUsers, write_held_out
from paddlerec_milvus.data.item_times import CountedTimes
from paddlerec_milvus.data.log import ClickLog, write_clicks
from paddlerec_milvus.data.prepared import USERS

TRAIN_FILE, VALID_FILE, TEST_FILE = "train/clicks.csv", "valid/part-0", "test/part-0"


class SplitCounts(NamedTuple):
    """How many users and clicks train, valid and test have, and items without a train click."""

    splits: dict[str, dict[str, int]]
    cold_items: int


class SplitLog(Protocol):
    """A log that is split, wherever its clicks are."""

    @property
    def items(self) -> pl.DataFrame:
        """Columns item, source_id, title, category, perhaps authors and year."""

    @property
    def item_ids(self) -> str:
        """What the source's item ids are, int or string."""

    @property
    def user_ids(self) -> str:
        """What the source's user ids are, int or string."""

    @property
    def split(self) -> Mapping[str, str]:
        """Its kind, and by time its moments."""

    @property
    def notes(self) -> Mapping[str, Any]:
        """Further counts, and how the log was read."""

    @property
    def item_times(self) -> CountedTimes | None:
        """When items were clicked, of a split by time alone."""

    def counts(self) -> SplitCounts:
        """The sizes of the three parts."""

    def user_rows(self) -> pl.DataFrame:
        """Columns user and source_id of the users of the three parts, by rising user."""

    def write(self, folder: Path) -> dict[str, Record]:
        """Write the files of train, valid and test; returns their records by name."""

    def write_users(self, folder: Path) -> dict[str, Record]:
        """Write users.csv where user ids are strings; returns its record by name."""


@dataclass(frozen=True)
class Dataset:
    """All that a prepared folder holds: the log, split, and the tables of ids."""

    train: ClickLog
    valid: HeldOutUsers
    test: HeldOutUsers
    items: pl.DataFrame  # item, source_id, title, category, perhaps authors, year
    users: pl.DataFrame | None  # uid, source_id; None when the source's ids were kept
    split: Mapping[str, str]  # its kind, and by time its moments
    notes: Mapping[str, Any]  # further counts, and how the log was read
    item_ids: str = "int"  # or string: what the source's item ids are
    item_times: CountedTimes | None = None  # when items were clicked, of a split by time alone

    @property
    def user_ids(self) -> str:
        """What the source's user ids are, int or string."""
        return "int" if self.users is None else "string"

    def counts(self) -> SplitCounts:
        """The sizes of the three parts, see SplitLog."""
        cold = np.ones(self.items.height + 1, bool)  # without a train click
        cold[self.train.items] = False
        splits = {
            "train": {"users": len(self.train.user_ids), "clicks": len(self.train.items)},
            "valid": _held_out_counts(self.valid, cold),
            "test": _held_out_counts(self.test, cold),
        }
        return SplitCounts(splits, int(cold[1:].sum()))

    def user_rows(self) -> pl.DataFrame:
        """The users of the three parts, see SplitLog."""
        parts = (self.train.user_ids, self.valid.user_ids, self.test.user_ids)
        rows = pl.DataFrame({"user": np.unique(np.concatenate(parts))})
        if self.users is None:
            return rows.with_columns(source_id=pl.col("user").cast(pl.String))
        return rows.join(self.users, left_on="user", right_on="uid", maintain_order="left")

    def write(self, folder: Path) -> dict[str, Record]:
        """Write the three parts, see SplitLog."""
        return {
            TRAIN_FILE: write_file(
                folder / TRAIN_FILE, lambda file: write_clicks(file, self.train)
            ),
            VALID_FILE: write_held_out(folder / VALID_FILE, self.valid),
            TEST_FILE: write_held_out(folder / TEST_FILE, self.test),
        }

    def write_users(self, folder: Path) -> dict[str, Record]:
        """Write the ids of users, see SplitLog."""
        return {} if self.users is None else {USERS: write_table(folder / USERS, self.users)}


def _held_out_counts(users: HeldOutUsers, cold: npt.NDArray[np.bool_]) -> dict[str, int]:
    history, truths = len(users.history), len(users.truths)
    return held_out_counts(len(users), history, truths, int(cold[users.truths].sum()))


def held_out_counts(users: int, history: int, truths: int, cold_truths: int) -> dict[str, int]:
    """The sizes of valid or test, for meta.json."""
    return {
        "users": users,
        "clicks": history + truths,
        "history": history,
        "truths": truths,
        "cold_truths": cold_truths,
    }
