# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Checkpoints are whole or not there, and say what does not fit."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from small_layer import position, save, trained
from support import ROOT, checkpoint_bits, generic_folder, python

from paddlerec_milvus.checkpoint import best_epoch, load_parameters
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.training import checkpoint
from paddlerec_milvus.training.checkpoint import (
    INTERRUPTED,
    Best,
    keep_best,
    load_training_state,
    newest,
    random_state,
    save_checkpoint,
    set_random_state,
    supersede,
)


def drawn() -> list[float]:
    return [
        random.random(),
        float(np.random.rand()),  # noqa: NPY002
        float(paddle.rand([])),
        float(paddle.nn.functional.dropout(paddle.ones([64]), 0.5).sum()),
    ]


def test_random_state_replays_all_generators() -> None:
    state = json.loads(json.dumps(random_state()))
    first = [drawn() for _ in range(3)]
    set_random_state(state)
    assert [drawn() for _ in range(3)] == first
    assert len({str(d) for d in first}) == 3


def test_round_trip(tmp_path: Path) -> None:
    folder = save(tmp_path / "run" / "0")
    assert sorted(p.name for p in folder.iterdir()) == ["rec.pdopt", "rec.pdparams", "rec.pdstate"]
    assert [p.name for p in folder.parent.iterdir()] == ["0"]  # nothing temporary
    layer, optimizer = trained(seed=2)
    load_parameters(folder, layer)
    assert load_training_state(folder, optimizer).step == 10
    again = tmp_path / "again"
    save_checkpoint(again, layer.state_dict(), optimizer.state_dict(), position())
    assert checkpoint_bits(again) == checkpoint_bits(folder)


def test_a_save_replaces_an_older_one(tmp_path: Path) -> None:
    folder = save(tmp_path / "0", seed=1)
    before = checkpoint_bits(folder)
    save(folder, seed=2)
    assert checkpoint_bits(folder) != before
    assert [p.name for p in tmp_path.iterdir()] == ["0"]


def test_leftovers_of_a_killed_save_are_no_hindrance(tmp_path: Path) -> None:
    for name in (".0.new", ".0.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rec.pdstate").write_bytes(b"half")
    assert newest(tmp_path) is None
    save(tmp_path / "0")
    assert [p.name for p in tmp_path.iterdir()] == ["0"]
    assert newest(tmp_path) == tmp_path / "0"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder = save(tmp_path / "0")
    before = checkpoint_bits(folder)
    real, calls = paddle.save, []

    def fail_at_the_second(state: Any, path: str) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise error
        real(state, path)

    monkeypatch.setattr(checkpoint.paddle, "save", fail_at_the_second)
    expected = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        save(folder, seed=2)
    assert checkpoint_bits(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["0"]
    if expected is CheckpointError:
        assert str(folder) in str(raised.value)
        assert "No space left on device" in str(raised.value)
        assert "--resume" in str(raised.value)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written: Not a directory"):
        save(tmp_path / "file" / "0")


DISK_FULL = """
import resource, signal, sys
from paddlerec_milvus.training import cli, trainer

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write beyond the limit is an error
ordinary = trainer.save_checkpoint


def save(folder, *rest):
    if folder.name == "1":
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
    ordinary(folder, *rest)


trainer.save_checkpoint = save
sys.exit(cli.main(["-m", sys.argv[1]]))
"""


@pytest.mark.slow
def test_a_full_disk_in_training(tmp_path: Path) -> None:
    file = generic_folder(tmp_path / "model")
    done = python("-c", DISK_FULL, str(file), cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    out = tmp_path / "model" / "out"
    assert last.startswith(f"error: {out / '1'}: the checkpoint could not be written: File too")
    assert [p.name for p in out.iterdir()] == ["0"]
    assert checkpoint_bits(out / "0")
    assert newest(out) == out / "0"
    # with room again the run goes on from there
    resume = "import sys; from paddlerec_milvus.training.cli import main; sys.exit(main())"
    done = python("-c", resume, "-m", str(file), "--resume", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert (out / "2" / "rec.pdparams").is_file()


class TestRefused:
    def test_missing_lists_those_at_hand(self, tmp_path: Path) -> None:
        layer, _ = trained()
        with pytest.raises(CheckpointError, match=r"no such checkpoint; train first"):
            load_parameters(tmp_path / "run" / "3", layer)
        save(tmp_path / "run" / "0")
        save(tmp_path / "run" / "1")
        with pytest.raises(CheckpointError, match=r"3/rec\.pdparams: .*run holds: 0, 1$"):
            load_parameters(tmp_path / "run" / "3", layer)

    def test_another_shape_lists_what_differs(self, tmp_path: Path) -> None:
        folder = save(tmp_path / "0", width=3)
        layer, _ = trained(width=5)
        with pytest.raises(CheckpointError) as raised:
            load_parameters(folder, layer)
        assert "bias: [3] in the file, [5] here; weight: [4, 3] in the file, [4, 5] here" in str(
            raised.value
        )

    def test_absent_and_surplus_parameters(self, tmp_path: Path) -> None:
        folder = save(tmp_path / "0")
        layer, _ = trained()
        before = layer.weight.numpy().copy()

        def rename(state: dict[str, Any]) -> dict[str, Any]:
            return {name.replace("bias", "offset"): value for name, value in state.items()}

        with pytest.raises(CheckpointError) as raised:
            load_parameters(folder, layer, rename)
        assert "bias: absent in the file, [3] here" in str(raised.value)
        assert "offset: [3] in the file, absent here" in str(raised.value)
        assert (layer.weight.numpy() == before).all()

    @pytest.mark.parametrize("damage", ["cut", "noise", "empty", "list"])
    def test_damaged_parameters(self, tmp_path: Path, damage: str) -> None:
        file = save(tmp_path / "0") / "rec.pdparams"
        content = file.read_bytes()
        if damage == "list":
            file.write_bytes(pickle.dumps([1, 2]))
        else:
            damaged = {"cut": content[: len(content) // 2], "noise": b"\x07" * 90, "empty": b""}
            file.write_bytes(damaged[damage])
        with pytest.raises(CheckpointError, match=r"rec\.pdparams: (cannot be read|holds a list)"):
            load_parameters(file.parent, trained()[0])

    @pytest.mark.parametrize("part", ["pdopt", "pdstate"])
    @pytest.mark.parametrize("damage", ["cut", "gone", "list"])
    def test_damaged_training_state(self, tmp_path: Path, part: str, damage: str) -> None:
        file = save(tmp_path / "0") / f"rec.{part}"
        content = file.read_bytes()
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(content[:20] if damage == "cut" else pickle.dumps([1]))
        refused = r"pdopt: (cannot be read|holds a list)|0: cannot be resumed|pdstate: (is|was) "
        with pytest.raises(CheckpointError, match=refused):
            load_training_state(file.parent, trained()[1])

    def test_parameters_alone_cannot_be_resumed(self, tmp_path: Path) -> None:
        folder = save(tmp_path / "0")
        (folder / "rec.pdstate").unlink()
        with pytest.raises(CheckpointError, match=r"set runner\.model_init_path"):
            load_training_state(folder, trained()[1])


class TestBest:
    def best(self, epoch: int, recall: float = 0.5) -> Best:
        return Best(epoch, {"recall@5": recall}, 5, {})

    def test_a_copy_of_its_epoch_that_loads_like_any(self, tmp_path: Path) -> None:
        save(tmp_path / "0", seed=1)
        keep_best(tmp_path, self.best(0))
        layer, _ = trained(seed=2)
        load_parameters(tmp_path / "best", layer)
        assert (layer.weight.numpy() == trained(seed=1)[0].weight.numpy()).all()
        assert best_epoch(tmp_path) == 0
        assert json.loads((tmp_path / "best" / "best.json").read_text()) == {
            "epoch": 0,
            "top_n": 5,
            "recall@5": 0.5,
        }
        assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "best"]

    def test_what_another_run_left_is_mended(self, tmp_path: Path) -> None:
        save(tmp_path / "0", seed=1)
        save(tmp_path / "3", seed=3)
        keep_best(tmp_path, self.best(3))
        keep_best(tmp_path, self.best(0))  # the run went back to epoch 0
        assert best_epoch(tmp_path) == 0
        save(tmp_path / "0", seed=2)  # another run with the same figures
        keep_best(tmp_path, self.best(0))
        kept = (tmp_path / "best" / "rec.pdparams").read_bytes()
        assert kept == (tmp_path / "0" / "rec.pdparams").read_bytes()

    def test_an_epoch_that_is_gone_leaves_it(self, tmp_path: Path) -> None:
        keep_best(tmp_path, self.best(0))
        assert not (tmp_path / "best").exists()
        shutil.move(save(tmp_path / "0"), tmp_path / "best")
        keep_best(tmp_path, self.best(0))
        assert (tmp_path / "best" / "rec.pdparams").is_file()

    def test_none(self, tmp_path: Path) -> None:
        save(tmp_path / "0")
        keep_best(tmp_path, self.best(0))
        keep_best(tmp_path, None)
        assert [p.name for p in tmp_path.iterdir()] == ["0"]
        with pytest.raises(CheckpointError, match=r"no best epoch; .* runner\.valid_data_dir"):
            best_epoch(tmp_path)


class TestNewest:
    def test_by_number_and_the_interrupted_one_last(self, tmp_path: Path) -> None:
        assert newest(tmp_path / "absent") is None
        first = save(tmp_path / "0")
        for name in ("2", "10", "best"):
            shutil.copytree(first, tmp_path / name)
        assert newest(tmp_path) == tmp_path / "10"
        shutil.copytree(first, tmp_path / INTERRUPTED)
        assert newest(tmp_path) == tmp_path / INTERRUPTED

    def test_a_new_run_supersedes_what_lies_further_on(self, tmp_path: Path) -> None:
        first = save(tmp_path / "0")
        for name in ("1", "2", INTERRUPTED):
            shutil.copytree(first, tmp_path / name)
        supersede(tmp_path, 1, done=False)  # stopped inside epoch 1
        assert newest(tmp_path) == tmp_path / INTERRUPTED
        assert not (tmp_path / "1" / "rec.pdstate").exists()
        assert (tmp_path / "1" / "rec.pdparams").exists()  # can still be evaluated
        supersede(tmp_path, 0, done=True)
        assert newest(tmp_path) == tmp_path / "0"
