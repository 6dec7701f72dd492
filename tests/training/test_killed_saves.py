# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``kill -9`` between the two moves of a save: one of both is whole, and everybody takes it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from small_layer import save, trained

from paddlerec_milvus.checkpoint import best_epoch, load_parameters
from paddlerec_milvus.trained_model import checkpoint_of
from paddlerec_milvus.training import checkpoint
from paddlerec_milvus.training.checkpoint import (
    INTERRUPTED,
    Best,
    keep_best,
    load_training_state,
    newest,
    recover,
    supersede,
)


def killed(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Do ``work`` in a process that ends, as if it were killed, before its second rename."""
    rename, count = Path.rename, [0]

    def ending(path: Path, target: Path) -> Path:
        count[0] += 1
        if count[0] == 2:
            os._exit(9)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", ending)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a fork has one thread of all
            child = os.fork()
        if child == 0:
            try:
                work()
            finally:  # no exception of its own lets it go on with the tests
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_one_best_is_whole_and_everybody_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (Best(epoch, {"recall@5": 0.5}, 5, {}) for epoch in (0, 1))
    for epoch in (0, 1, 2):
        save(tmp_path / str(epoch), seed=epoch)
    keep_best(tmp_path, first)
    killed(monkeypatch, lambda: keep_best(tmp_path, second))
    assert not (tmp_path / "best").exists()
    # whoever reads, reads the one that was best before
    assert best_epoch(tmp_path) == 0
    taken = checkpoint_of(tmp_path, "")
    assert taken == checkpoint_of(tmp_path, "best")
    layer, _ = trained()
    load_parameters(taken, layer)
    assert (layer.weight.numpy() == trained(seed=0)[0].weight.numpy()).all()
    # whoever trains on puts it back, and saves as always
    recover(tmp_path)
    assert best_epoch(tmp_path) == 0
    assert checkpoint_of(tmp_path, "") == tmp_path / "best"
    keep_best(tmp_path, second)
    assert best_epoch(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1", "2", "best"]
    assert not caplog.records


def test_the_last_epoch_is_not_taken_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    save(tmp_path / "0")
    assert checkpoint_of(tmp_path, "") == tmp_path / "0"
    assert f"{tmp_path} holds no best epoch: the last one, 0, is taken" in caplog.text


def test_an_interrupted_run_goes_on_where_it_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "0")
    save(tmp_path / INTERRUPTED)
    killed(monkeypatch, lambda: save(tmp_path / INTERRUPTED, seed=2))
    recover(tmp_path)
    assert newest(tmp_path) == tmp_path / INTERRUPTED
    assert load_training_state(tmp_path / INTERRUPTED, trained()[1]).step == 10


def test_files_and_folders_reach_the_disk_before_what_was_there_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "0")
    real, done = checkpoint._sync, []

    def sync(path: Path) -> None:
        done.append((path.name, checkpoint.replaced(tmp_path / "0").exists()))
        real(path)

    monkeypatch.setattr(checkpoint, "_sync", sync)
    save(tmp_path / "0", seed=2)
    files = [(f"rec.{part}", False) for part in ("pdopt", "pdparams", "pdstate")]
    assert sorted(done[:3]) == files
    assert done[3:] == [(".0.new", False), (tmp_path.name, True)]


def test_what_a_save_replaced_does_not_come_back(tmp_path: Path) -> None:
    """Killed after both moves, it leaves the one before beside the new one."""
    save(tmp_path / "0")
    for name in (INTERRUPTED, f".{INTERRUPTED}.old"):
        save(tmp_path / name)
    supersede(tmp_path, 0, done=True)
    recover(tmp_path)
    assert newest(tmp_path) == tmp_path / "0"
    assert [place.name for place in tmp_path.iterdir()] == ["0"]
    save(tmp_path / ".0.old", seed=2)
    recover(tmp_path)
    assert [place.name for place in tmp_path.iterdir()] == ["0"]
