# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""DIN: its attention unit, its rows, and what it learns from those that come with it.

Letters: B users, N candidates, L clicks, E dimensions of an item.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from support import ROOT, write_log

from paddlerec_milvus.command import reads_click_log
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import ModelError
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.training.cli import main as train
from paddlerec_milvus.zoo import ModelFolder

DIN = ROOT / "models" / "rank" / "din"
B, N, L, E = 3, 4, 5, 24
ROW = "3 1;2 0;5;2;1\n"


def network(seed: int = 1, **hyper: Any) -> Any:
    """In evaluation, with random numbers in place of the zeros that it starts with."""
    options = [f"hyper_parameters.{name}={value}" for name, value in hyper.items()]
    folder, config = ModelFolder(DIN), load_settings(DIN / "config.yaml", options).dotted()
    contract = folder.dygraph_model()
    paddle.seed(seed)
    with folder.active(), folder.settings_errors():
        model = contract.create_model(config)
    for parameter in model.parameters():
        if not parameter.numpy().any():
            parameter.set_value(paddle.randn(parameter.shape) * 0.3)
    model.eval()
    return model


def inputs(seed: int = 2) -> list[Any]:
    """Clicks, categories, what is real, candidates and theirs; user 0 has one click, 1 has all."""
    rng = np.random.default_rng(seed)
    real = np.arange(L) < np.array([[1], [L], [3]])
    clicks, cats = rng.integers(1, 201, (B, L)) * real, rng.integers(0, 7, (B, L)) * real
    parts = [clicks, cats, real.astype("float32"), rng.integers(1, 201, (B, N))]
    return [paddle.to_tensor(part) for part in (*parts, rng.integers(0, 7, (B, N)))]


def test_a_user_has_a_logit_for_each_candidate_whatever_the_others_are() -> None:
    model, parts = network(), inputs()
    logits = model(*parts).numpy()
    assert logits.shape == (B, N)
    assert logits.std() > 1e-3
    for n in range(N):
        alone = model(*parts[:3], parts[3][:, n : n + 1], parts[4][:, n : n + 1]).numpy()
        np.testing.assert_allclose(alone[:, 0], logits[:, n], atol=1e-6)


def test_padding_adds_nothing() -> None:
    model, (clicks, cats, real, *candidates) = network(), inputs()
    logits = model(clicks, cats, real, *candidates).numpy()
    other = paddle.where(real == 0, paddle.full_like(clicks, 17), clicks)  # masked, so unseen
    np.testing.assert_allclose(model(other, cats, real, *candidates).numpy(), logits, atol=1e-6)
    shorter = model(clicks[:1, :1], cats[:1, :1], real[:1, :1], *(one[:1] for one in candidates))
    np.testing.assert_allclose(shorter.numpy(), logits[:1], atol=1e-6)


def test_the_unit_is_one_of_the_paper_s_layers_over_pairs() -> None:
    unit = network().attention
    rng = np.random.default_rng(3)
    clicks, candidates = (
        paddle.to_tensor(rng.normal(size=(B, size, E)).astype("float32")) for size in (L, N)
    )
    weights = unit(clicks, candidates).numpy()
    h = np.broadcast_to(clicks.numpy()[:, None], (B, N, L, E))
    t = np.broadcast_to(candidates.numpy()[:, :, None], (B, N, L, E))
    pairs = paddle.to_tensor(np.concatenate([h, t, h - t, h * t], axis=-1))
    np.testing.assert_allclose(unit.layers(pairs).numpy(), weights, atol=1e-5)
    assert weights.shape == (B, N, L)


def test_an_untrained_network_has_no_opinion() -> None:
    folder = ModelFolder(DIN)
    contract = folder.dygraph_model()
    with folder.active():
        model = contract.create_model(load_settings(DIN / "config.yaml").dotted())
    assert not model(*inputs()).numpy().any()


def test_without_categories_and_with_further_inputs() -> None:
    model, parts = network(cat_emb_size=0, dense_features=2), inputs()
    dense = paddle.randn([B, N, 2])
    logits = model(*parts, dense).numpy()
    parts[1], parts[4] = parts[1] * 0, parts[4] * 0
    np.testing.assert_array_equal(model(*parts, dense).numpy(), logits)
    assert np.abs(model(*parts, dense + 1).numpy() - logits).max() > 1e-3


@pytest.mark.parametrize(
    ("hyper", "words"),
    [
        ({"attention_units": []}, "attention_units: [] (one whole number or more"),
        ({"mlp_units": [8, 0]}, "mlp_units: [8, 0]"),
        ({"item_emb_size": 0}, "item_emb_size: 0 (at least 1)"),
        ({"dropout": 1.0}, "dropout: 1.0 (from 0 to below 1)"),
    ],
)
def test_settings_that_cannot_be_are_said(hyper: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)):
        network(**hyper)


def samples(text: str, folder: Path, **hyper: Any) -> list[Any]:
    (folder / "part-0").write_text(text)
    options = [f"hyper_parameters.{name}={value}" for name, value in hyper.items()]
    config = load_settings(DIN / "config.yaml", options).dotted()
    return [*iter(ModelFolder(DIN).reader("din_reader", [folder / "part-0"], config))]


def test_a_row_has_the_eight_parts_of_the_contract(tmp_path: Path) -> None:
    (parts,) = samples(ROW + "\n", tmp_path, maxlen=3)
    assert [part.tolist() for part in parts[:5]] == [[3, 1, 0], [2, 0, 0], [5], [2], [1.0]]
    assert parts[5].tolist() == [[0], [0], [-(10**9)]]
    assert [part.tolist() for part in parts[6:]] == [[5, 5, 0], [2, 2, 0]]
    assert [str(part.dtype) for part in parts] == ["int64"] * 4 + ["float32"] + ["int64"] * 3
    (parts,) = samples(ROW, tmp_path, maxlen=1)
    assert parts[0].tolist() == [1]  # the newest


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("3 1;2 0;5;2\n", "part-0: line 2: expected clicked items;as many categories"),
        ("3 1;2;5;2;1\n", "line 2: expected clicked items;as many"),
        (";;5;2;1\n", "line 2: expected clicked items"),
        ("3;2;5;2;0.5\n", "line 2: expected clicked items"),
        ("3;2;201;2;0\n", "line 2: item ids 3 to 201, but hyper_parameters.item_count: 201 allows"),
        ("3;7;5;2;0\n", "line 2: cat ids 2 to 7, but hyper_parameters.cat_count: 7 allows 0 to 6"),
    ],
)
def test_a_bad_row_is_said_with_its_place(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        samples(ROW + row, tmp_path)


def test_of_all_folders_it_alone_reads_no_click_log() -> None:
    folders = [file.parent for file in (ROOT / "models").glob("*/*/dygraph_model.py")]
    assert len(folders) > 5
    assert [folder for folder in folders if not reads_click_log(folder)] == [DIN]


def test_a_click_log_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log" / "train")
    assert train(["-m", "din/config.yaml", "--data", str(log.parent)]) == 2
    assert "is a prepared click log, but " in capsys.readouterr().err
    place = f"runner.model_save_path={tmp_path / 'out'}"
    assert train(["-m", "din/config.yaml", "-o", f"runner.train_data_dir={log}", place]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {log}: the reader din_reader of din fails: ")
    assert "part-0.csv: line 1: expected clicked items;as many categories" in last


def test_rows_hold_no_further_inputs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dense_features: 2"):
        samples(ROW, tmp_path, dense_features=2)


def test_it_learns_the_rows_that_come_with_it(tmp_path: Path) -> None:
    place = tmp_path / "out"
    arguments = ["-m", "din/config.yaml", "-o", f"runner.model_save_path={place}"]
    assert train(arguments) == 0
    arguments = ["-m", "din/config.yaml", "--report", str(tmp_path / "report.json"), "-o"]
    assert infer([*arguments, f"runner.infer_load_path={place}"]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["metrics"]["auc"] > 0.65  # chance 0.5


def test_a_static_graph_has_a_place_for_each_part() -> None:
    text = (DIN / "static_model.py").read_text()
    names = ["hist_item_seq", "hist_cat_seq", "target_item", "target_cat", "label", "mask"]
    assert all(f'"{name}"' in text for name in [*names, "target_item_seq", "target_cat_seq"])


def test_make_rows_writes_what_the_reader_reads(trained: Any, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_rows", ROOT / "datasets/din/make_rows.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    out = tmp_path / "rows"
    assert script.main(["--data", str(trained.data), "--out", str(out), "--per_user", "2"]) == 0
    assert script.main(["--data", str(trained.data), "--out", str(out)]) == 2  # is there already
    for part in ("train", "test"):
        rows = (out / part / "part-0").read_text().splitlines()
        labels = [row.rsplit(";", 1)[1] for row in rows]
        assert labels.count("0") == labels.count("1") > 50
        read = samples("\n".join(rows), tmp_path, item_count=301, cat_count=100)
        assert len(read) == len(rows)
