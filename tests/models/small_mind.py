# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Our MIND at the size of a test, loaded as the zoo does, and users for it.

Letters as in net.py: B users, L history, K interests, D dimensions, N negatives, V rows of the item
table.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
import small_models
from support import MIND

from paddlerec_milvus.zoo import ModelFolder

Array = npt.NDArray[Any]
FOLDER = ModelFolder(MIND)
CONTRACT: Any = FOLDER.dygraph_model()
V, D, K, L = 30, 8, 3, 6


def module(name: str) -> ModuleType:
    """A module of the model folder."""
    with FOLDER.active():
        return importlib.import_module(name)


def settings(folder: Path | None = None, **hyper: Any) -> dict[str, Any]:
    """A small network's config; ``folder`` is that of the yaml, the log lies in its ``train``."""
    values = {
        "item_count": V,
        "embedding_dim": D,
        "hidden_size": D,
        "emb_init_std": 1.0,
        "maxlen": L,
        "capsual.max_k": K,
        "neg_samples": 7,
        **hyper,
    }
    config: dict[str, Any] = {f"hyper_parameters.{name}": value for name, value in values.items()}
    if folder is not None:
        config |= {"config_abs_dir": str(folder), "runner.train_data_dir": "train"}
    return config


def build(folder: Path | None = None, **hyper: Any) -> Any:
    """A network; the same each time."""
    paddle.seed(1)
    with FOLDER.active():
        return CONTRACT.create_model(settings(folder, **hyper))


some_users = functools.partial(small_models.some_users, item_count=V)


def interests(model: Any, history: Array, lengths: Array, profiles: Array | None = None) -> Array:
    """User vectors [B, K, D] of the model in evaluation."""
    model.eval()
    given = [paddle.to_tensor(x) for x in (history, lengths)]
    codes = None if profiles is None else paddle.to_tensor(profiles)
    vectors, _ = model(*given, profiles=codes)
    return np.asarray(vectors.numpy())


def read_log(*texts: str, folder: Path, reader: str = "mind_reader", **config: Any) -> Any:
    """A reader of the model folder on a log of these files."""
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"part-{number}").write_bytes(text.encode())
    values = {"hyper_parameters.maxlen": 3, "hyper_parameters.item_count": 100}
    values |= {"runner.train_batch_size": 4} | config
    return FOLDER.reader(reader, sorted(folder.iterdir()), values)
