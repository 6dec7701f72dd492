# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A small log with ids of a test's choice, and a MIND that was trained on it for a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.training.cli import main as train

USERS, ITEMS, CLICKS = 60, 40, 12
OPTIONS = ["hyper_parameters.neg_samples=16"]
"""What the model needs beside its checkpoint: a catalogue of 40 items is smaller than usual."""


def train_on_own_ids(
    folder: Path, user_id: Callable[[int], OwnId], item_id: Callable[[int], OwnId]
) -> dict[OwnId, list[OwnId]]:
    """Each user's clicks, oldest first; ``folder`` gets ``data`` and the checkpoints in ``out``."""
    random, clicks = np.random.default_rng(5), dict[OwnId, list[OwnId]]()
    lines = ["user\titem\ttime"]
    for number in range(1, USERS + 1):
        items = 1 + (random.permutation(20)[:CLICKS] + 20 * (number % 2))
        user, history = user_id(number), [item_id(item) for item in items.tolist()]
        lines += [f"{user}\t{item}\t{time}" for time, item in enumerate(history)]
        clicks[user] = history
    log, data = folder / "log.tsv", folder / "data"
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert prepare(["--interactions", str(log), "--out", str(data)]) == 0
    options = [f"runner.model_save_path={folder / 'out'}", "runner.epochs=1", *OPTIONS]
    options += ["runner.train_batch_size=128"]
    assert train(["-m", "mind/config.yaml", "--data", str(data), "-o", *options]) == 0
    return clicks
