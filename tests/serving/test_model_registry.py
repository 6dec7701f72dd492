# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Models that are put aside are what they are called, and none goes that may be needed."""

from __future__ import annotations

import os
import shutil

import pytest

from paddlerec_milvus.checkpoint_record import RECORD
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.serving.model_registry import HYPER_PARAMETERS, YOUNG, ModelRegistry
from paddlerec_milvus.serving.tower import CheckpointTower
from paddlerec_milvus.trained_model import PARAMETERS


@pytest.fixture
def written(trained, tmp_path, make_settings):
    """A model on disk, and a function that trains it on."""
    folder = tmp_path / "out"
    shutil.copytree(trained.checkpoints / "0", folder / "0")

    def train() -> None:
        for name in (PARAMETERS, RECORD):
            shutil.copyfile(trained.checkpoints / "1" / name, folder / "0" / name)

    return make_settings(f"runner.infer_load_path={folder}").trained, train


def test_a_copy_is_what_it_is_called(written, tmp_path):
    found, train = written
    registry, fingerprint = ModelRegistry(tmp_path / "kept"), found.fingerprint()
    train()
    with pytest.raises(CheckpointError, match="was written meanwhile: try again"):
        registry.save(found, fingerprint)
    assert registry.get(fingerprint, found.settings) is None
    assert list((tmp_path / "kept").iterdir()) == []
    registry.save(found, found.fingerprint())
    copy = registry.get(found.fingerprint(), found.settings)
    assert copy is not None
    assert copy.fingerprint() == found.fingerprint()


def test_a_damaged_copy_is_none(written, tmp_path):
    found, _ = written
    registry, fingerprint = ModelRegistry(tmp_path / "kept"), found.fingerprint()
    registry.save(found, fingerprint)
    with (tmp_path / "kept" / fingerprint / PARAMETERS).open("ab") as file:
        file.write(b"more")
    assert registry.get(fingerprint, found.settings) is None


def test_a_tower_is_the_file_that_was_read(written, monkeypatch):
    """Training writes between the fingerprint and the reading."""
    import threading

    from paddlerec_milvus.serving import tower as module

    found, train = written
    load = module._load

    def after_training(found):
        train()
        return load(found)

    monkeypatch.setattr(module, "_load", after_training)
    with pytest.raises(CheckpointError, match="was written while it was read: try again"):
        CheckpointTower(found, threading.Lock())


def test_the_young_stay(written, tmp_path):
    """Another process may be inserting one."""
    found, _ = written
    registry, fingerprint = ModelRegistry(tmp_path / "kept"), found.fingerprint()
    registry.save(found, fingerprint)
    registry.prune([])
    assert registry.get(fingerprint, found.settings) is not None
    place = tmp_path / "kept" / fingerprint
    long_ago = place.stat().st_mtime - 2 * YOUNG
    os.utime(place, (long_ago, long_ago))
    registry.prune([fingerprint])
    assert registry.get(fingerprint, found.settings) is not None
    registry.prune([])
    assert registry.get(fingerprint, found.settings) is None


def test_what_is_no_copy_stays(written, tmp_path):
    """SERVING_KEPT may be a folder that holds other things, too."""
    found, _ = written
    registry, fingerprint = ModelRegistry(tmp_path / "kept"), found.fingerprint()
    registry.save(found, fingerprint)
    copy, strange = tmp_path / "kept" / fingerprint, ("backup", ".git", "0123456789abcdef")
    for name in (*strange, f".{fingerprint}.0123abcd"):
        (tmp_path / "kept" / name).mkdir()
    (tmp_path / "kept" / "backup" / HYPER_PARAMETERS).write_text("{}")
    for place in (tmp_path / "kept").iterdir():
        os.utime(place, (1.0, 1.0))
    registry.prune([])
    assert {place.name for place in (tmp_path / "kept").iterdir()} == {*strange}
    assert not copy.exists()
