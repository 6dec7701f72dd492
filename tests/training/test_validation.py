# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Validation: the numbers are right, the best epoch is kept, and measuring changes nothing."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import FOLDERS, run, stopped, write_valid
from support import checkpoint_bits, generic_folder

from paddlerec_milvus.command import model_parser, read_settings
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.errors import DataError, ModelError, SettingsError
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.training.checkpoint import Best
from paddlerec_milvus.training.cli import main as train
from paddlerec_milvus.training.trainer import Trainer
from paddlerec_milvus.zoo import ModelFolder

# at this rate no float32 parameter moves: every epoch measures the same
STILL = "hyper_parameters.optimizer.learning_rate=1e-30"
COSINE = "hyper_parameters.optimizer.schedule=cosine"
FAST = "hyper_parameters.optimizer.learning_rate=0.02"


@pytest.fixture
def mind(tmp_path: Path) -> Path:
    return FOLDERS["mind"](tmp_path / "model")


@pytest.fixture
def valid(tmp_path: Path) -> list[str]:
    """Options that ask for validation by recall@5."""
    return [f"runner.valid_data_dir={write_valid(tmp_path / 'valid')}", "runner.valid_top_n=5"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "data"
    size = ["--users", "300", "--items", "100", "--clicks", "3000"]
    assert prepare(["--sample", *size, "--out", str(folder)]) == 0
    return folder


def brute_force(file: Path, checkpoint: Path, valid: Path, top_n: int) -> dict[str, float]:
    """recall@N and hitrate@N by the definition: every item against every interest, sets of ids."""
    encoder = Encoder(load_settings(file), ModelFolder(file.parent))
    encoder.load(checkpoint)
    users = read_held_out(valid)
    interests, table = encoder.interests(*users.histories(encoder.maxlen)), encoder.item_vectors()
    scores = np.einsum("ukd,nd->ukn", interests, table[1:]).max(axis=1)
    recalls = []
    for row, truths in zip(scores, users.truth_list(), strict=True):
        found = set((1 + np.argsort(-row, kind="stable")[:top_n]).tolist())
        recalls.append(len(found & set(truths.tolist())) / len(set(truths.tolist())))
    return {
        f"recall@{top_n}": float(np.mean(recalls)),
        f"hitrate@{top_n}": float(np.mean(np.array(recalls) > 0)),
    }


def best_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "best" / "best.json").read_text())
    return report


def logged(text: str) -> list[tuple[str, float]]:
    found = re.findall(
        r"epoch: (\d+) valid, recall@5: (\d\.\d{5}), ndcg@5: \d\.\d{5}, hitrate@5: \d\.\d{5}", text
    )
    return [(epoch, float(recall)) for epoch, recall in found]


class TestNumbers:
    def test_equal_to_brute_force_and_the_best_is_kept(
        self, mind: Path, tmp_path: Path, valid: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        out = run(mind, tmp_path / "out", "runner.epochs=4", FAST, *valid)
        expected = [brute_force(mind, out / str(e), tmp_path / "valid", 5) for e in range(4)]
        recalls = [each["recall@5"] for each in expected]
        assert [epoch for epoch, _ in logged(caplog.text)] == list("0123")
        assert [r for _, r in logged(caplog.text)] == pytest.approx(recalls, abs=1e-5)
        assert len(set(recalls)) > 1
        best = int(np.argmax(recalls))  # the first of equals
        kept = best_of(out)
        assert (kept["epoch"], kept["top_n"]) == (best, 5)
        assert {n: kept[n] for n in expected[best]} == pytest.approx(expected[best])
        files = {p.name for p in (out / "best").iterdir()}
        assert files == {"rec.json", "rec.pdparams", "best.json"}
        copy = (out / "best" / "rec.pdparams").read_bytes()
        assert copy == (out / str(best) / "rec.pdparams").read_bytes()

    def test_measuring_changes_nothing(self, mind: Path, tmp_path: Path, valid: list[str]) -> None:
        plain = run(mind, tmp_path / "plain", "runner.epochs=3")
        measured = run(mind, tmp_path / "measured", "runner.epochs=3", *valid)
        for epoch in "012":
            assert checkpoint_bits(plain / epoch) == checkpoint_bits(measured / epoch)
        assert not (plain / "best").exists()

    def test_no_second_model_is_made(self, mind: Path, valid: list[str]) -> None:
        trainer = Trainer(load_settings(mind, valid), ModelFolder(mind.parent))
        assert trainer.validation is not None
        assert trainer.validation.encoder.model is trainer.model
        trainer.validation.measure()
        assert trainer.model.training


class TestResume:
    # the log has 10 batches an epoch
    @pytest.mark.parametrize("step", [4, 15, 25])
    def test_stopped_inside_an_epoch(
        self, mind: Path, tmp_path: Path, valid: list[str], step: int
    ) -> None:
        options = ["runner.epochs=3", FAST, COSINE, *valid]
        whole = run(mind, tmp_path / "whole", *options)
        parts = stopped(mind, tmp_path / "parts", step, *options)
        np.random.rand(3)  # noqa: NPY002 - whatever happened in between
        run(mind, parts, *options, resume=True)
        assert checkpoint_bits(parts / "2") == checkpoint_bits(whole / "2")
        assert best_of(parts) == best_of(whole)
        for name in ("rec.pdparams", "best.json"):
            assert (parts / "best" / name).read_bytes() == (whole / "best" / name).read_bytes()

    def test_the_best_of_before_is_remembered(
        self, mind: Path, tmp_path: Path, valid: list[str]
    ) -> None:
        # epoch 0 is the best, as the others measure the same
        out = run(mind, tmp_path / "out", "runner.epochs=1", STILL, *valid)
        first = (out / "best" / "rec.pdparams").read_bytes()
        shutil.rmtree(out / "best")  # as if the process was lost before it was written
        run(mind, out, "runner.epochs=2", STILL, *valid, resume=True)
        assert best_of(out)["epoch"] == 0
        assert (out / "best" / "rec.pdparams").read_bytes() == first

    def test_another_measure_is_another_best(
        self, mind: Path, tmp_path: Path, valid: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        out = run(mind, tmp_path / "out", "runner.epochs=1", STILL, *valid)
        caplog.set_level(logging.INFO)
        options = ["runner.epochs=2", STILL, *valid, "runner.valid_top_n=3"]
        run(mind, out, *options, resume=True)
        assert "epoch so far, 0, is forgotten: runner.valid_top_n: was 5, is 3" in caplog.text
        assert (best_of(out)["epoch"], best_of(out)["top_n"]) == (1, 3)

    def test_a_folder_that_moved_is_the_same_users(
        self, mind: Path, tmp_path: Path, valid: list[str]
    ) -> None:
        out = run(mind, tmp_path / "out", "runner.epochs=1", STILL, *valid)
        moved = tmp_path / "elsewhere" / "valid"
        shutil.copytree(tmp_path / "valid", moved)
        place = f"runner.valid_data_dir={moved}"
        run(mind, out, "runner.epochs=2", STILL, *valid, place, resume=True)
        assert best_of(out)["epoch"] == 0
        (moved / "part-1").write_text("user_id:1 target_item:0 hist_item:1 eval_item:2\n")
        run(mind, out, "runner.epochs=3", STILL, *valid, place, resume=True)
        assert best_of(out)["epoch"] == 2  # other users, another measure

    def test_a_best_that_names_a_path_is_understood(self, mind: Path, valid: list[str]) -> None:
        """As earlier versions wrote it."""
        validation = Trainer(load_settings(mind, valid), ModelFolder(mind.parent)).validation
        assert validation is not None
        path = valid[0].partition("=")[2]
        measured = {**validation.measured, "runner.valid_data_dir": path}
        best = Best(3, {"recall@5": 0.5}, 5, measured)
        assert validation.comparable(best) == replace(best, measured=validation.measured)
        measured["runner.valid_data_dir"] = "/elsewhere"
        assert validation.comparable(best) is None

    def test_a_new_run_without_validation_drops_an_older_best(
        self, mind: Path, tmp_path: Path, valid: list[str]
    ) -> None:
        out = run(mind, tmp_path / "out", "runner.epochs=1", *valid)
        run(mind, out, "runner.epochs=1", "runner.seed=3")
        assert not (out / "best").exists()


class TestPatience:
    def test_it_ends_the_run_and_a_resume_adds_nothing(
        self, mind: Path, tmp_path: Path, valid: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        options = ["runner.epochs=9", STILL, *valid]
        out = run(mind, tmp_path / "out", *options, "runner.patience=2")
        # nothing is better than epoch 0, and two epochs were waited for
        assert sorted(p.name for p in out.iterdir()) == ["0", "1", "2", "best"]
        assert "stopped before epoch 3: no better recall@5 since epoch 0" in caplog.text
        seen: list[Any] = []
        run(mind, out, *options, "runner.patience=2", resume=True, seen=seen)
        assert seen == []
        run(mind, out, *options, "runner.patience=3", resume=True)
        assert sorted(p.name for p in out.iterdir()) == ["0", "1", "2", "3", "best"]

    def test_stopped_and_resumed_waits_as_long(
        self, mind: Path, tmp_path: Path, valid: list[str]
    ) -> None:
        options = ["runner.epochs=9", STILL, *valid, "runner.patience=2"]
        out = stopped(mind, tmp_path / "out", 15, *options)
        run(mind, out, *options, resume=True)
        assert sorted(p.name for p in out.iterdir()) == ["0", "1", "2", "best"]

    def test_without_valid_users(self, mind: Path) -> None:
        with pytest.raises(SettingsError, match=r"runner\.patience: 2 waits .* set valid_data_dir"):
            load_settings(mind, ["runner.patience=2"])


class TestRefused:
    def test_no_such_folder(self, mind: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"runner\.valid_data_dir: .*none: no such folder"):
            run(mind, tmp_path / "out", f"runner.valid_data_dir={tmp_path / 'none'}")

    def test_histories_beyond_the_item_table(self, mind: Path, tmp_path: Path) -> None:
        (write_valid(tmp_path / "valid") / "part-1").write_text(
            "user_id:1 target_item:0 hist_item:41 eval_item:3\n"
        )
        with pytest.raises(DataError, match=r"valid: a history holds item 41.*item_count is 41"):
            run(mind, tmp_path / "out", f"runner.valid_data_dir={tmp_path / 'valid'}")

    def test_a_model_that_cannot_be_searched(self, tmp_path: Path, valid: list[str]) -> None:
        with pytest.raises(ModelError, match=r"hyper_parameters\.maxlen is needed"):
            run(generic_folder(tmp_path / "model"), tmp_path / "out", *valid)

    @pytest.mark.parametrize("top_n", [0, 16_385])
    def test_top_n(self, mind: Path, top_n: int) -> None:
        with pytest.raises(SettingsError, match=rf"runner\.valid_top_n: {top_n}"):
            load_settings(mind, [f"runner.valid_top_n={top_n}"])


class TestCommandLines:
    def settings(self, data: Path, file: Path, *options: str) -> Any:
        given = ["-m", str(file), "--data", str(data), "-o", *options]
        return read_settings(model_parser("", "").parse_args(given)).runner.valid_data_dir

    def test_data_sets_valid_where_the_yaml_asks_for_it(
        self, data: Path, mind: Path, tmp_path: Path
    ) -> None:
        bare = re.sub(r"\n  valid_data_dir:.*", "", mind.read_text())
        mind.write_text(bare)
        assert self.settings(data, mind) is None
        mind.write_text(bare.replace("runner:\n", "runner:\n  valid_data_dir: there\n"))
        assert self.settings(data, mind) == str(data / "valid")
        other = f"runner.valid_data_dir={tmp_path / 'other'}"
        assert self.settings(data, mind, other) == str(tmp_path / "other")
        assert self.settings(data, mind, "runner.valid_data_dir=") is None

    @pytest.mark.slow
    def test_infer_best(
        self, data: Path, mind: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        common = ["-m", str(mind), "--data", str(data), "-o", f"runner.infer_load_path={out}"]
        place = f"runner.model_save_path={out}"
        assert train([*common, place, "runner.epochs=1", "runner.valid_data_dir="]) == 0
        assert infer([*common, "--best", "--exact"]) == 2
        assert "there is no best epoch; training keeps one when" in capsys.readouterr().err
        valid = f"runner.valid_data_dir={data / 'valid'}"
        assert train([*common, place, "runner.epochs=2", STILL, valid]) == 0
        for epoch in "01":
            shutil.rmtree(out / epoch)  # best is whole without them
        report = tmp_path / "report.json"
        assert infer([*common, "--best", "--exact", "--report", str(report)]) == 0
        found = json.loads(report.read_text())
        assert (found["epoch"], list(found["epochs"])) == (0, ["0"])
        assert ", epoch 0" in capsys.readouterr().out
        (out / "best" / "best.json").write_text('{"epoch": "x"}')
        assert infer([*common, "--best", "--exact"]) == 2
        assert "epoch is 'x', expected an integer" in capsys.readouterr().err
