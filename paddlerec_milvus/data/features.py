# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Side features of items and users as integer codes, beside the click log of a prepared folder.

``item_features.csv`` has a row ``item,<column>…`` for each item 1 … I in order, and
``user_features.csv`` a row ``user,<column>…`` for each user by rising id. Code 0 is unknown; codes
from 1 go by falling frequency among the rows, equal ones by the bytes of the value.
``item_feature_values.csv`` and ``user_feature_values.csv`` (``column,code,value``) translate back.
"""

from __future__ import annotations

import logging
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from paddlerec_milvus.data.dataset import SplitLog
from paddlerec_milvus.data.feature_files import FeatureTable, check_columns
from paddlerec_milvus.data.files import read_bytes
from paddlerec_milvus.data.log import Ints
from paddlerec_milvus.errors import DataError

ITEM_FEATURES, ITEM_FEATURE_VALUES = "item_features.csv", "item_feature_values.csv"
USER_FEATURES, USER_FEATURE_VALUES = "user_features.csv", "user_feature_values.csv"
_EXAMPLES = 3
_INT64 = np.iinfo(np.int64)
_INTEGER = re.compile(r"-?[0-9]{1,19}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """What is written of one kind, item or user."""

    codes: pl.DataFrame  # item or user, then a column of codes for each feature, all Int64
    values: pl.DataFrame  # column, code, value

    def summary(self) -> dict[str, dict[str, int]]:
        """Of each column how many values have a code, and how many rows are unknown."""
        return {
            name: {
                "values": int((self.values["column"] == name).sum()),
                "unknown": int((self.codes[name] == 0).sum()),
            }
            for name in self.codes.columns[1:]
        }


def item_features(dataset: SplitLog, table: FeatureTable | None, min_count: int) -> Features | None:
    """The columns of ``table``, and the category of items.csv where it has none of that name.

    A value on fewer than ``min_count`` items is unknown.

    Raises:
        DataError: the table belongs to another log, or a column of it would be unknown throughout.
    """
    rows = dataset.items.select("item", "source_id")
    values = pl.DataFrame() if table is None else _values_of(table, rows["source_id"], min_count)
    if "category" not in values.columns:
        category = dataset.items.select(pl.col("category").str.strip_chars())
        if _frequent(category["category"], min_count):
            values = pl.concat([category, values], how="horizontal")
    return _coded(rows["item"], values, min_count) if values.width else None


def user_features(dataset: SplitLog, table: FeatureTable | None, min_count: int) -> Features | None:
    """The columns of ``table`` for the users of all three splits; raises as for items."""
    if table is None:
        return None
    rows = dataset.user_rows()
    return _coded(rows["user"], _values_of(table, rows["source_id"], min_count), min_count)


def _values_of(table: FeatureTable, ids: pl.Series, min_count: int) -> pl.DataFrame:
    """The values of the log's ``ids`` [N], "" where the table has none."""
    known = pl.DataFrame({"source_id": table.ids, "at": np.arange(len(table.ids))})
    at = ids.to_frame().join(known, on="source_id", how="left", maintain_order="left")["at"]
    matched = at.count()
    if not matched:
        raise DataError(
            f"{table.path}: none of its {len(table.ids)} {table.kind}s is in the log (it has "
            f"'{table.ids[0]}', the log '{ids[0]}'); name the file that belongs to the log"
        )
    foreign = len(table.ids) - matched
    if foreign:
        logger.info("%s: %d of its %ss are not in the log", table.path, foreign, table.kind)
    values = table.values.select(pl.all().gather(at).fill_null(""))
    _report_unknown(table, ids, values)
    for column in values:
        _report_rare(table, column, min_count)
    return values


def _report_unknown(table: FeatureTable, ids: pl.Series, values: pl.DataFrame) -> None:
    """One line of how many rows lack a value, and the first of them, for each column."""
    parts = []
    for column in values:
        lacking = ids.filter(column == "")
        if len(lacking):
            examples = [*lacking.head(_EXAMPLES), *["…"] * (len(lacking) > _EXAMPLES)]
            parts.append(f"{column.name} of {len(lacking)} {table.kind}s ({', '.join(examples)})")
    if parts:
        logger.warning("%s: no value, so unknown (0): %s", table.path, "; ".join(parts))


def _report_rare(table: FeatureTable, column: pl.Series, min_count: int) -> None:
    """A line where values are too rare for a code; DataError where all are."""
    codes = _frequent(column, min_count)
    if not codes:
        raise DataError(
            f"{table.path}: column '{column.name}' has no value on {min_count} or more "
            f"{table.kind}s of the log; leave it out, or lower --min-feature-count"
        )
    rare = int((~column.is_in(["", *codes])).sum())
    if rare:
        logger.info(
            "%s: %s: %d %ss have a value of fewer than %d %ss, so unknown (0)",
            *(table.path, column.name, rare, table.kind, min_count, table.kind),
        )


def _frequent(column: pl.Series, min_count: int) -> list[str]:
    """The values that get a code, in the order of their codes."""
    counts = column.filter(column != "").alias("value").value_counts()
    counts = counts.filter(pl.col("count") >= min_count)
    values: list[str] = counts.sort("count", "value", descending=[True, False])["value"].to_list()
    return values


def _coded(ids: pl.Series, values: pl.DataFrame, min_count: int) -> Features:
    codes, translation = [ids.cast(pl.Int64)], []
    for column in values:
        known = pl.DataFrame({"value": _frequent(column, min_count)})
        known = known.select(
            column=pl.lit(column.name), code=pl.int_range(1, pl.len() + 1), value="value"
        )
        translation.append(known)
        codes.append(column.replace_strict(known["value"], known["code"], default=0))
    return Features(pl.DataFrame(codes), pl.concat(translation))


class FeatureCodes(NamedTuple):
    """A feature file read back. N rows, F columns."""

    columns: tuple[str, ...]  # [F]
    codes: Ints  # [N, F], 0 is unknown
    ids: Ints  # [N], rising; 1 … N for items


def read_features(path: Path | str) -> FeatureCodes:
    """Read item_features.csv or user_features.csv of a prepared folder, and check every line.

    Raises:
        DataError: another header, a cell that is no code from 0, items that are not 1, 2, 3 …, or
            users that do not rise. The message gives the line.
    """
    path = Path(path)
    header, *lines = read_bytes(path).decode("utf-8", "replace").splitlines() or [""]
    names = header.split(",")
    kind = names[0]
    if kind not in ("item", "user") or len(names) < 2:
        raise DataError(
            f"{path}, line 1: found '{header[:60]}', expected item,<column>… or user,<column>…; "
            "prepare the folder again"
        )
    check_columns(f"{path}, line 1", names)
    flat = array("q")
    for number, line in enumerate(lines, 2):
        where = f"{path}, line {number}"
        row = _numbers(line)
        if len(row) != len(names) or min(row[1:]) < 0:
            shown = f"'{line[:60]}'" if line else "a blank line"
            raise DataError(f"{where}: found {shown}, expected {header} as integers, codes from 0")
        before = flat[-len(names)] if flat else 0
        if (kind == "item" and row[0] != before + 1) or (flat and row[0] <= before):
            expected = f"item {before + 1}" if kind == "item" else f"a user above {before}"
            raise DataError(f"{where}: found {kind} {row[0]}, expected {expected}")
        flat.extend(row)
    if not flat:
        raise DataError(f"{path}: a header and no rows; prepare the folder again")
    table = np.array(flat, np.int64).reshape(-1, len(names))
    return FeatureCodes(tuple(names[1:]), table[:, 1:], table[:, 0])


def _numbers(line: str) -> list[int]:
    """The cells as integers; none of them where one is no int64."""
    cells = line.split(",")
    if not all(map(_INTEGER.fullmatch, cells)):
        return []
    numbers = [int(cell) for cell in cells]
    return numbers if all(_INT64.min <= number <= _INT64.max for number in numbers) else []
