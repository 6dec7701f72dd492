# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained MIND with a small ranker, its export, and commands over its users."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from batch_model import SmallModel

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.export.cli import main as export
from paddlerec_milvus.ranking.training import train_ranking
from paddlerec_milvus.trained_model import TrainedModel


@pytest.fixture(scope="session")
def small(trained, tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    folder = tmp_path_factory.mktemp("batch")
    small = SmallModel(trained.data, folder / "out", folder)
    shutil.copytree(trained.checkpoints, small.checkpoints)
    options = small.model[small.model.index("-o") + 1 :]
    settings = settings_for("mind/config.yaml", options, trained.data)
    best = TrainedModel(settings, small.checkpoints / "best")
    train_ranking(best, kind="trees", most_lists=80, rounds=2)
    return small


@pytest.fixture(scope="session")
def exported(small: SmallModel) -> Path:
    pytest.importorskip("paddle2onnx")
    assert export(["--out", str(small.exported), *small.model]) == 0
    return small.exported
