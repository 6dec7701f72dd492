# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A split log with its items and users: what a prepared folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.log import ClickLog


@dataclass(frozen=True)
class Dataset:
    """All that a prepared folder holds: the log, split by users, and the tables of ids."""

    train: ClickLog
    valid: HeldOutUsers
    test: HeldOutUsers
    items: pl.DataFrame  # item, source_id, title, category
    users: pl.DataFrame | None  # uid, source_id; None when the source's ids were kept
    notes: Mapping[str, int | bool]
    item_ids: str = "int"  # or string: what the source's item ids are
