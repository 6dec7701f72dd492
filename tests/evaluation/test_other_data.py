# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Evaluation and benchmark take a checkpoint with its own data alone, and need no negatives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from paddlerec_milvus.bench.workload import trained_workload
from paddlerec_milvus.data.fingerprint import fingerprint_of
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.evaluation.cli import main as infer


@pytest.fixture
def other(trained, tmp_path: Path) -> Path:
    """Another log with as many items."""
    folder = shutil.copytree(trained.data, tmp_path / "other")
    clicks = folder / "train" / "clicks.csv"
    clicks.write_text(clicks.read_text().replace("\n", "\n1,1,0\n", 1))
    return folder


def check_names_both(message: str, trained, other: Path) -> None:
    for name, folder in (("data", trained.data), ("other", other)):
        assert f"'{name}' (fingerprint {fingerprint_of(folder)}, {folder})" in message


def test_infer_refuses_the_checkpoint_of_another_log(trained, other, capsys):
    options = [f"runner.infer_load_path={trained.checkpoints}"]
    data = ["-m", "mind/config.yaml", "--data", str(other)]
    for choice in (["--best"], ["-o", "runner.infer_start_epoch=1", "runner.infer_end_epoch=2"]):
        assert infer([*data, "--exact", "-o", *options, *choice]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        check_names_both(shown.err.splitlines()[-1], trained, other)


def test_the_benchmark_refuses_it(trained, other):
    options = [f"runner.infer_load_path={trained.checkpoints}"]
    with pytest.raises(CheckpointError) as raised:
        trained_workload("mind", "mind/config.yaml", other, options, "best", 10, 1)
    check_names_both(str(raised.value), trained, other)
    work = trained_workload("mind", "mind/config.yaml", trained.data, options, "best", 10, 1)
    assert work.about["data_fingerprint"] == fingerprint_of(trained.data)


def test_infer_asks_for_no_negatives(trained, capsys):
    """The yaml's 1,280 are more than the 300 items; training would refuse them."""
    arguments = ["-m", "mind/config.yaml", "--data", str(trained.data), "--best", "--exact", "-o"]
    assert infer([*arguments, f"runner.infer_load_path={trained.checkpoints}"]) == 0
    assert "MIND, epoch" in capsys.readouterr().out
