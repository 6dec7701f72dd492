# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What several test files share: a tiny planted log, and model folders in PaddleRec's style."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.log import ClickLog

ROOT = Path(__file__).resolve().parent.parent
MIND = ROOT / "models" / "recall" / "mind"


def write_log(folder: Path, users: int = 40, groups: int = 4, clicks: int = 9) -> Path:
    """A log with a planted interest: a user walks round one group of 10 item ids."""
    rng = np.random.default_rng(3)
    lines = []
    for user in range(1, users + 1):
        group, start = user % groups, int(rng.integers(10))
        lines += [f"{user},{1 + group * 10 + (start + t) % 10},{t}\n" for t in range(clicks)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part-0.csv").write_text("".join(lines))
    return folder


def write_yaml(file: Path, sections: Mapping[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(dict(sections)))
    return file


def mind_folder(folder: Path, **hyper: Any) -> Path:
    """A copy of our MIND with a small yaml; returns the yaml. Items are those of ``write_log``."""
    shutil.copytree(MIND, folder, ignore=shutil.ignore_patterns("output*", "*.yaml", "__pycache__"))
    sections = yaml.safe_load((MIND / "config.yaml").read_text())
    sections["runner"] |= {
        "train_data_dir": str(write_log(folder.parent / "log")),
        "train_batch_size": 32,
        "print_interval": 4,
        "model_save_path": "out",
        "valid_data_dir": None,
        "patience": 0,
    }
    sections["hyper_parameters"] |= {
        "item_count": 41,
        "embedding_dim": 8,
        "hidden_size": 8,
        "neg_samples": 16,
        "maxlen": 5,
        **hyper,
    }
    return write_yaml(folder / "config.yaml", sections)


GENERIC_NET = """
import paddle.nn as nn


class Net(nn.Layer):
    def __init__(self, width):
        super().__init__()
        self.hidden = nn.Linear(4, width)
        self.out = nn.Linear(width, 1)
        self.drop = nn.Dropout(0.3)

    def forward(self, features):
        return nn.functional.sigmoid(self.out(self.drop(nn.functional.relu(self.hidden(features)))))
"""

GENERIC_MODEL = """
import net
import numpy as np
import paddle


class DygraphModel:
    def create_model(self, config):
        return net.Net(config.get("hyper_parameters.width"))

    def create_feeds(self, batch_data):
        return paddle.to_tensor(batch_data[0].numpy().astype("int64")), batch_data[1]

    def create_optimizer(self, dy_model, config):
        rate = config.get("hyper_parameters.optimizer.learning_rate", 0.01)
        return paddle.optimizer.Adam(learning_rate=rate, parameters=dy_model.parameters())

    def create_metrics(self):
        return [paddle.metric.Auc("ROC")], ["auc"]

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        label, features = self.create_feeds(batch_data)
        features = features + 0.01 * float(np.random.rand())  # the net draws from numpy's, too
        guess = dy_model(features)
        loss = paddle.nn.functional.log_loss(guess, label.astype("float32")).mean()
        metrics_list[0].update(preds=paddle.concat([1 - guess, guess], 1).numpy(),
                               labels=label.numpy())
        return loss, metrics_list, {"loss": loss}
"""

GENERIC_READER = """
import random

import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list

    def __iter__(self):
        for name in self.file_list:
            with open(name) as lines:
                numbers = lines.read().split()
            for line in numbers:
                x = int(line) + random.random() + np.random.rand()
                yield [np.array([int(line) % 2]), np.array([x, 1, -x, 0]).astype("float32")]
"""


def generic_folder(folder: Path, *, samples: int = 48, **runner: Any) -> Path:
    """A ranking model in upstream's style whose reader and net draw from global generators."""
    (folder / "data").mkdir(parents=True)
    (folder / "net.py").write_text(GENERIC_NET)
    (folder / "dygraph_model.py").write_text(GENERIC_MODEL)
    (folder / "reader.py").write_text(GENERIC_READER)
    (folder / "data" / "part-0").write_text("\n".join(str(number % 7) for number in range(samples)))
    runner = {
        "train_data_dir": "data",
        "train_reader_path": "reader",
        "train_batch_size": 8,
        "epochs": 3,
        "print_interval": 2,
        "model_save_path": "out",
        **runner,
    }
    return write_yaml(folder / "config.yaml", {"runner": runner, "hyper_parameters": {"width": 16}})


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this Python in ``cwd``; the package is not on its path unless the environment says so."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**plain, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def checkpoint_bits(folder: Path) -> dict[str, bytes]:
    """Every array of ``rec.pdparams`` and ``rec.pdopt`` as bytes."""
    import paddle  # not at the top: most tests that use this module need none

    bits = {}
    for part in ("pdparams", "pdopt"):
        for name, value in paddle.load(str(folder / f"rec.{part}")).items():
            array = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
            bits[f"{part}:{name}"] = str(array.shape).encode() + array.tobytes()
    return bits


def log_of(users: list[list[int]]) -> ClickLog:
    """The clicks of users 0, 1 …, each in its order."""
    indptr = np.concatenate([[0], np.cumsum([len(u) for u in users])]).astype(np.int64)
    items = np.array([i for u in users for i in u], dtype=np.int64)
    return ClickLog(np.arange(len(users), dtype=np.int64), indptr, items)


def held_out(histories: list[list[int]]) -> HeldOutUsers:
    """Users with these histories; the truth of each is item 1."""
    log = log_of(histories)
    one = np.arange(len(histories) + 1, dtype=np.int64)
    return HeldOutUsers(log.user_ids, log.indptr, log.items, one, np.ones(len(histories), np.int64))
