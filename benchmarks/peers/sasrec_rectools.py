# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Trains SASRec of RecTools for some minutes and writes its lists for held-out users.

python benchmarks/peers/sasrec_rectools.py INPUT.npz OUT.npz '{"minutes": 5, "seed": 1, …}'

Needs RecTools with PyTorch and nothing of this project, so any Python that has them runs it. INPUT
holds the training clicks and the histories and truths of the valid and test users.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers.in_parts import train_in_parts


def interactions(rows: np.ndarray, items: np.ndarray) -> Any:
    """A RecTools data set of clicks ``items`` [n] of ``rows`` [n], in time order."""
    frame = pd.DataFrame({Columns.User: rows, Columns.Item: items, Columns.Weight: 1.0})
    frame[Columns.Datetime] = pd.to_datetime(np.arange(len(frame)), unit="s")
    return Dataset.construct(frame)


def windows(users: np.ndarray, items: np.ndarray, length: int) -> Any:
    """Training clicks in windows of ``length`` + 1, of one click in common, each a user.

    RecTools trains on a user's last ``length`` + 1 clicks alone; so every click but a user's first
    is a target once, as it is for the models beside it.
    """
    starts = np.flatnonzero(np.diff(users, prepend=users[0] - 1))
    rows, clicks, count = [], [], 0
    for start, end in zip(starts, [*starts[1:], len(users)], strict=True):
        for first in range(start, max(end - 1, start + 1), length):
            part = items[first : min(first + length + 1, end)]
            rows.append(np.full(len(part), count))
            clicks.append(part)
            count += 1
    return interactions(np.concatenate(rows), np.concatenate(clicks))


def held_out(histories: np.ndarray) -> Any:
    """A data set of ``histories`` [U, L] in time order, padding 0; user u is row u."""
    rows, places = np.nonzero(histories)
    return interactions(rows, histories[rows, places])


class RecToolsSASRec:
    """The model under training, with a trainer of Lightning that says and saves nothing."""

    def __init__(self, users: np.ndarray, items: np.ndarray, settings: dict[str, Any]) -> None:
        def trainer() -> Any:
            return Trainer(
                max_epochs=1,
                accelerator="cpu",
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )

        keys = ["n_blocks", "n_heads", "n_factors", "dropout_rate", "session_max_len", "loss"]
        keys += ["n_negatives", "lr", "batch_size"]
        self._model = SASRecModel(
            **{key: settings[key] for key in keys},
            recommend_torch_device="cpu",
            get_trainer_func=trainer,
        )
        self._clicks = windows(users, items, settings["session_max_len"])
        self._top_n = settings["top_n"]
        self.whole_epoch = -(-self._clicks.user_id_map.size // settings["batch_size"])

    @property
    def network(self) -> Any:
        """Its torch module, there once it has trained."""
        return self._model.torch_model

    def train(self, batches: int) -> None:
        """Go on for so many batches."""
        fitted = self._model.is_fitted
        trainer = self._model.fit_trainer if fitted else self._model._trainer
        trainer.limit_train_batches = batches
        self._model.fit_partial(self._clicks, min_epochs=1, max_epochs=1)

    def lists(self, histories: np.ndarray, *, unseen: bool = False) -> np.ndarray:
        """Lists [U, top_n] int64, -1 where short; without ``histories`` [U, L] if ``unseen``.

        The model takes the last clicks of ``histories`` itself.
        """
        lists = np.full((len(histories), self._top_n), -1, dtype=np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = self._model.recommend(
                np.flatnonzero(histories.any(axis=1)),
                held_out(histories),
                self._top_n,
                filter_viewed=unseen,
                on_unsupported_targets="ignore",
            )
        lists[table[Columns.User], table[Columns.Rank] - 1] = table[Columns.Item]
        return lists


def main() -> int:
    """Read, train, write; the lists are [U, 50] int64."""
    source, out, words = sys.argv[1:]
    settings = json.loads(words)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    seed_everything(settings["seed"], verbose=False)
    data = np.load(source)
    trained = train_in_parts(
        lambda: RecToolsSASRec(data["users"], data["items"], settings), data, settings["minutes"]
    )
    versions = {name: version(name) for name in ("rectools", "torch", "numpy")}
    about = trained.pop("about") | {"dimensions": settings["n_factors"], "versions": versions}
    np.savez(out, about=json.dumps(about), **trained)
    return 0


if __name__ == "__main__":
    sys.exit(main())
