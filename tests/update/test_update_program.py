# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command itself: from a log to a first export, killed and gone on with, on a full disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fault_table.small_disk import FullDisk
from support import ROOT

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.update.cli import main

UPDATE = [sys.executable, "-u", str(ROOT / "tools" / "update.py"), "-m", "mind/config.yaml"]
SMALL = ["runner.epochs=1", "hyper_parameters.neg_samples=16", "runner.train_batch_size=64"]


def write_clicks(file: Path, users: int) -> Path:
    """Users who walk round groups of 10 items; ids are strings."""
    lines = ["user,item,time\n"]
    for user in range(users):
        group, start = user % 4, user % 10
        items = (f"b{group * 10 + (start + step) % 10}" for step in range(9))
        lines += [f"u{user},{item},{1_700_000_000 + t}\n" for t, item in enumerate(items)]
    file.write_text("".join(lines))
    return file


def started(words: list[str], prefix: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*prefix, *UPDATE, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ran(words: list[str], code: int, prefix: list[str] | None = None) -> str:
    """What the command printed, the log included."""
    process = started(words, prefix or [])
    text, _ = process.communicate(timeout=300)
    assert process.returncode == code, text
    assert "Traceback" not in text
    return text


@pytest.mark.slow
def test_two_days_killed_in_between(tmp_path):
    pytest.importorskip("paddle2onnx")
    log, exports = write_clicks(tmp_path / "clicks.csv", 160), tmp_path / "exports"
    words = ["--log", str(log), "--exports", str(exports), "-o", *SMALL]
    text = ran(words, 0)
    assert "gate: nothing serves that it could be compared with" in text
    first = (exports / "current").readlink().name
    assert text.splitlines()[-1].startswith(f"switched: current is {first}: mind, epoch 0, ")
    assert "unchanged: " in ran(words, 0)  # the same clicks, and so the same model
    assert [place.name for place in exports.glob("2*")] == [first]
    write_clicks(log, 200)
    words += ["--from", "last"]
    words += ["--gate", "recall@50=-1", "ndcg@10=-1"]
    for signalled in (signal.SIGKILL, signal.SIGINT):
        process = started(words, [])
        assert process.stdout is not None
        for line in process.stdout:
            if re.search(r"batch_id: 0", line):  # paddle makes another error of it before
                break
        process.send_signal(signalled)
        text, _ = process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 130), text
        assert (exports / "current").readlink().name == first
    text = ran(words, 0)
    assert "prepare: done before" in text
    assert (exports / "current").readlink().name != first
    left = [file.name for file in (exports / "runs" / first).iterdir()]
    assert left == ["state.json"]  # the disk does not fill


@pytest.mark.slow
def test_a_full_disk_switches_nothing_and_the_same_command_goes_on(trained, tmp_path):
    pytest.importorskip("paddle2onnx")
    folder = f"runner.infer_load_path={tmp_path / 'out'}"
    options = ["--trained", "-o", "hyper_parameters.neg_samples=128", folder]
    gate = ["--gate", "recall@50=-1", "ndcg@10=-1"]
    for epoch in ("0", "1"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / epoch).symlink_to(trained.checkpoints / epoch)
        if epoch == "1":
            break
        try:
            disk = FullDisk(tmp_path / "small", 64 << 20).__enter__()
        except RetrievalError as problem:
            pytest.skip(str(problem))
        words = ["--data", str(trained.data), "--exports", str(disk.folder / "exports")]
        words += [*options, *gate]
        ran(words, 0, disk.prefix)
    try:
        link = disk.outside / "exports" / "current"
        first = link.readlink()
        disk.fill(200_000)
        text = ran(words, 1, disk.prefix)
        assert "No space left on device" in text
        assert link.readlink() == first
        disk.clear()
        assert "switched: " in ran(words, 0, disk.prefix)
        assert link.readlink() != first
    finally:
        disk.__exit__()


@pytest.mark.slow
def test_a_disk_that_fills_at_each_long_step(tmp_path):
    """The old model serves, and once there is room the same command goes on."""
    pytest.importorskip("paddle2onnx")
    log = write_clicks(tmp_path / "clicks.csv", 160)
    try:
        disk = FullDisk(tmp_path / "small", 64 << 20).__enter__()
    except RetrievalError as problem:
        pytest.skip(str(problem))
    words = ["--log", str(log), "--exports", str(disk.folder / "exports"), "--rank", "trees"]
    words += ["--gate", "recall@50=-1", "ndcg@10=-1", "-o", *SMALL]
    try:
        ran(words, 0, disk.prefix)
        link = disk.outside / "exports" / "current"
        first = link.readlink()
        write_clicks(log, 200)
        disk.fill()
        text = ran(words, 1, disk.prefix)
        assert "state.json: cannot be written: No space left on device" in text
        disk.clear()
        for step in ("train", "rank", "export"):  # what is quicker is over before the disk is full
            text = filled_at(f"{step} …", words, disk)
            assert "No space left on device" in text.splitlines()[-1]
            assert text.endswith("; the same command goes on\n")
            assert link.readlink() == first
            disk.clear()
        text = ran(words, 0, disk.prefix)
        assert "rank: done before" in text
        assert link.readlink() != first
    finally:
        disk.__exit__()


def filled_at(line: str, words: list[str], disk: FullDisk) -> str:
    """What the command printed, which failed as the disk was full from ``line`` on."""
    process = started(words, disk.prefix)
    assert process.stdout is not None
    text = ""
    for printed in process.stdout:
        text += printed
        if printed.rstrip().endswith(line):
            disk.fill()
            break
    text += process.communicate(timeout=300)[0]
    assert process.returncode == 1, text
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "give --data, a prepared folder, or --log"),
        (["--log", "nowhere.csv"], "--log nowhere.csv: no such file"),
        (["--data", ".", "--prepare", "x"], "--prepare does not go with --data"),
        (["--data", "DATA", "--gate", "x=1"], "--gate x=1: expected a measure"),
        (["--data", "DATA", "--limit", "p99"], "--limit p99: expected one of"),
        (["--data", "DATA", "--keep", "0"], "--keep is at least 1"),
        (["--data", "DATA", "--trained", "--from", "last"], "--trained trains nothing"),
        (["--data", "DATA", "-o", "runner.epoch=1"], "runner.epoch"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_done(words, problem, trained, tmp_path, capsys):
    words = [str(trained.data) if word == "DATA" else word for word in words]
    exports = tmp_path / "exports"
    assert main(["-m", "mind/config.yaml", "--exports", str(exports), *words]) == 2
    assert problem in capsys.readouterr().err
    assert not exports.exists()
