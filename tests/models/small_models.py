# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Every model folder at the size of a test, as its own yaml describes it.

Letters: B users, L history, K vectors of a user, D dimensions, V rows of the item table.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
import yaml
from support import ROOT

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.zoo import ModelFolder

Array = npt.NDArray[Any]
ZOO = ROOT / "models" / "recall"
MODELS = sorted(path.parent.name for path in ZOO.glob("*/dygraph_model.py"))
V, D, K, L = 41, 8, 3, 6  # the items of support.write_log
SMALL = {
    "item_count": V,
    "embedding_dim": D,
    "hidden_size": D,
    "attention_hidden": 2 * D,
    "maxlen": L,
    "neg_samples": 16,
    "max_k": K,
    "capsual.max_k": K,
    "transitions.dim": 2 * D,
    "seen.dim": D,
}


class SmallModel:
    """The model folder ``name``, small, with some of its hyper parameters changed."""

    def __init__(self, name: str, *options: str, **hyper: Any) -> None:
        self.yaml = ZOO / name / "config.yaml"
        self.folder = ModelFolder(self.yaml.parent)
        keys = yaml.safe_load(self.yaml.read_text())["hyper_parameters"]
        values = {name: value for name, value in SMALL.items() if name in keys} | hyper
        self.options = [f"hyper_parameters.{name}={value}" for name, value in values.items()]
        self.settings: Settings = load_settings(self.yaml, [*self.options, *options])
        self.config = self.settings.dotted()
        self.contract: Any = self.folder.dygraph_model()

    def build(self, seed: int = 1) -> Any:
        """A network; the same each time."""
        paddle.seed(seed)
        with self.folder.active(), paddle.utils.unique_name.guard():
            return self.contract.create_model(self.config)

    def reader(self, log: Path) -> Any:
        """Of training, on the log in a folder."""
        name = self.settings.runner.train_reader_path
        return self.folder.reader(name, sorted(log.iterdir()), self.config)

    def user_vectors(self, model: Any, history: Array, lengths: Array) -> Array:
        """[B, K, D] of the model in evaluation."""
        batch = [history, lengths, np.zeros((len(history), 1, 1), "int64")]
        with paddle.no_grad():
            vectors, _ = self.contract.infer_forward(model, None, batch, self.config)
        return np.asarray(vectors.numpy())

    def module(self, name: str) -> Any:
        """A module of the folder."""
        with self.folder.active():
            return importlib.import_module(name)

    def start(self, model: Any, clicks: tuple[Array, Array], patch: Any) -> None:
        """Fill the tables of ``model`` from ``clicks``; ``patch`` is pytest's."""
        patch.setattr(self.module("recall_model"), "train_clicks", lambda config: clicks)
        with self.folder.active():
            self.contract.create_optimizer(model, self.config)

    def loss(self, model: Any, batch: list[Array]) -> Any:
        """Of a training batch; gradients are not computed yet."""
        model.train()
        return self.contract.train_forward(model, [], batch, self.config)[0]


def some_users(
    users: int = 5, length: int = L, seed: int = 0, item_count: int = V
) -> tuple[Array, Array]:
    """Histories [B, L], padded with 0 on the right, and their lengths [B, 1]."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, (users, 1))
    lengths[0] = length
    history = rng.integers(1, item_count, (users, length))
    return np.where(np.arange(length) < lengths, history, 0), lengths


def some_clicks(users: int = 60, seed: int = 3) -> tuple[Array, Array]:
    """Walks along a ring of items 1 to 30, mostly forwards; items 31 to 40 have no click."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([1, 2, 5], size=(users, 7), p=[0.7, 0.2, 0.1])
    items = (rng.integers(0, 30, (users, 1)) + steps.cumsum(axis=1)) % 30 + 1
    return np.repeat(np.arange(users), 7), items.reshape(-1)


def unit(vectors: Array) -> Array:
    """``vectors`` at length 1; zeros stay zeros."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


def larger_items(model: Any) -> Any:
    """``model`` with items that are far apart, as after training."""
    rng = np.random.default_rng(5)
    tables = [model.item_emb] + ([model.sources] if hasattr(model, "sources") else [])
    for table in tables:
        rows = rng.normal(size=(V, D)).astype("float32")
        rows[0] = 0
        table.weight.set_value(rows)
    return model
