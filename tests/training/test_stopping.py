# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A run that diverges says where and leaves the last good checkpoint; Ctrl-C asks, then stops."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from runs import FOLDERS, run
from support import checkpoint_bits, generic_folder

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import SettingsError, TrainingError
from paddlerec_milvus.training.cli import main
from paddlerec_milvus.training.stopping import nan_is_divergence, stop_on_request

# cosine / 1e-45 is infinite in float32, and infinity minus infinity is no number
STEEP = "hyper_parameters.temperature=1e-45"
GPU = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0


@pytest.fixture
def mind(tmp_path: Path) -> Path:
    return FOLDERS["mind"](tmp_path / "model")


class TestDiverged:
    def test_at_once(self, mind: Path, tmp_path: Path) -> None:
        with pytest.raises(TrainingError) as raised:
            run(mind, tmp_path / "out", "runner.epochs=1", STEEP)
        text = str(raised.value)
        assert text.startswith("epoch 0, batch 0 (step 0): the loss is nan; this run has saved no")
        assert "learning_rate: 0.002, hyper_parameters.temperature: 1e-45" in text
        assert not (tmp_path / "out").exists()

    def test_the_last_good_checkpoint_stays_and_goes_on(self, mind: Path, tmp_path: Path) -> None:
        whole = run(mind, tmp_path / "whole", "runner.epochs=2")
        out = run(mind, tmp_path / "out", "runner.epochs=1")
        good = checkpoint_bits(out / "0")
        with pytest.raises(TrainingError) as raised:
            run(mind, out, "runner.epochs=2", STEEP, resume=True)
        assert str(raised.value).startswith(
            f"epoch 1, batch 0 (step 10): the loss is nan; the last good checkpoint is {out / '0'}"
        )
        assert [p.name for p in out.iterdir()] == ["0"]
        assert checkpoint_bits(out / "0") == good
        run(mind, out, "runner.epochs=2", resume=True)
        assert checkpoint_bits(out / "1") == checkpoint_bits(whole / "1")

    def test_in_the_last_step_of_an_epoch(self, tmp_path: Path) -> None:
        # one batch an epoch: its loss is a number, what the step leaves is none
        file = generic_folder(tmp_path / "model", train_batch_size=48)
        steep = "hyper_parameters.optimizer.learning_rate=1e39"
        text = file.read_text().replace("width: 16", "width: 16\n  optimizer.learning_rate: 0.01")
        file.write_text(text)
        with pytest.raises(TrainingError, match=r"epoch 0, after step 0: NaN or infinite: .*out\."):
            run(file, tmp_path / "out", steep)
        assert not (tmp_path / "out").exists()

    def test_a_metric_that_meets_a_nan_before_the_loss_does(self) -> None:
        area = paddle.metric.Auc("ROC")
        why = r"^step 3: a metric of the model folder: .* NaN"
        with pytest.raises(TrainingError, match=why), nan_is_divergence("step 3", {}, None):
            area.update(np.array([[0.5, np.nan]]), np.array([[1]]))
        fault = pytest.raises(ValueError, match="another fault")
        with fault, nan_is_divergence("step 3", {}, None):
            raise ValueError("another fault")

    def test_through_the_command_line(self, mind: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["-m", str(mind), "-o", STEEP]) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: epoch 0, batch")


class TestOnRequest:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_once_asks_twice_stops(self, number: int) -> None:
        before = signal.getsignal(number)
        with stop_on_request() as asked:
            assert not asked.is_set()
            os.kill(os.getpid(), number)
            assert asked.wait(5)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is before

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_once_nothing_cuts_off_the_last_words(self, number: int) -> None:
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(TrainingError), stop_on_request(once=True) as asked:
                raise TrainingError("one of the others is lost")
            os.kill(os.getpid(), number)  # the launcher ends the rest
            assert not asked.is_set()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def test_outside_the_main_thread_signals_are_left_alone(self) -> None:
        before, handlers = signal.getsignal(signal.SIGINT), []

        def work() -> None:
            with stop_on_request():
                handlers.append(signal.getsignal(signal.SIGINT))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert handlers == [before]


class TestSettings:
    @pytest.mark.parametrize("seed", [-1, 2**63])
    def test_a_seed_out_of_range(self, mind: Path, seed: int) -> None:
        with pytest.raises(SettingsError, match=rf"runner\.seed: {seed}"):
            load_settings(mind, [f"runner.seed={seed}"])

    def test_the_largest_seed(self, mind: Path, tmp_path: Path) -> None:
        out = run(mind, tmp_path / "out", "runner.epochs=1", f"runner.seed={2**63 - 1}")
        assert (out / "0" / "rec.pdparams").is_file()

    def test_a_batch_larger_than_the_data_is_one_short_batch(
        self, mind: Path, tmp_path: Path
    ) -> None:
        seen: list[Any] = []
        run(mind, tmp_path / "out", "runner.epochs=1", "runner.train_batch_size=5000", seen=seen)
        assert [len(batch[0]) for batch in seen] == [320]

    def test_amp_on_the_cpu(self, mind: Path, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"use_amp: True needs a GPU, .* on the cpu; set"):
            run(mind, tmp_path / "out", "runner.use_amp=True")

    @pytest.mark.skipif(not GPU, reason="bfloat16 autocast needs a paddle with a GPU")
    def test_amp_on_a_gpu_learns_what_float32_learns(self, mind: Path, tmp_path: Path) -> None:
        options = ["runner.epochs=3", "runner.use_gpu=True"]
        plain = paddle.load(str(run(mind, tmp_path / "a", *options) / "2" / "rec.pdparams"))
        amp = run(mind, tmp_path / "b", *options, "runner.use_amp=True")
        halved = paddle.load(str(amp / "2" / "rec.pdparams"))
        different = False
        for name, value in plain.items():
            assert halved[name].dtype == value.dtype  # parameters stay float32
            assert float(paddle.abs(halved[name] - value).mean()) < 0.05
            different |= bool((halved[name] != value).any())
        assert different
