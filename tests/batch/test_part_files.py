# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Parts are whole or not there, are made once, and a job that goes on ends as one at once."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from batch_model import SmallModel, rows_of

from paddlerec_milvus.batch.part_files import PartFolder
from paddlerec_milvus.batch.shares import Share
from paddlerec_milvus.errors import DataError

PARTS = 6  # of 600 users


def content_of(folder: Path) -> dict[str, bytes]:
    """All that a reader sees."""
    return {file.name: file.read_bytes() for file in folder.glob("[!.]*")}


@pytest.fixture(scope="module")
def whole(small: SmallModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "lists"
    small.lists(folder)
    return folder


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a disk that has no more room than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def interrupted(small: SmallModel, out: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> int:
    """Ctrl-C while the part ``after`` that many is written; returns the exit code."""
    write, numbers = PartFolder.write, list[int]()

    def stopped(self: PartFolder, number: int, users: pl.Series, rows: pl.DataFrame) -> None:
        if len(numbers) == after:
            raise KeyboardInterrupt
        numbers.append(number)
        write(self, number, users, rows)

    with monkeypatch.context() as patch:
        patch.setattr(PartFolder, "write", stopped)
        return small.run("--exact", "--top_k", "20", "--part-users", "100", "--out", str(out))


def test_it_goes_on_after_ctrl_c(
    small: SmallModel,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "lists"
    assert interrupted(small, out, monkeypatch, 2) == 130
    said = capsys.readouterr().err
    assert "interrupted. 2 of 6 parts are written and stay: the same command goes on" in said
    assert len(list(out.glob("part-*"))) == 2
    assert not list(out.glob("_SUCCESS"))
    first = out / "part-1of1-00000.parquet"
    before = first.stat().st_mtime_ns
    with (out / "_parts-1of1.jsonl").open("a") as lines:
        lines.write('{"part":2,"fi')  # as of a kill between two writes
    small.lists(out)
    assert "a line that was cut off" in capsys.readouterr().err
    assert first.stat().st_mtime_ns == before
    assert content_of(out) == content_of(whole)
    small.lists(out)
    assert "finished already, nothing to do: share 1/1, 600 users" in capsys.readouterr().out
    assert content_of(out) == content_of(whole)


@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_part_is_made_anew(
    finished: bool,
    small: SmallModel,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "lists"
    if finished:
        shutil.copytree(whole, out)
    else:
        interrupted(small, out, monkeypatch, 4)
    part = out / "part-1of1-00001.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    small.lists(out)
    shown = capsys.readouterr()
    assert f"warning: {part}: is missing, or not as it was written: it is made anew" in shown.err
    assert "finished already" not in shown.out
    assert content_of(out) == content_of(whole)


def test_other_parameters_are_refused(
    small: SmallModel, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(whole, tmp_path / "lists")
    usual = ["--exact", "--part-users", "100", "--out", str(out)]
    for flags, words in {
        ("--top_k", "30"): "top_k 20 there, 30 here. Give another place",
        ("--top_k", "20", "--details"): "details False there, True here",
        ("--top_k", "20", "--epoch", "0"): "digest ",
        ("--top_k", "20", "--share", "1/2"): "shares 1 there, 2 here",
        ("--top_k", "20", "--rank"): "ranker '' there, ",
    }.items():
        assert small.run(*usual, *flags) == 2
        said = capsys.readouterr().err
        assert f"{out} holds lists of other parameters: " in said
        assert words in said
    assert content_of(out) == content_of(whole)


def test_a_full_disk_leaves_whole_parts(
    small: SmallModel, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lists"
    sizes = sorted(file.stat().st_size for file in whole.glob("part-*"))
    with largest_file(sizes[-1] - 1):
        assert small.run("--exact", "--top_k", "20", "--part-users", "100", "--out", str(out)) == 2
    said = capsys.readouterr().err
    assert "cannot be written: File too large. " in said
    assert "parts are written and stay: the same command goes on" in said
    for file in out.iterdir():
        if not file.name.startswith((".lock", "_")):
            assert file.read_bytes() == (whole / file.name).read_bytes()
    small.lists(out)
    assert content_of(out) == content_of(whole)


def test_shares_fill_one_folder(small: SmallModel, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "lists"
    for number in (2, 3, 1):
        assert not (out / "_SUCCESS").exists()
        rows = small.lists(out, "--share", f"{number}/3")
    assert (out / "_SUCCESS").exists()
    expected = rows_of(whole)
    assert rows.sort("user").drop("scores").equals(expected.drop("scores"))


def test_a_share_is_made_by_one_process(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty and holds no lists"):
        PartFolder(tmp_path, {}, Share()).__enter__()
    (tmp_path / "notes.txt").unlink()
    first = PartFolder(tmp_path, {}, Share(1, 2))
    busy = pytest.raises(DataError, match="another process makes the share 1of2 just now")
    with first, PartFolder(tmp_path, {}, Share(2, 2)), busy:
        PartFolder(tmp_path, {}, Share(1, 2)).__enter__()
    with PartFolder(tmp_path, {}, Share(1, 2)):
        pass


def test_shares_may_start_together(tmp_path: Path) -> None:
    shares = [Share(number, 16) for number in range(1, 17)]

    def enter(share: Share) -> str:
        with PartFolder(tmp_path / "lists", {"top_k": 50}, share) as folder:
            return str(folder)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(enter, shares)) == [str(tmp_path / "lists")] * 16
