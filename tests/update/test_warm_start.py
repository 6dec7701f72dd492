# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What an update starts from: rows of codes by the values' names, and tables of today's log."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
from support import ROOT, write_log

from paddlerec_milvus.checkpoint import load_tensors
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.training.trainer import Trainer
from paddlerec_milvus.update.warm_start import feature_tables, write_start
from paddlerec_milvus.zoo import ModelFolder

GFCF = ROOT / "models" / "recall" / "gfcf"
CATEGORIES, BRANDS = (f"item_features.tables.{number}.weight" for number in (0, 1))


def prepared(folder: Path, columns: str, values: str) -> Path:
    folder.mkdir()
    (folder / "item_features.csv").write_text(f"item,{columns}\n1,1,1\n")
    (folder / "item_feature_values.csv").write_text("column,code,value\n" + values)
    return folder


def table(*rows: float) -> paddle.Tensor:
    """[rows, 2], with equal numbers in a row."""
    return paddle.to_tensor([[row, row] for row in rows])


def rows_of(tensor: paddle.Tensor) -> list[float]:
    rows: list[float] = tensor.numpy()[:, 0].tolist()
    return rows


EARLIER = {CATEGORIES: table(0.0, 1.0, 2.0), BRANDS: table(0.0, 7.0)}


def test_a_value_keeps_its_row_whatever_its_code_and_column(tmp_path):
    words = "category,1,books\ncategory,2,films\nbrand,1,acme\n"
    before = prepared(tmp_path / "before", "category,brand", words)
    words = "brand,1,new\nbrand,2,acme\ncategory,1,films\ncategory,2,books\ncategory,3,maps\n"
    today = prepared(tmp_path / "today", "brand,category", words)
    # of today the first table is the brands': its name is that of the categories' before
    fresh = {CATEGORIES: table(-1.0, -1.0, -1.0), BRANDS: table(-1.0, -1.0, -1.0, -1.0)}
    joined = feature_tables(fresh, EARLIER, before, today)
    assert rows_of(joined[CATEGORIES]) == [-1, -1, 7]
    assert rows_of(joined[BRANDS]) == [-1, 2, 1, -1]


def test_tables_whose_values_have_no_names_start_anew(tmp_path, caplog):
    caplog.set_level(logging.INFO, "paddlerec_milvus.update.warm_start")
    today = prepared(tmp_path / "today", "category,brand", "category,1,films\nbrand,1,acme\n")
    fresh = {CATEGORIES: table(-1.0, -1.0, -1.0), BRANDS: table(-1.0, -1.0), "other": table(3.0)}
    joined = feature_tables(fresh, EARLIER, tmp_path / "nowhere", today)
    assert {name: rows_of(one) for name, one in joined.items()} == {
        CATEGORIES: [-1, -1, -1],
        BRANDS: [-1, -1],
    }
    assert "nowhere names no values of its codes" in caplog.text


def settings_of(model: str, tmp_path: Path, *options: str) -> Settings:
    """A small ``model`` on a log of 40 items, which is there."""
    hyper = {"item_count": 41, "embedding_dim": 8, "neg_samples": 16, "maxlen": 5}
    own = [f"hyper_parameters.{name}={value}" for name, value in hyper.items()]
    own += ["runner.valid_data_dir=", "runner.patience=0", f"runner.model_save_path={tmp_path}/out"]
    own += [f"runner.train_data_dir={write_log(tmp_path / 'log' / 'train')}"]
    return load_settings(ROOT / "models" / "recall" / model / "config.yaml", [*own, *options])


def start_of(model: str, tmp_path: Path, *options: str) -> Path:
    """What an update of today starts from: yesterday's log had the first 30 items."""
    before = settings_of(model, tmp_path, *options, "hyper_parameters.item_count=31")
    folder = ModelFolder(before.model_dir)
    with folder.active():
        net = folder.dygraph_model().create_model(before.dotted())
    for parameter in net.parameters():
        parameter.set_value(paddle.full_like(parameter, 0.5))
    paddle.save(net.state_dict(), str(tmp_path / "before" / "rec.pdparams"))
    export: Any = SimpleNamespace(data=None, manifest=SimpleNamespace(items=30))
    settings = settings_of(model, tmp_path, *options)
    write_start(tmp_path / "before", export, settings, tmp_path / "start")
    return tmp_path / "start"


def test_tables_that_nothing_trains_are_of_today_s_log(tmp_path):
    """GF-CF's: its own of before, or noise for new items, would be of no use."""
    today = Trainer(settings_of("gfcf", tmp_path), ModelFolder(GFCF)).model.state_dict()
    start = start_of("gfcf", tmp_path)
    state = load_tensors(start / "rec.pdparams")
    for name in ("item_emb.weight", "sources.weight"):
        assert (state[name].numpy() == today[name].numpy()).all()
    assert (state["recency"].numpy() == 0.5).all()
    # nor does a start from any other checkpoint replace them
    state = {name: paddle.full_like(one, 0.25) for name, one in state.items()}
    paddle.save(state, str(tmp_path / "other" / "rec.pdparams"))
    init = f"runner.model_init_path={tmp_path / 'other'}"
    begun = Trainer(settings_of("gfcf", tmp_path, init), ModelFolder(GFCF)).model.state_dict()
    for name in ("item_emb.weight", "sources.weight"):
        assert (begun[name].numpy() == today[name].numpy()).all()
    assert (begun["recency"].numpy() == 0.25).all()


def test_new_items_start_where_the_log_puts_them(tmp_path):
    options = ["hyper_parameters.item_start=clicks", "hyper_parameters.hidden_size=8"]
    start = start_of("mind", tmp_path, *options)
    table = load_tensors(start / "rec.pdparams")["item_emb.weight"].numpy()
    assert (table[1:31] == 0.5).all()
    # of length 0.3; at random it would be 0.01
    assert (np.linalg.norm(table[31:], axis=1) > 0.1).all()
