# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Opening folders: ours, PaddleRec's, and those that are neither."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from paddlerec_milvus.data.prepared import open_prepared, read_titles
from paddlerec_milvus.errors import DataError

META = {"format": 2, "item_count": 9, "ids": {"items": "int", "users": "int"}}


def paddlerec_folder(folder: Path) -> Path:
    (folder / "train").mkdir()
    (folder / "train" / "demo.txt").write_text("0,4,0\n0,17,1\n")
    (folder / "valid").mkdir()
    (folder / "valid" / "part-0").write_text("user_id:1 target_item:0 hist_item:3 eval_item:41\n")
    return folder


def our_folder(folder: Path, meta: Any = META) -> Path:
    paddlerec_folder(folder)
    (folder / "test").mkdir()
    (folder / "meta.json").write_text(meta if isinstance(meta, str) else json.dumps(meta))
    return folder


def test_paddlerecs_folder_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        prepared = open_prepared(paddlerec_folder(tmp_path))
    assert prepared.item_count == 42  # the largest id is a truth of valid/
    assert prepared.test_dir == prepared.valid_dir == tmp_path / "valid"
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path} has no test/: its valid/ users are measured instead"
    ]
    assert read_titles(prepared.folder) == {}


def test_paddlerecs_folder_with_a_test_split(tmp_path: Path) -> None:
    (paddlerec_folder(tmp_path) / "test").mkdir()
    with pytest.raises(DataError, match=r"test: holds no data files"):
        open_prepared(tmp_path)
    (tmp_path / "test" / "part-0").write_text("user_id:2 hist_item:99 eval_item:1\n")
    prepared = open_prepared(str(tmp_path))
    assert (prepared.item_count, prepared.test_dir) == (100, tmp_path / "test")


def test_our_folder_trusts_its_meta(tmp_path: Path) -> None:
    prepared = open_prepared(our_folder(tmp_path))
    assert (prepared.item_count, prepared.test_dir) == (9, tmp_path / "test")
    assert prepared.meta == META


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ("{", "cannot be read"),
        ([], "format is list, expected 2"),
        ({"item_count": 9}, "format is None, expected 2"),
        ({"format": 1, "item_count": 9}, "format is 1, expected 2; .*data.migrate"),
        ({"format": 3, "item_count": 9}, "format is 3, expected 2"),
        ({"format": 2, "item_count": 9}, "ids is None, expected items and users"),
        ({"format": 2}, "item_count is None"),
        ({"format": 2, "item_count": "9"}, "item_count is '9'"),
        ({"format": 2, "item_count": 1}, "item_count is 1"),
    ],
)
def test_a_damaged_meta_is_said(tmp_path: Path, meta: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_prepared(our_folder(tmp_path, meta))


def test_folders_that_are_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_prepared(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no train/ and no valid/"):
        open_prepared(tmp_path)
    our_folder(tmp_path)
    (tmp_path / "test").rmdir()
    with pytest.raises(DataError, match="holds no test/"):
        open_prepared(tmp_path)


def test_a_damaged_item_table_is_said(tmp_path: Path) -> None:
    prepared = open_prepared(our_folder(tmp_path))
    (tmp_path / "items.csv").write_text("item,name\n1,x\n")
    with pytest.raises(DataError, match=r"items\.csv: cannot be read"):
        read_titles(prepared.folder)
    (tmp_path / "items.csv").write_text("item,title\none,x\n")
    with pytest.raises(DataError, match=r"items\.csv: cannot be read"):
        read_titles(prepared.folder)
