# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Runs of the trainer on small folders, whole or stopped at a known step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import generic_folder, mind_folder

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.training.stopping import Interrupted
from paddlerec_milvus.training.trainer import Trainer
from paddlerec_milvus.zoo import ModelFolder

FOLDERS: dict[str, Callable[[Path], Path]] = {
    # a constant rate, so that a run of one epoch is the start of a run of three
    "mind": lambda folder: mind_folder(
        folder, dropout=0.2, sampler="log_uniform", **{"optimizer.schedule": "constant"}
    ),
    "generic": generic_folder,
}


def run(
    file: Path,
    out: Path,
    *options: str,
    resume: bool = False,
    stop_at: int | None = None,
    seen: list[Any] | None = None,
    rates: list[float] | None = None,
) -> Path:
    """Train into ``out``; Ctrl-C comes during the step of that number, from 1."""
    settings = load_settings(file, [f"runner.model_save_path={out}", *options])
    trainer = Trainer(settings, ModelFolder(file.parent), resume)
    forward, steps = trainer.contract.train_forward, [0]

    def watched(dy_model: Any, metrics: Any, batch: Any, config: Any) -> Any:
        steps[0] += 1
        if seen is not None:
            seen.append([np.asarray(part) for part in batch])
        if rates is not None:
            rates.append(trainer.optimizer.get_lr())
        if steps[0] == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return forward(dy_model, metrics, batch, config)

    trainer.contract.train_forward = watched  # type: ignore[method-assign]
    trainer.run()
    return out


def stopped(file: Path, out: Path, step: int, *options: str, resume: bool = False) -> Path:
    """As ``run``, stopped in that step."""
    with pytest.raises(Interrupted, match="--resume"):
        run(file, out, *options, resume=resume, stop_at=step)
    return out


def write_valid(folder: Path, users: int = 12) -> Path:
    """Valid users of ``support.write_log``: five clicks round a group of items, then two more."""
    lines = []
    for user in range(users):
        walk = [1 + user % 4 * 10 + (user + step) % 10 for step in range(7)]
        history = " ".join(f"hist_item:{item}" for item in walk[:5])
        truths = " ".join(f"eval_item:{item}" for item in walk[5:])
        lines.append(f"user_id:{1000 + user} target_item:0 {history} {truths}\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part-0").write_text("".join(lines))
    return folder
