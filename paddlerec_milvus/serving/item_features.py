# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Items given by their features: from values as in the prepared data to a model's codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from paddlerec_milvus.data.features import ITEM_FEATURE_VALUES, ITEM_FEATURES
from paddlerec_milvus.data.files import read_bytes
from paddlerec_milvus.errors import DataError, nearest
from paddlerec_milvus.retrieval.base import IntArray


class FeatureValues(NamedTuple):
    """The columns of item features, and the code of each known value."""

    columns: tuple[str, ...]
    codes: Mapping[tuple[str, str], int]

    def unknown_column(self, row: Mapping[str, str]) -> str:
        """What is wrong with the first column that does not exist; empty: all do."""
        for name in row:
            if name not in self.columns:
                known = ", ".join(self.columns)
                return f"no such feature{nearest(name, self.columns)}; there are: {known}"
        return ""

    def codes_of(self, rows: Sequence[Mapping[str, str]]) -> IntArray:
        """Codes [n, F] of ``rows``; 0 for a value that is absent or not known."""
        return np.array(
            [
                [self.codes.get((name, row.get(name, "").strip()), 0) for name in self.columns]
                for row in rows
            ],
            np.int64,
        ).reshape(len(rows), len(self.columns))


def read_feature_values(folder: Path | None) -> FeatureValues | None:
    """Those of a prepared folder; None: it has none. DataError: they cannot be read."""
    if folder is None or not (folder / ITEM_FEATURES).is_file():
        return None
    try:
        with (folder / ITEM_FEATURES).open(encoding="utf-8") as lines:
            columns = lines.readline().strip().split(",")[1:]
        table = pl.read_csv(read_bytes(folder / ITEM_FEATURE_VALUES), infer_schema=False)
        rows = table.select("column", "value", pl.col("code").cast(pl.Int64)).rows()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{folder}: its item features cannot be read ({str(error).splitlines()[0]}); prepare "
            "it anew with --item-features"
        ) from None
    return FeatureValues(tuple(columns), {(column, value): code for column, value, code in rows})
