# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The demo from nothing to its last line, with fewer steps of training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from support import ROOT

from paddlerec_milvus.demo.cli import main as demo

FEW_STEPS = (
    *("runner.epochs=1", "runner.batches_per_epoch=20", "runner.train_batch_size=64"),
    *("hyper_parameters.neg_samples=64", "index.type=FLAT"),
)


def arguments(out, *options):
    return [
        *("--out", str(out), "-o", f"runner.model_save_path={out}/model"),
        *(f"runner.infer_load_path={out}/model", f"milvus.uri={out}/milvus.db"),
        *FEW_STEPS,
        *options,
    ]


@pytest.mark.slow
def test_a_first_run_and_a_second_one(tmp_path, capsys, caplog):
    assert demo(arguments(tmp_path)) == 0
    shown = capsys.readouterr().out
    for words in (
        "1 of 5",
        "MostPopular",
        "all channels, ranked",
        "item-kNN",
        "transitions",
        "interest 4",
        "Next",
    ):
        assert words in shown
    assert shown.count("Reader ") == 2
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["baselines"]) == {"most_popular", "item_knn", "transitions"}
    assert report["baselines"]["transitions"]["recall@50"] > report["recall@50"] > 0
    assert report["retriever"] == str(tmp_path / "milvus.db")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    best = tmp_path / "model" / "best"
    files = [best / "rec.pdparams", best / "ranking" / "trees.onnx"]
    written = [file.stat().st_mtime for file in files]

    assert demo(arguments(tmp_path)) == 0
    again = capsys.readouterr().out
    assert "already prepared" in again
    assert "1 epochs are done" in caplog.text
    assert [file.stat().st_mtime for file in files] == written
    assert json.loads((tmp_path / "report.json").read_text())["recall@50"] == report["recall@50"]

    # other settings are another run: the first one's epochs move aside
    assert demo(arguments(tmp_path, "runner.seed=7")) == 0
    assert (tmp_path / "model" / "earlier-1" / "0" / "rec.pdparams").exists()


@pytest.mark.slow
def test_ctrl_c_in_training_loses_nothing(tmp_path):
    options = arguments(tmp_path, "runner.batches_per_epoch=200", "runner.print_interval=1")
    command = [sys.executable, "-m", "paddlerec_milvus.demo", *options]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "batch_id: 3," in line:
                os.kill(run.pid, signal.SIGINT)
                break
        rest = run.stderr.read()
    assert run.returncode == 130
    assert rest.splitlines()[-1].endswith("batches; the same command goes on")
    assert (tmp_path / "model" / "interrupted" / "rec.pdparams").exists()
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "resumed from" in ended.stderr


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert demo(["--out", str(tmp_path / "file")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --out {tmp_path / 'file'}/report.json: cannot be written")


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path, capsys):
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "notes.txt").touch()
    assert demo(["--out", str(tmp_path)]) == 2
    assert "was not made by prepare.py" in capsys.readouterr().err


def test_a_misspelt_setting_is_refused_with_the_nearest_name(tmp_path, capsys):
    assert demo(["--out", str(tmp_path), "-o", "runner.epoch=1"]) == 2
    assert "unknown key 'runner.epoch' (did you mean 'epochs'?)" in capsys.readouterr().err
