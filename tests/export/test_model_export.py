# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""An export gives what its checkpoint gives, without paddle, and is refused when it is damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from running_service import running, settings_of
from support import ROOT

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.encoder import Encoder, loaded_encoder
from paddlerec_milvus.errors import CheckpointError, DataError, ModelError, SettingsError
from paddlerec_milvus.export import exporting
from paddlerec_milvus.export.cli import main as export
from paddlerec_milvus.export.conversion import convert
from paddlerec_milvus.export.exported_model import ExportedModel, read_export
from paddlerec_milvus.export.manifest import MANIFEST, VECTORS
from paddlerec_milvus.export.onnx_tower import OnnxTower
from paddlerec_milvus.export.tower_layers import PREFIX
from paddlerec_milvus.ranking.training import train_ranking
from paddlerec_milvus.serving.__main__ import main as serve
from paddlerec_milvus.serving.settings import export_settings, settings_from_environment
from paddlerec_milvus.trained_model import PARAMETERS
from paddlerec_milvus.zoo import ModelFolder

pytest.importorskip("paddle2onnx")

HISTORIES = [
    [3, 7, 12],
    [5],
    [299, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
]


@pytest.fixture(scope="module")
def ranked(trained, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The trained MIND with a small ranker beside epoch 0."""
    folder = tmp_path_factory.mktemp("ranked")
    shutil.copytree(trained.checkpoints, folder / "out")
    copy = replace(trained, checkpoints=folder / "out")
    train_ranking(settings_of(copy, folder).trained, kind="trees", most_lists=150, rounds=5)
    return copy


@pytest.fixture(scope="module")
def exported(ranked, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    out = tmp_path_factory.mktemp("export") / "mind"
    assert run_export(ranked, out) == 0
    return read_export(out)


def run_export(trained: Any, out: Path, *options: str) -> int:
    places = [f"runner.infer_load_path={trained.checkpoints}", "index.type=FLAT", *options]
    arguments = ["-m", "mind/config.yaml", "--data", str(trained.data), "--epoch", "0"]
    return export([*arguments, "--out", str(out), "-o", *places])


@pytest.fixture
def copied(exported: ExportedModel, tmp_path: Path) -> Path:
    return shutil.copytree(exported.checkpoint, tmp_path / "mind")


def test_it_says_what_it_holds(exported: ExportedModel, ranked: Any, tmp_path: Path) -> None:
    manifest, trained = exported.manifest, settings_of(ranked, tmp_path).trained
    assert (manifest.model, manifest.epoch, manifest.items) == ("mind", 0, 300)
    assert manifest.digest == trained.fingerprint()
    assert manifest.data == trained.data_identity()
    assert manifest.ranker
    assert manifest.users == exporting.USERS_COMPARED
    assert 0 <= manifest.difference <= exporting.TOLERANCE
    held = {file.relative_to(exported.checkpoint) for file in exported.checkpoint.rglob("*.*")}
    assert {str(file) for file in held} == {*manifest.files, MANIFEST}


def test_its_tower_is_the_checkpoint_s(exported: ExportedModel, ranked: Any, tmp_path) -> None:
    tower, encoder = OnnxTower(exported), loaded_encoder(*settings_of(ranked, tmp_path).trained)
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, tower.maxlen + 1, 40)
    histories = rng.integers(1, 301, (40, tower.maxlen))
    histories[np.arange(tower.maxlen) >= lengths[:, None]] = 0
    expected = encoder.interests(histories, lengths)
    assert tower.interests(histories, lengths) == pytest.approx(expected, abs=1e-5)
    for row in range(3):  # alone as together
        one = tower.interests(histories[row : row + 1], lengths[row : row + 1])
        assert one[0] == pytest.approx(expected[row], abs=1e-5)
    assert np.array_equal(tower.item_vectors(), encoder.item_vectors())
    assert tower.unit
    assert tower.sample() == pytest.approx(encoder.sample(300), abs=1e-5)


def test_it_serves_the_lists_of_the_checkpoint(
    exported: ExportedModel, ranked: Any, tmp_path: Path
) -> None:
    """Candidates and ranked lists, from vectors that the checkpoint's service has inserted."""
    options = [f"milvus.uri={tmp_path / 'milvus.db'}"]
    calls = [
        ("/candidates", {"hist_item": HISTORIES, "top_k": 20}),
        ("/recommend", {"hist_item": HISTORIES}),
    ]
    with running(settings_of(ranked, tmp_path, ranking_timeout=60.0)) as service:
        assert service.http.post("/insert").status_code == 200
        expected = [service.http.post(path, json=body).json() for path, body in calls]
    others = {"timeout": 10.0, "ranking_timeout": 60.0, "registry": tmp_path / "kept2"}
    with running(export_settings(exported.checkpoint, options, **others)) as service:
        answers = [service.http.post(path, json=body).json() for path, body in calls]
        assert answers[0]["source"] == ["model"] * 3
        assert answers[1]["source"] == ["ranked"] * 3
        for ours, theirs in zip(answers, expected, strict=True):
            assert without_scores(ours) == without_scores(theirs)
        assert service.http.post("/insert").status_code == 200  # and its own vectors
        again = service.http.post(calls[0][0], json=calls[0][1]).json()
        assert without_scores(again) == without_scores(expected[0])
    assert not (exported.checkpoint / "served").exists()
    exported.require_fit()


def without_scores(answer: Any) -> Any:
    """``answer`` without numbers that differ by rounding."""
    if isinstance(answer, dict):
        return {key: without_scores(one) for key, one in answer.items() if "score" not in key}
    return [without_scores(one) for one in answer] if isinstance(answer, list) else answer


NO_PADDLE = """
import sys
absent = ["paddle", "paddle2onnx", "onnx", "lightgbm", "matplotlib", "scipy"]
sys.modules.update(dict.fromkeys(absent))
from pathlib import Path
from running_service import running
from paddlerec_milvus.serving.__main__ import main as serve
from paddlerec_milvus.serving.settings import export_settings
folder, database = map(Path, sys.argv[1:])
settings = export_settings(folder, [f"milvus.uri={database}"], timeout=20.0, ranking_timeout=60.0)
with running(settings) as service:
    client = service.http
    inserted = client.post("/insert")
    assert inserted.status_code == 200, inserted.text
    assert client.post("/candidates", json={"hist_item": [[3, 7]]}).json()["source"] == ["model"]
    assert client.post("/recommend", json={"hist_item": [[3, 7]]}).json()["source"] == ["ranked"]
"""


def test_it_serves_without_paddle(copied: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", NO_PADDLE, str(copied), str(tmp_path / "milvus.db")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'serving'}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr


def test_items_of_features(ranked: Any, tmp_path: Path) -> None:
    """A model with item features brings a tower that makes vectors of them."""
    options = ["hyper_parameters.item_features=True", "hyper_parameters.neg_samples=128"]
    settings = settings_for("mind/config.yaml", options, ranked.data)
    encoder = Encoder(settings, ModelFolder(settings.model_dir))
    folder = tmp_path / "1"
    folder.mkdir()
    paddle.save(encoder.model.state_dict(), str(folder / "rec.pdparams"))
    copy = replace(ranked, checkpoints=tmp_path)
    arguments = ["-m", "mind/config.yaml", "--data", str(ranked.data), "--epoch", "1"]
    place = f"runner.infer_load_path={copy.checkpoints}"
    out = tmp_path / "export"
    assert export([*arguments, "--out", str(out), "-o", place, *options]) == 0
    tower = OnnxTower(read_export(out))
    ids, codes = np.array([1, 299, 901]), np.array([[1], [0], [2]])
    expected = encoder.vectors_of_features(ids, codes)
    assert tower.vectors_of_features(ids, codes) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ModelError, match="item 901 is new, and the model knows none of its"):
        tower.vectors_of_features(ids, codes * 0)
    with pytest.raises(ModelError, match="codes of item features must be below"):
        tower.vectors_of_features(ids, codes + 1_000)


def test_without_item_features_no_item_is_made_of_them(exported: ExportedModel) -> None:
    with pytest.raises(ModelError, match="mind: trained without item features"):
        OnnxTower(exported).vectors_of_features(np.ones(1, np.int64), np.ones((1, 1), np.int64))


@pytest.mark.parametrize(
    "name", ["user_tower.bin", VECTORS, "ranking/trees.onnx", "data/meta.json"]
)
def test_a_changed_byte_is_refused(
    copied: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: is not the file that was exported"):
        read_export(copied).require_fit()
    assert serve(["--export", str(copied), "--port", "0"]) == 2
    assert f"{name}: is not the file that was exported" in capsys.readouterr().err
    (copied / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: is missing: copy the whole export"):
        read_export(copied).require_fit()


def test_what_is_no_export_is_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no export .*tools/export.py"):
        export_settings(tmp_path)
    (copied / MANIFEST).write_text("{}")
    with pytest.raises(CheckpointError, match=r"manifest\.json: cannot be read"):
        export_settings(copied)


def test_an_export_and_a_model_are_not_both_served(copied: Path) -> None:
    variables = {"SERVING_EXPORT": str(copied), "SERVING_YAML": "mind/config.yaml"}
    with pytest.raises(SettingsError, match="leave out SERVING_YAML"):
        settings_from_environment(variables)
    del variables["SERVING_YAML"]
    settings = settings_from_environment({**variables, "SERVING_OPTIONS": "index.type=FLAT"})
    assert settings.trained.fingerprint() == read_export(copied).manifest.digest
    assert settings.registry_folder == copied.with_name("mind_state") / "served"


def test_another_folder_is_not_written_over(
    ranked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert run_export(ranked, tmp_path) == 2
    assert "is there and no export: name another folder" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_other_vectors_than_the_checkpoint_s_are_no_export(
    ranked: Any, copied: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (copied / MANIFEST).read_bytes()
    monkeypatch.setattr(exporting, "TOLERANCE", 0.0)
    assert run_export(ranked, copied) == 2
    assert (
        "gives other vectors than the checkpoint: the largest difference" in capsys.readouterr().err
    )
    assert (copied / MANIFEST).read_bytes() == before


class Diagonal(paddle.nn.Layer):
    def forward(self, rows):
        return paddle.diagonal(paddle.matmul(rows, rows, transpose_y=True))


class Around(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.linear, self.inner = paddle.nn.Linear(4, 4), Diagonal()

    def forward(self, rows):
        return self.inner(self.linear(rows))


def test_an_operator_that_is_not_converted_is_named_with_its_layer(tmp_path: Path) -> None:
    shape = [paddle.static.InputSpec([None, 4], "float32", "rows")]
    graph = paddle.jit.to_static(Around(), input_spec=shape, full_graph=True)
    paddle.jit.save(graph, str(tmp_path / PREFIX))
    with pytest.raises(ModelError, match="diagonal in the layer Diagonal"):
        convert(tmp_path, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_checkpoint_that_is_written_meanwhile_is_not_exported(
    ranked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    place = replace(ranked, checkpoints=shutil.copytree(ranked.checkpoints, tmp_path / "out"))

    def copy(trained: Any, folder: Path) -> None:
        write(trained, folder)
        shutil.copyfile(place.checkpoints / "1" / PARAMETERS, trained.checkpoint / PARAMETERS)

    write: Any = exporting._copy_data
    monkeypatch.setattr(exporting, "_copy_data", copy)
    assert run_export(place, tmp_path / "export") == 2
    assert "was written while it was read: try again" in capsys.readouterr().err
    assert not (tmp_path / "export").exists()


def test_what_is_no_export_is_not_replaced(copied: Path, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / MANIFEST).write_text('{"name": "a web page"}')
    for place in (page, copied):
        (place / "mine.txt").write_text("not of the export")
        with pytest.raises(DataError, match=r"no export|not of the export, such as mine\.txt"):
            exporting._require_export_or_nothing(place)
    (copied / "mine.txt").unlink()
    exporting._require_export_or_nothing(copied)
