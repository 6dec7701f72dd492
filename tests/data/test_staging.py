# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A folder that takes the place of another: stopped anywhere, one of the two is there, whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from paddlerec_milvus.data.prepare import prepare
from paddlerec_milvus.data.prepared import open_prepared
from paddlerec_milvus.data.sources import Sample
from paddlerec_milvus.data.staging import recover, staged
from paddlerec_milvus.errors import DataError


def filled(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


def contents(parent: Path) -> dict[str, str]:
    files = (path for path in parent.rglob("*") if path.is_file())
    return {str(path.relative_to(parent)): path.read_text() for path in files}


@pytest.mark.parametrize("stopped", [".out.preparing", "out"])
def test_ctrl_c_at_either_rename_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    out, rename = filled(tmp_path / "out", "old"), Path.rename

    def stop(path: Path, target: Path) -> Path:
        if path.name == stopped:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt), staged(out) as staging:
        (staging / "file").write_text("new")
    assert contents(tmp_path) == {"out/file": "old"}


def test_ctrl_c_after_both_renames_leaves_the_new_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, remove = filled(tmp_path / "out", "old"), shutil.rmtree
    calls: list[object] = []

    def stop(path: Path, **options: bool) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt), staged(out) as staging:
        (staging / "file").write_text("new")
    assert contents(tmp_path) == {"out/file": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_was_moved_aside_is_back_when_its_folder_is_opened(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(Sample(60, 40, 700), out)
    out.rename(tmp_path / ".out.replaced")
    out.mkdir()  # an empty one is no reason to lose it
    assert open_prepared(out).item_count == 41
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_replacement_that_is_under_way_is_left_alone(tmp_path: Path) -> None:
    staging = filled(tmp_path / ".out.preparing", "new")
    filled(tmp_path / ".out.replaced", "old")
    before = contents(tmp_path)
    lock = os.open(staging, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    recover(tmp_path / "out")
    assert contents(tmp_path) == before
    os.close(lock)
    recover(tmp_path / "out")
    assert contents(tmp_path)["out/file"] == "old"


def test_what_cannot_be_put_back_is_not_lost(tmp_path: Path) -> None:
    filled(tmp_path / ".out.replaced", "old")
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match=r"\.out\.replaced and cannot be put back \(.*rename"):
        recover(tmp_path / "out")
    assert contents(tmp_path) == {".out.replaced/file": "old", "out": "a file"}
