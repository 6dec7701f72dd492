# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Prepared folders: ours, which carry a ``meta.json``, and PaddleRec's own, which do not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from paddlerec_milvus.data.files import open_bytes, read_bytes
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.data.split_choice import BY_USERS, words_of
from paddlerec_milvus.data.staging import recover
from paddlerec_milvus.errors import DataError

META = "meta.json"
ITEMS = "items.csv"
USERS = "users.csv"
ITEM_TIMES = "item_times.csv"
FORMAT = 2
ROWS_AT_ONCE = 10_000
_KINDS = ("int", "string")
UNKNOWN_SPLIT = "a split of its own (no meta.json)"
_PREPARE = "python datasets/amazonbook/prepare.py --help"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Where a prepared folder's splits are, and how many embedding rows its ids need."""

    folder: Path
    train_dir: Path
    valid_dir: Path
    test_dir: Path
    item_count: int  # largest item id + 1; row 0 is padding
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def split_words(self) -> str:
        """How the log was split, a short phrase for headings."""
        return _split_words(self.meta)


def open_prepared(folder: Path | str) -> Prepared:
    """Open a folder that prepare.py wrote, or one of PaddleRec's with train/ and valid/.

    Without a meta.json the item ids of the files are read to find the largest, and valid/ stands
    in for a missing test/.

    Raises:
        DataError: no such folder, a part is missing, or meta.json is damaged or of another format.
    """
    folder = Path(folder)
    recover(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; prepare one: {_PREPARE}")
    if (folder / META).exists():
        meta = read_meta(folder)
        _require(folder, ("train", "valid", "test"))
        parts = (folder / "train", folder / "valid", folder / "test")
        return Prepared(folder, *parts, item_count=meta["item_count"], meta=meta)
    _require(folder, ("train", "valid"))
    train, valid, test = folder / "train", folder / "valid", folder / "test"
    if not test.is_dir():
        logger.info("%s has no test/: its valid/ users are measured instead", folder)
        test = valid
    held_out = [read_held_out(part) for part in dict.fromkeys((valid, test))]
    largest = max(
        int(read_click_log(train).items.max()), *(part.largest_item() for part in held_out)
    )
    return Prepared(folder, train, valid, test, item_count=largest + 1)


def _require(folder: Path, names: tuple[str, ...]) -> None:
    missing = [f"{name}/" for name in names if not (folder / name).is_dir()]
    if missing:
        raise DataError(
            f"{folder}: holds no {' and no '.join(missing)}; expected a folder that prepare.py "
            f"wrote, or one of PaddleRec's with train/ and valid/: {_PREPARE}"
        )


def folder_above(split: Path) -> Path:
    """The prepared folder of a split's folder, or of a file in one."""
    return (split if split.is_dir() else split.parent).parent


def read_meta(
    folder: Path, remedy: str = "prepare the folder again with --overwrite"
) -> dict[str, Any]:
    """The content of meta.json, checked as far as a run depends on it.

    Args:
        remedy: what to do about one that is damaged.

    Raises:
        DataError: not JSON, another format, no usable item_count, or no kinds of ids.
    """
    path = folder / META
    try:
        meta = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {remedy}") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        actual = meta.get("format") if isinstance(meta, dict) else type(meta).__name__
        if actual == 1:  # without the kinds of ids
            remedy = f"bring it up to date: python -m paddlerec_milvus.data.migrate {folder}"
        raise DataError(f"{path}: format is {actual}, expected {FORMAT}; {remedy}")
    count = meta.get("item_count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 2:
        raise DataError(f"{path}: item_count is {count!r}, expected an integer of 2 or more")
    ids = meta.get("ids")
    kinds = [ids.get("items"), ids.get("users")] if isinstance(ids, dict) else []
    if not kinds or any(kind not in _KINDS for kind in kinds):
        raise DataError(f"{path}: ids is {ids!r}, expected items and users as int or string")
    return meta


def _split_words(meta: Mapping[str, Any]) -> str:
    return words_of(meta.get("split", BY_USERS.identity())) if meta else UNKNOWN_SPLIT


def split_words_beside(part: Path) -> str:
    """How the log was split of which ``part`` is train/, valid/ or test/, or a file in one of them.

    A folder without a meta.json that can be read does not say.
    """
    folder = (part if part.is_dir() else part.parent).parent
    try:
        return _split_words(read_meta(folder) if (folder / META).is_file() else {})
    except DataError:
        return UNKNOWN_SPLIT


def read_titles(folder: Path) -> dict[int, str]:
    """Title of each item id that has one; empty for a folder without items.csv."""
    return _named(folder, "title")


def read_categories(folder: Path) -> dict[int, str]:
    """Category of each item id that has one; empty for a folder without items.csv."""
    return _named(folder, "category")


def read_source_ids(folder: Path) -> dict[int, str]:
    """The id that each item had in the source; empty for a folder without items.csv."""
    return _named(folder, "source_id")


def _named(folder: Path, column: str) -> dict[int, str]:
    return {item: text for item, text in read_column(folder, column) if text}


def read_column(folder: Path, column: str) -> Iterator[tuple[int, str]]:
    """Item and text of each row, "" for none, without all of them in memory as objects.

    No row for a folder without items.csv. DataError: see :func:`read_items`.
    """
    if not (folder / ITEMS).exists():
        return
    for rows in read_items(folder, [column]).iter_slices(ROWS_AT_ONCE):
        yield from zip(rows["item"].to_list(), rows[column].to_list(), strict=True)


def item_columns(folder: Path) -> list[str]:
    """The names of the columns of ``items.csv``; DataError: see :func:`read_items`."""
    with _readable(folder / ITEMS) as path, open_bytes(path) as lines:
        return pl.read_csv(lines.readline(), infer_schema=False).columns


def read_items(folder: Path, columns: Sequence[str]) -> pl.DataFrame:
    """``items.csv``: item as int64, and these columns as strings.

    DataError: there is no such file, or a column is not there or damaged.
    """
    with _readable(folder / ITEMS) as path:
        frame = pl.read_csv(read_bytes(path), columns=["item", *columns], infer_schema=False)
        return frame.fill_null("").with_columns(pl.col("item").cast(pl.Int64))


@contextmanager
def _readable(items: Path) -> Iterator[Path]:
    try:
        yield items
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{items}: cannot be read ({str(error).splitlines()[0]}); expected the columns item, "
            "source_id, title, category"
        ) from None


def files_to_serve(data: Path | None) -> list[Path]:
    """What a model needs of its prepared folder to be used: ids, titles, categories, features."""
    if data is None:
        return []
    return [
        file
        for pattern in (META, ITEMS, "*_features.csv", "*_feature_values.csv")
        for file in data.glob(pattern)
    ]
