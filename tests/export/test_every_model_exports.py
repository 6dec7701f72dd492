# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Each model folder trained for a moment and exported: the same lists for 1,000 users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.encoder import loaded_encoder
from paddlerec_milvus.export.cli import main as export
from paddlerec_milvus.export.exported_model import read_export
from paddlerec_milvus.export.onnx_tower import OnnxTower
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.training.cli import main as train

pytest.importorskip("paddle2onnx")

MODELS = sorted(file.parent.name for file in (ROOT / "models" / "recall").glob("*/config.yaml"))
USERS, TOP_N = 1_000, 50


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_lists_are_those_of_the_checkpoint(name: str, trained: Any, tmp_path: Path) -> None:
    model = ["-m", f"{name}/config.yaml", "--data", str(trained.data)]
    options = ["hyper_parameters.neg_samples=128", "runner.epochs=1", "runner.train_batch_size=64"]
    assert train([*model, "-o", f"runner.model_save_path={tmp_path / 'out'}", *options]) == 0
    place = f"runner.infer_load_path={tmp_path / 'out'}"
    assert export([*model, "--out", str(tmp_path / "export"), "-o", place, *options]) == 0
    exported = read_export(tmp_path / "export")
    assert exported.manifest.difference <= 1e-5
    settings = settings_for(f"{name}/config.yaml", [place, *options], trained.data)
    encoder = loaded_encoder(settings, tmp_path / "out" / "best")
    tower, vectors = OnnxTower(exported), encoder.item_vectors()
    assert np.array_equal(tower.item_vectors(), vectors)
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, tower.maxlen + 1, USERS)
    histories = rng.integers(1, len(vectors), (USERS, tower.maxlen))
    histories[np.arange(tower.maxlen) >= lengths[:, None]] = 0
    retriever = ExactRetriever(vectors[1:], np.arange(1, len(vectors)))
    expected, lists = (
        search_users(retriever, one.interests(histories, lengths), TOP_N)
        for one in (encoder, tower)
    )
    same = expected.ids == lists.ids  # two items of nearly one score may change places
    assert same.mean() > 0.999
    scores = np.abs(expected.scores - lists.scores)
    assert scores.max() < 1e-5
