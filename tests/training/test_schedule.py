# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The learning rate that a model folder asks for, at every step."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from runs import FOLDERS, run, stopped
from support import checkpoint_bits, generic_folder

from paddlerec_milvus.errors import ModelError

COSINE = "hyper_parameters.optimizer.schedule=cosine"
FALLING = '''
    def learning_rate(self, config, progress):
        """Falls in a straight line from 0.01 to 0."""
        return 0.01 * (1 - progress)
'''
COUNTED = """
    def count_batches(self, batch_size):
        return 48 // batch_size
"""


def falling(folder: Path, *, counted: bool = True) -> Path:
    """A generic folder with a schedule; 48 samples in 6 batches an epoch."""
    file = generic_folder(folder)
    with (folder / "dygraph_model.py").open("a") as source:
        source.write(FALLING)
    if counted:
        with (folder / "reader.py").open("a") as source:
            source.write(COUNTED)
    return file


@pytest.fixture
def mind(tmp_path: Path) -> Path:
    return FOLDERS["mind"](tmp_path / "model")


def test_each_step_has_the_rate_of_its_place_in_the_run(tmp_path: Path) -> None:
    rates: list[float] = []
    run(falling(tmp_path / "model"), tmp_path / "out", "runner.epochs=2", rates=rates)
    assert rates == pytest.approx([0.01 * (1 - step / 12) for step in range(12)])


def test_cosine_of_mind_falls_to_nothing(mind: Path, tmp_path: Path) -> None:
    rates: list[float] = []
    run(mind, tmp_path / "out", "runner.epochs=3", COSINE, rates=rates)
    assert len(rates) == 30  # 320 samples in batches of 32
    assert (np.diff(rates) <= 0).all()
    assert rates[-1] < 0.01 * rates[0]


@pytest.mark.parametrize("step", [3, 6, 8])
def test_resume_has_the_rates_of_a_whole_run(tmp_path: Path, step: int) -> None:
    file = falling(tmp_path / "model")
    whole = run(file, tmp_path / "whole", "runner.epochs=2")
    parts = stopped(file, tmp_path / "parts", step, "runner.epochs=2")
    rates: list[float] = []
    run(file, parts, "runner.epochs=2", resume=True, rates=rates)
    assert rates == pytest.approx([0.01 * (1 - n / 12) for n in range(step, 12)])
    assert checkpoint_bits(parts / "1") == checkpoint_bits(whole / "1")


@pytest.mark.parametrize("step", [None, 8])
def test_more_epochs_stretch_the_schedule_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, step: int | None
) -> None:
    caplog.set_level(logging.INFO)
    file, out = falling(tmp_path / "model"), tmp_path / "out"
    if step is None:
        run(file, out, "runner.epochs=2")
    else:
        stopped(file, out, step, "runner.epochs=2")
    assert "stretched" not in caplog.text
    rates: list[float] = []
    run(file, out, "runner.epochs=4", resume=True, rates=rates)
    assert "runner.epochs: was 2, is 4: the learning-rate schedule is stretched" in caplog.text
    assert rates[0] == pytest.approx(0.01 * (1 - (12 if step is None else step) / 24))


def test_a_constant_rate_is_not_stretched(
    mind: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    constant = "hyper_parameters.optimizer.schedule=constant"
    out = run(mind, tmp_path / "out", "runner.epochs=1", constant)
    caplog.set_level(logging.INFO)
    run(mind, out, "runner.epochs=2", constant, resume=True)
    assert "stretched" not in caplog.text


def test_a_reader_that_cannot_count(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"reader\.RecDataset needs count_batches\(batch_size\)"):
        run(falling(tmp_path / "model", counted=False), tmp_path / "out")
