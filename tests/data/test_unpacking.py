# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Small files that unpack to far more: refused at a limit, which a variable raises."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from paddlerec_milvus.data.amazonbook import read_tarball
from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.data.files import read_bytes, reader_files
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.data.log_bytes import line_blocks
from paddlerec_milvus.data.prepared import read_titles
from paddlerec_milvus.data.unpacking import VARIABLE
from paddlerec_milvus.errors import DataError, SettingsError

LINES = b"".join(b"%d,%d,%d\n" % (row % 97, row % 89 + 1, row) for row in range(50_000))
REFUSAL = r"bytes unpack to more than 104,857, so .*PADDLEREC_MILVUS_UNPACKED_GIB=N lets"


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch):
    """100 kB in place of 256 MiB."""
    monkeypatch.setenv(VARIABLE, str(104_857.6 / 2**30))


def bomb(folder: Path, content: bytes = LINES, name: str = "log.csv") -> Path:
    """The content packed by gz; in the folder's ``train``, as prepared data has it."""
    (folder / "train").mkdir(exist_ok=True)
    path = folder / "train" / name
    path.write_bytes(gzip.compress(content))
    return path


def zipped(folder: Path) -> Path:
    path = folder / "log.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", LINES)
    return path


def tarred(folder: Path, name: str) -> Path:
    path = folder / "AmazonBook.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(LINES)
        archive.addfile(member, io.BytesIO(LINES))
    return path


@pytest.mark.parametrize("packed", [bomb, zipped])
def test_a_log_ends_at_the_limit_and_the_variable_raises_it(tmp_path, monkeypatch, packed):
    path = packed(tmp_path)
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: [0-9,]+ {REFUSAL}"):
        list(line_blocks(path))
    monkeypatch.setenv(VARIABLE, "1")
    assert b"".join(line_blocks(path)) == LINES


def test_prepared_data_ends_at_the_limit(tmp_path, monkeypatch):
    path = bomb(tmp_path)
    with pytest.raises(DataError, match=REFUSAL):
        read_click_log(tmp_path / "train")
    (tmp_path / "items.csv").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=REFUSAL):
        read_titles(tmp_path)
    monkeypatch.setenv(VARIABLE, "1")
    assert len(read_click_log(tmp_path / "train").items) == 50_000


def test_a_model_folders_own_reader_gets_no_file_beyond_the_limit(tmp_path):
    """It may unpack by itself, as numpy does with any ``.gz``."""
    path = bomb(tmp_path, name="part.gz")
    with pytest.raises(DataError, match=REFUSAL):
        reader_files(tmp_path / "train")
    path.write_bytes(gzip.compress(LINES[:90_000]))
    (tmp_path / "train" / "plain").write_bytes(LINES)
    assert reader_files(tmp_path / "train") == [path, tmp_path / "train" / "plain"]


@pytest.mark.parametrize("name", ["book_train.txt", "another.txt"])
def test_a_downloaded_tarball_ends_at_the_limit(tmp_path, name):
    """In a member that is read, and in one that is passed over."""
    with pytest.raises(DataError, match=REFUSAL):
        read_tarball(tarred(tmp_path, name))


def test_prepare_says_so_and_leaves_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare(["--interactions", str(bomb(tmp_path)), "--out", str(out)]) == 2
    assert re.search(REFUSAL, capsys.readouterr().err)
    assert not out.exists()


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_what_is_packed_once_more_is_not_unpacked_by_chance(tmp_path, pack):
    """The table reader unpacks such bytes by itself, to any size."""
    path = bomb(tmp_path, pack(LINES[:90_000]))
    with pytest.raises(DataError, match="packed twice, or by zstd or zlib"):
        read_click_log(path)


def test_by_default_real_data_is_far_below_the_limit(tmp_path, monkeypatch):
    """A file may be 100 times as large unpacked; below 256 MiB it may be anything."""
    monkeypatch.delenv(VARIABLE)
    assert read_bytes(bomb(tmp_path, bytes(20 << 20))) == bytes(20 << 20)
    monkeypatch.setattr("paddlerec_milvus.data.unpacking.LEAST_LIMIT", 1 << 20)
    path = bomb(tmp_path)
    assert read_bytes(path) == LINES
    size = 100 * bomb(tmp_path, bytes(20 << 20)).stat().st_size
    with pytest.raises(DataError, match=f"unpack to more than {size:,}, so"):
        read_bytes(path)


@pytest.mark.parametrize("value", ["much", "0", "-1", "nan", "inf", ""])
def test_a_limit_that_is_none(tmp_path, monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(SettingsError, match=f"{VARIABLE}: '{value}' is no size; expected GiB"):
        read_bytes(bomb(tmp_path))
