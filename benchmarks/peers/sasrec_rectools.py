# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Trains SASRec of RecTools for some minutes and writes its lists for held-out users.

python benchmarks/peers/sasrec_rectools.py INPUT.npz OUT.npz '{"minutes": 5, "seed": 1, …}'

Needs RecTools with PyTorch and nothing of this project, so any Python that has them runs it. INPUT
holds the training clicks and the histories and truths of the valid and test users. The model of
the best look at the valid users is the one whose lists are written. Training goes in parts; a part
is at most an epoch, and a part that would end too late is not begun.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import time
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

FIRST_PART, PARTS = 20, 12  # batches of the first part; parts that the minutes have room for


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


def lists_of(
    model: Any, histories: np.ndarray, top_n: int, *, filter_viewed: bool = False
) -> np.ndarray:
    """Lists [U, top_n] int64, -1 where short; without ``histories`` [U, L] if ``filter_viewed``."""
    lists = np.full((len(histories), top_n), -1, dtype=np.int64)
    users = np.flatnonzero(histories.any(axis=1))
    table = model.recommend(
        users,
        held_out(histories),
        top_n,
        filter_viewed=filter_viewed,
        on_unsupported_targets="ignore",
    )
    lists[table[Columns.User], table[Columns.Rank] - 1] = table[Columns.Item]
    return lists


def recall_of(lists: np.ndarray, truths: np.ndarray, indptr: np.ndarray) -> float:
    """Mean over users of the share of a user's truths, as a set, that the list holds."""
    shares = []
    for row, own_truths in zip(lists, np.split(truths, indptr[1:-1]), strict=True):
        own = np.unique(own_truths)
        shares.append(np.isin(own, row).mean() if len(own) else 0.0)
    return float(np.mean(shares))


def untrained(settings: dict[str, Any]) -> Any:
    """The model, with a trainer of Lightning that says and saves nothing."""

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
    return SASRecModel(
        **{key: settings[key] for key in keys},
        recommend_torch_device="cpu",
        get_trainer_func=trainer,
    )


def train(data: Any, settings: dict[str, Any], top_n: int) -> dict[str, Any]:
    """Train inside the minutes: the lists of the best part, and what is known of the run."""
    began = time.perf_counter()
    ends = began + 60 * settings["minutes"]
    model = untrained(settings)
    clicks = windows(data["users"], data["items"], settings["session_max_len"])
    whole = -(-clicks.user_id_map.size // settings["batch_size"])
    part, batches, best, seconds = min(FIRST_PART, whole), 0, None, 0.0
    while batches == 0 or time.perf_counter() + seconds < ends:
        part_began = time.perf_counter()
        if model.is_fitted:
            model.fit_trainer.limit_train_batches = part
        else:
            model._trainer.limit_train_batches = part
        model.fit_partial(clicks, min_epochs=1, max_epochs=1)
        batches += part
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lists = lists_of(model, data["valid_histories"], top_n)
        recall = recall_of(lists, data["valid_truths"], data["valid_indptr"])
        print(f"batch {batches} of {whole} an epoch, valid recall {recall:.5f}", flush=True)
        if best is None or recall > best["recall"]:
            weights = copy.deepcopy(model.torch_model.state_dict())
            best = {"recall": recall, "batches": batches, "valid": lists, "weights": weights}
        seconds = time.perf_counter() - part_began
        if batches == FIRST_PART and whole > FIRST_PART:
            room = (ends - time.perf_counter()) / PARTS
            part = int(np.clip(room / seconds * part, FIRST_PART, whole))
            seconds *= part / FIRST_PART
    assert best is not None
    model.torch_model.load_state_dict(best["weights"])
    return {
        "valid": best["valid"],
        "test": lists_of(model, data["test_histories"], top_n),
        "unseen": lists_of(model, data["test_histories"], top_n, filter_viewed=True),
        "about": {
            "seconds": time.perf_counter() - began,
            "batches": batches,
            "whole_epoch": whole,
            "best_batch": best["batches"],
            "parameters": sum(weights.numel() for weights in model.torch_model.parameters()),
            "dimensions": settings["n_factors"],
            "versions": {name: version(name) for name in ("rectools", "torch", "numpy")},
        },
    }


def main() -> int:
    """Read, train, write; the lists are [U, 50] int64."""
    source, out, words = sys.argv[1:]
    settings = json.loads(words)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    seed_everything(settings["seed"], verbose=False)
    trained = train(np.load(source), settings, settings["top_n"])
    about = json.dumps(trained.pop("about"))
    np.savez(out, about=about, **trained)
    return 0


if __name__ == "__main__":
    sys.exit(main())
