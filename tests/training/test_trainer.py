# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The epoch loop: what it writes, what it refuses, and that stopping changes nothing."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from runs import FOLDERS, run, stopped
from support import ROOT, checkpoint_bits, generic_folder, mind_folder, python

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import CheckpointError, DataError, ModelError, SettingsError
from paddlerec_milvus.training.cli import main
from paddlerec_milvus.training.trainer import Trainer, train
from paddlerec_milvus.zoo import ModelFolder

NUMBER = r"\d+\.\d{5}"
COSTS = (
    rf"avg_reader_cost: {NUMBER} sec, avg_batch_cost: {NUMBER} sec, avg_samples: {NUMBER}, "
    rf"ips: {NUMBER} ins/s"
)


@pytest.fixture(params=sorted(FOLDERS))
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The yaml of our MIND, and of a folder in upstream's style, each with dropout."""
    return FOLDERS[request.param](tmp_path / "model")


@pytest.fixture
def mind(tmp_path: Path) -> Path:
    return FOLDERS["mind"](tmp_path / "model")


@pytest.fixture
def generic(tmp_path: Path) -> Path:
    return FOLDERS["generic"](tmp_path / "model")


class TestLogAndFiles:
    def test_lines_have_paddlerecs_shape(
        self, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        run(model, tmp_path / "out", "runner.epochs=2")
        lines = [record.getMessage() for record in caplog.records]
        values = r"(auc:0\.\d{6}, )?loss:\d+\.\d+(e-\d+)?, "
        batch = re.compile(rf"epoch: (\d), batch_id: (\d+), {values}{COSTS}")
        done = re.compile(rf"epoch: (\d) done, {values}epoch time: \d+\.\d\d s")
        logged = [m.group(1, 2) for m in map(batch.fullmatch, lines) if m]
        ids = (
            ("0", "4", "8") if "MIND" in (model.parent / "net.py").read_text() else ("0", "2", "4")
        )
        assert logged == [(epoch, i) for epoch in "01" for i in ids]
        assert [m.group(1) for m in map(done.fullmatch, lines) if m] == ["0", "1"]
        assert sum(line.startswith("saved ") for line in lines) == 2

    def test_checkpoints(self, model: Path, tmp_path: Path) -> None:
        out = run(model, tmp_path / "out", "runner.epochs=2")
        assert sorted(p.name for p in out.iterdir()) == ["0", "1"]
        for epoch in out.iterdir():
            files = {p.name for p in epoch.iterdir()}
            assert files == {"rec.json", "rec.pdparams", "rec.pdopt", "rec.pdstate"}
        assert checkpoint_bits(out / "0") != checkpoint_bits(out / "1")

    def test_a_relative_save_path_is_in_the_folder_of_the_yaml(self, generic: Path) -> None:
        train(load_settings(generic, ["runner.epochs=1"]))
        assert (generic.parent / "out" / "0" / "rec.pdparams").is_file()

    def test_the_loss_falls_on_a_planted_log(
        self, mind: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        rate = "hyper_parameters.optimizer.learning_rate=0.02"
        run(mind, tmp_path / "out", "runner.epochs=8", rate)
        text = " ".join(record.getMessage() for record in caplog.records)
        losses = [float(x) for x in re.findall(r"done, loss:([\d.]+)", text)]
        # 16 negatives and the target, nothing learned: log 17 = 2.8 with equal logits
        assert losses[-1] < 0.6 * losses[0]

    def test_use_visual(self, generic: Path, tmp_path: Path) -> None:
        run(generic, tmp_path / "out", "runner.epochs=1", "runner.use_visual=True")
        (log,) = (generic.parent / "visualDL_log" / "train").iterdir()
        content = log.read_bytes()
        assert b"train/loss" in content
        assert b"train/auc" in content

    def test_use_visual_is_closed_when_stopped(self, generic: Path, tmp_path: Path) -> None:
        stopped(generic, tmp_path / "out", 3, "runner.use_visual=True")
        (log,) = (generic.parent / "visualDL_log" / "train").iterdir()
        assert b"train/loss" in log.read_bytes()


class TestSameBits:
    def test_same_seed(self, model: Path, tmp_path: Path) -> None:
        first = run(model, tmp_path / "a", "runner.epochs=1")
        same = run(model, tmp_path / "b", "runner.epochs=1")
        other = run(model, tmp_path / "c", "runner.epochs=1", "runner.seed=5")
        assert checkpoint_bits(first / "0") == checkpoint_bits(same / "0")
        assert checkpoint_bits(first / "0") != checkpoint_bits(other / "0")

    def test_one_epoch_and_resume_to_three(self, model: Path, tmp_path: Path) -> None:
        whole = run(model, tmp_path / "whole", "runner.epochs=3")
        parts = run(model, tmp_path / "parts", "runner.epochs=1")
        np.random.rand(7)  # noqa: NPY002 - whatever happened in between
        run(model, parts, "runner.epochs=3", resume=True)
        for epoch in "012":
            assert checkpoint_bits(parts / epoch) == checkpoint_bits(whole / epoch)

    @pytest.mark.parametrize("step", [1, 3, 6, 8])  # generic: 6 batches in an epoch, MIND 10
    def test_stopped_inside_an_epoch(self, model: Path, tmp_path: Path, step: int) -> None:
        whole = run(model, tmp_path / "whole", "runner.epochs=2")
        parts = stopped(model, tmp_path / "parts", step, "runner.epochs=2")
        assert (parts / "interrupted" / "rec.pdparams").is_file()
        paddle.seed(99)
        run(model, parts, "runner.epochs=2", resume=True)
        assert checkpoint_bits(parts / "1") == checkpoint_bits(whole / "1")
        assert sorted(p.name for p in parts.iterdir()) == ["0", "1"]

    def test_stopped_twice_in_the_same_epoch(self, model: Path, tmp_path: Path) -> None:
        whole = run(model, tmp_path / "whole", "runner.epochs=1")
        parts = stopped(model, tmp_path / "parts", 2, "runner.epochs=1")
        stopped(model, parts, 2, "runner.epochs=1", resume=True)
        run(model, parts, "runner.epochs=1", resume=True)
        assert checkpoint_bits(parts / "0") == checkpoint_bits(whole / "0")

    def test_last_epoch(self, model: Path, tmp_path: Path) -> None:
        whole = run(model, tmp_path / "whole", "runner.epochs=3")
        shutil.copytree(whole / "0", tmp_path / "parts" / "0")
        parts = run(model, tmp_path / "parts", "runner.epochs=3", "runner.last_epoch=0")
        assert checkpoint_bits(parts / "2") == checkpoint_bits(whole / "2")

    @pytest.mark.slow
    def test_in_processes_of_their_own(self, generic: Path, tmp_path: Path) -> None:
        # the folder itself sends Ctrl-C, so the step is known
        source = generic.parent / "dygraph_model.py"
        stop = "import os, signal\n        if os.environ.get('STOP_IN') == str(self.at()): "
        stop += "os.kill(os.getpid(), signal.SIGINT)\n        label, features = "
        text = source.read_text().replace("label, features = ", stop, 1)
        text += "\n    step = 0\n\n    def at(self):\n"
        text += "        self.step += 1\n        return self.step\n"
        source.write_text(text)

        def trainer(out: str, *options: str, **environment: str) -> Any:
            arguments = ["-m", str(generic), "-o", f"runner.model_save_path={out}", *options]
            script = [str(ROOT / "tools" / "trainer.py"), *arguments]
            return python(*script, cwd=tmp_path, PYTHONPATH=str(ROOT), **environment)

        assert trainer("whole").returncode == 0
        done = trainer("parts", STOP_IN="9")
        assert done.returncode == 130, done.stderr
        assert done.stderr.strip().splitlines()[-1] == (
            "stopped in epoch 1 after 3 batches; the same command with --resume goes on"
        )
        assert "saved parts/interrupted" in done.stderr
        done = trainer("parts", "--resume")
        assert done.returncode == 0, done.stderr
        assert checkpoint_bits(tmp_path / "parts" / "2") == checkpoint_bits(
            tmp_path / "whole" / "2"
        )


class TestResume:
    def test_nothing_there_starts_at_zero(
        self, generic: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        out = run(generic, tmp_path / "out", "runner.epochs=1", resume=True)
        assert "nothing to resume" in caplog.text
        assert (out / "0").is_dir()

    def test_a_finished_run_says_so(
        self, generic: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        out = run(generic, tmp_path / "out", "runner.epochs=2")
        caplog.set_level(logging.INFO)
        seen: list[Any] = []
        run(generic, out, "runner.epochs=2", resume=True, seen=seen)
        assert seen == []
        assert "2 epochs are done; raise runner.epochs: 2 to go on" in caplog.text

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("runner.train_batch_size=4", r"runner\.train_batch_size: was 8, is 4"),
            ("runner.seed=9", r"runner\.seed: was 12345, is 9"),
            ("runner.num_workers=1", r"runner\.num_workers: was None, is 1"),
        ],
    )
    def test_another_order_inside_an_epoch(
        self, generic: Path, tmp_path: Path, option: str, message: str
    ) -> None:
        out = stopped(generic, tmp_path / "out", 8)
        with pytest.raises(SettingsError, match=rf"stands inside epoch 1.*{message}"):
            run(generic, out, option, resume=True)

    def test_another_batch_size_between_epochs(self, generic: Path, tmp_path: Path) -> None:
        out = run(generic, tmp_path / "out", "runner.epochs=1")
        seen: list[Any] = []
        run(generic, out, "runner.epochs=2", "runner.train_batch_size=4", resume=True, seen=seen)
        assert len(seen) == 12

    def test_another_optimizer(self, mind: Path, tmp_path: Path) -> None:
        out = run(mind, tmp_path / "out", "runner.epochs=1")
        with pytest.raises(SettingsError, match="optimizer: was Adam, is SGD"):
            run(mind, out, "hyper_parameters.optimizer.class=SGD", resume=True)

    def test_another_shape(self, mind: Path, tmp_path: Path) -> None:
        out = run(mind, tmp_path / "out", "runner.epochs=1")
        with pytest.raises(CheckpointError, match=r"item_emb\.weight: \[41, 8\] in the file, \[50"):
            run(mind, out, "hyper_parameters.item_count=50", resume=True)

    def test_last_epoch_that_is_not_there(self, generic: Path, tmp_path: Path) -> None:
        out = run(generic, tmp_path / "out", "runner.epochs=1")
        with pytest.raises(CheckpointError, match=r"holds: 0$"):
            run(generic, out, "runner.last_epoch=4")

    def test_a_new_run_over_a_longer_old_one(self, generic: Path, tmp_path: Path) -> None:
        whole = run(generic, tmp_path / "whole", "runner.seed=2")
        out = run(generic, tmp_path / "out")  # another seed, three epochs
        stopped(generic, out, 8, "runner.seed=2")
        run(generic, out, "runner.seed=2", resume=True)
        assert checkpoint_bits(out / "2") == checkpoint_bits(whole / "2")

    def test_model_init_path(self, mind: Path, tmp_path: Path) -> None:
        out = run(mind, tmp_path / "out", "runner.epochs=1")
        settings = load_settings(mind, [f"runner.model_init_path={out / '0'}"])
        trainer = Trainer(settings, ModelFolder(mind.parent))
        stored = paddle.load(str(out / "0" / "rec.pdparams"))
        for name, value in trainer.model.state_dict().items():
            assert (value.numpy() == stored[name].numpy()).all()
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            run(mind, out, f"runner.model_init_path={out / '7'}")


class TestRefused:
    def never(self, file: Path, tmp_path: Path, *options: str) -> None:
        seen: list[Any] = []
        try:
            run(file, tmp_path / "out", *options, seen=seen)
        finally:
            assert seen == []
            assert not (tmp_path / "out").exists()

    def test_item_count_below_the_largest_id(self, mind: Path, tmp_path: Path) -> None:
        with pytest.raises(
            ModelError, match=r"item_count: 40 allows item ids 1 to 39.*1 to 40; set"
        ):
            self.never(mind, tmp_path, "hyper_parameters.item_count=40")

    def test_a_bad_hyper_parameter(self, mind: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"hyper_parameters\.dropout: 2\.0"):
            self.never(mind, tmp_path, "hyper_parameters.dropout=2.0")

    def test_a_batch_larger_than_the_data(self, generic: Path, tmp_path: Path) -> None:
        with pytest.raises(
            DataError, match=r"not one batch of runner\.train_batch_size: 49; lower"
        ):
            self.never(generic, tmp_path, "runner.train_batch_size=49")

    def test_train_data(self, generic: Path, tmp_path: Path) -> None:
        with pytest.raises(
            DataError, match=r"runner\.train_data_dir: .*none: no such folder.*--data"
        ):
            self.never(generic, tmp_path, f"runner.train_data_dir={tmp_path / 'none'}")
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / ".hidden").write_text("")
        with pytest.raises(DataError, match=r"runner\.train_data_dir: .*empty: holds no data"):
            self.never(generic, tmp_path, f"runner.train_data_dir={tmp_path / 'empty'}")

    def test_train_data_that_the_model_reads_first(self, mind: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"none: no such folder; .*prepare\.py --sample"):
            self.never(
                mind,
                tmp_path,
                f"runner.train_data_dir={tmp_path / 'none'}",
                "hyper_parameters.item_start=clicks",
            )

    def test_train_data_not_set(self, tmp_path: Path) -> None:
        file = generic_folder(tmp_path / "model", train_data_dir=None)
        with pytest.raises(SettingsError, match=r"runner\.train_data_dir is missing"):
            self.never(file, tmp_path)

    @pytest.mark.skipif(paddle.is_compiled_with_cuda(), reason="this paddle has a GPU")
    @pytest.mark.parametrize("device", ["gpu", "xpu", "npu"])
    def test_a_device_that_is_not_there(self, generic: Path, tmp_path: Path, device: str) -> None:
        with pytest.raises(
            SettingsError, match=rf"runner\.use_{device}: True.*paddlerec-milvus\[gpu"
        ):
            self.never(generic, tmp_path, f"runner.use_{device}=True")

    def test_two_optimizers(self, generic: Path, tmp_path: Path) -> None:
        source = generic.parent / "dygraph_model.py"
        text = source.read_text().replace("return paddle.optimizer.Adam(", "return 1, (")
        source.write_text(text.replace("learning_rate=rate, parameters=dy_model.parameters()", "2"))
        with pytest.raises(
            SettingsError, match="create_optimizer gives a tuple, not one optimizer"
        ):
            self.never(generic, tmp_path)

    def test_through_the_command_line(
        self, generic: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["-m", str(generic), "-o", "runner.epoch=3"]) == 2
        assert "did you mean 'epochs'" in capsys.readouterr().err
        assert main(["-m", str(generic), "-o", "runner.epochs=1"]) == 0


def test_use_fleet_without_a_launcher(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"runner\.use_fleet: True asks for several processes"):
        train(load_settings(mind_folder(tmp_path / "mind"), ["runner.use_fleet=True"]))
