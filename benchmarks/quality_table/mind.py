# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND, ours and PaddleRec's: trained by tools/trainer.py, measured with exact search."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.settings import Settings
from quality_table.data import DataSet
from quality_table.relevance import means, relevance_of
from quality_table.results import TOP_N, Measurement

ROOT = Path(__file__).resolve().parents[2]
OURS = ROOT / "models" / "recall" / "mind" / "config.yaml"
TITLES = {"mind": "MIND", "mind_paddlerec": "MIND of PaddleRec"}
USERS = 512  # encoded and searched at a time


def code_of(yaml: Path) -> str:
    """SHA-256 of a model folder's sources and of the yaml."""
    digest = sha256()
    for file in [*sorted(yaml.parent.glob("*.py")), yaml]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def paddlerec_options(batches: int) -> list[str]:
    """Its own settings, but for one epoch of so many batches."""
    return ["runner.epochs=1", f"runner.batches_per_epoch={batches}"]


def measure(
    data: DataSet, yaml: Path, options: Sequence[str], seed: int, folder: Path
) -> Measurement:
    """Train into ``folder`` and measure its best epoch on valid and test; the folder is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    places = [f"runner.model_save_path={folder / 'model'}", f"runner.seed={seed}"]
    options = [*options, *places]
    seconds = _train(["-m", str(yaml), "--data", str(data.folder), "-o", *options], folder / "log")
    settings = load_settings(yaml, [f"hyper_parameters.item_count={data.item_count}", *options])
    checkpoint, about = _best(folder / "model")
    users = {split: data.users(split) for split in ("valid", "test")}
    lists = lists_of(settings, checkpoint, users)
    shutil.rmtree(folder)
    valid, test = (relevance_of(lists[split], users[split]) for split in users)
    return Measurement(seconds=seconds, checkpoint=about, valid=means(valid), test=test)


def _train(arguments: list[str], log: Path) -> float:
    """Seconds of tools/trainer.py, its start included; UserError with its last lines on failure."""
    command = [sys.executable, "-u", str(ROOT / "tools" / "trainer.py"), *arguments]
    began = time.perf_counter()
    with log.open("w") as lines:
        done = subprocess.run(command, stdout=lines, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        said = "\n".join(log.read_text().splitlines()[-5:])
        raise UserError(f"{' '.join(command)}: exit code {done.returncode}\n{said}\nall: {log}")
    return time.perf_counter() - began


def _best(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that was best on valid, else the last, and what is known of it."""
    from paddlerec_milvus.checkpoint import BEST, BEST_FILE  # paddle: not for the baselines

    best = folder / BEST
    if best.exists():
        return best, json.loads((best / BEST_FILE).read_text())
    epochs = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    return folder / str(epochs[-1]), {"epoch": epochs[-1], "chosen": "the last"}


def lists_of(
    settings: Settings, checkpoint: Path, splits: dict[str, HeldOutUsers]
) -> dict[str, np.ndarray]:
    """Candidates [U, TOP_N] of each split by exact search with all interests."""
    from paddlerec_milvus.encoder import Encoder
    from paddlerec_milvus.evaluation.predict import Queries, Search, Stopwatch, candidates_of
    from paddlerec_milvus.zoo import ModelFolder

    encoder = Encoder(settings, ModelFolder(settings.model_dir))
    encoder.load(checkpoint)
    search = Search.exactly(encoder.item_vectors(), settings.retrieval.metric, TOP_N)
    lists = {}
    for split, users in splits.items():
        queries = Queries.of(users, encoder.maxlen, exclude_history=False)
        lists[split], _ = candidates_of(encoder, search, queries, USERS, Stopwatch())
    return lists
