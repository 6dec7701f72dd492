# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A split log with its items and users: what a prepared folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.item_times import CountedTimes
from paddlerec_milvus.data.log import ClickLog


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
