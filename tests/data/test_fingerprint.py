# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A fingerprint changes with what a model learns from, and with nothing else."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.data.fingerprint import fingerprint_of, folder_around, identity_of
from paddlerec_milvus.errors import DataError


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "mine"
    size = ["--users", "60", "--items", "40", "--clicks", "900"]
    assert prepare(["--sample", *size, "--out", str(folder)]) == 0
    return folder


def paddlerec_folder(folder: Path) -> Path:
    for part, text in (("train", "1,5,0\n1,6,1\n"), ("valid", "user_id:2 hist_item:5 eval_item:6")):
        (folder / part).mkdir(parents=True)
        (folder / part / "part-0").write_text(text)
    return folder


def test_the_same_files_elsewhere_and_other_titles_are_the_same_data(
    sample: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(sample, tmp_path / "copy")
    (copy / "items.csv").write_text("item,source_id,title,category\n")
    assert fingerprint_of(copy) == fingerprint_of(sample)
    assert len(fingerprint_of(sample)) == 16


@pytest.mark.parametrize("part", ["train/clicks.csv", "valid/part-0", "test/part-0"])
def test_a_changed_split_is_other_data(sample: Path, tmp_path: Path, part: str) -> None:
    copy = shutil.copytree(sample, tmp_path / "copy")
    (copy / part).write_text((copy / part).read_text() + "\n")  # meta.json knows nothing of it
    assert fingerprint_of(copy) != fingerprint_of(sample)


def test_by_meta_json_where_the_files_are_elsewhere(sample: Path, tmp_path: Path) -> None:
    shutil.copyfile(sample / "meta.json", tmp_path / "meta.json")
    assert fingerprint_of(tmp_path) == fingerprint_of(sample)


def test_a_folder_without_meta_json_is_read(tmp_path: Path) -> None:
    first, same = paddlerec_folder(tmp_path / "a"), paddlerec_folder(tmp_path / "b")
    (same / "train" / ".hidden").write_text("no data")
    assert fingerprint_of(first) == fingerprint_of(same)
    (same / "valid" / "part-0").write_text("user_id:2 hist_item:6 eval_item:5")
    assert fingerprint_of(first) != fingerprint_of(same)
    with pytest.raises(DataError, match="holds no data"):
        fingerprint_of(tmp_path)


def test_a_split_belongs_to_its_folder(sample: Path, tmp_path: Path) -> None:
    whole = identity_of(sample / "train")
    assert whole is not None
    assert (whole.name, whole.folder) == ("mine", str(sample))
    assert whole == identity_of(sample / "test") == identity_of(sample / "test" / "part-0")
    ours = paddlerec_folder(tmp_path / "theirs")
    assert folder_around(ours / "valid") == ours
    (tmp_path / "slot_test").mkdir()
    (tmp_path / "slot_test" / "part-0").write_text("1")
    assert folder_around(tmp_path / "slot_test") is None
    assert identity_of(tmp_path / "slot_test") is not None
    assert identity_of(tmp_path / "nowhere") is None


def test_a_damaged_meta_json_is_an_error(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match="format is 99"):
        fingerprint_of(tmp_path)


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_a_file_that_was_added_to_a_split_is_other_data(
    sample: Path, tmp_path: Path, part: str
) -> None:
    copy = shutil.copytree(sample, tmp_path / "copy")
    (copy / part / ".hidden").write_text("no data")
    (copy / "notes.txt").write_text("no data")
    assert fingerprint_of(copy) == fingerprint_of(sample)
    (copy / part / "more.csv").write_text("1,5,0\n")
    added = fingerprint_of(copy)
    assert added != fingerprint_of(sample)
    (copy / part / "more.csv").write_text("1,6,0\n")
    assert fingerprint_of(copy) != added


def test_the_fingerprint_of_a_folder_as_it_was_written_is_that_of_its_record(sample: Path) -> None:
    files = json.loads((sample / "meta.json").read_text())["files"]
    learned = sorted(set(files) - {"items.csv", "users.csv", "item_times.csv"})
    lines = "".join(f"{name} {files[name]['sha256']}\n" for name in learned)
    assert fingerprint_of(sample) == sha256(lines.encode()).hexdigest()[:16]
