# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Models of the zoo, and PaddleRec's MIND: trained by tools/trainer.py, measured exactly."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from peers.runs import BURN_IN, LINE

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.data.files import reader_files
from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.settings import Settings
from quality_table.budget import TRIED, RunLength
from quality_table.data import DataSet
from quality_table.models import ROOT
from quality_table.relevance import means, relevance_of
from quality_table.results import (
    TOP_N,
    Measurement,
    RelevanceByUser,
    TowerCost,
    TrainerSpeed,
    TrainingRun,
)

if TYPE_CHECKING:
    from paddlerec_milvus.encoder import Encoder

USERS = 512  # encoded and searched at a time
TIMED, SETTLED = 200, 20  # users that pass the tower alone, and of them those before the clock runs
DONE, SAVED = re.compile(r"^(.*) - INFO - epoch: \d+ done, ", re.M), " - INFO - saved "


def paddlerec_options(batches: int) -> list[str]:
    """Its own settings, but for one epoch of so many batches."""
    return ["runner.epochs=1", f"runner.batches_per_epoch={batches}"]


def settings_of(data: DataSet, yaml: Path, options: Sequence[str]) -> Settings:
    """Those of a training on ``data``."""
    return load_settings(yaml, [f"hyper_parameters.item_count={data.item_count}", *options])


def speed(data: DataSet, yaml: Path, options: Sequence[str], folder: Path) -> TrainerSpeed:
    """How fast the trainer is with ``options``, from a run of TRIED batches; ``folder`` goes."""
    short = [*options, *RunLength(1, TRIED).options, "runner.print_interval=10"]
    seconds, log = _trained(data, yaml, [*short, "runner.seed=1"], folder)
    steps = [float(step) for _, step in LINE.findall(log)[BURN_IN:]]
    done, saved = DONE.findall(log)[0], log[: log.index(SAVED)].rpartition("\n")[2]
    valid = (_time(saved) - _time(done)).total_seconds()
    epoch = float(log.rpartition("epoch time: ")[2].split()[0])
    shutil.rmtree(folder)
    return TrainerSpeed(
        start=max(seconds - epoch - valid, 0.0),
        batch=statistics.fmean(steps),
        valid=valid,
        batches=_batches(settings_of(data, yaml, options), data),
    )


def _time(asctime: str) -> datetime:
    return datetime.strptime(asctime, "%Y-%m-%d %H:%M:%S,%f")


def _batches(settings: Settings, data: DataSet) -> int:
    """Training batches of an epoch."""
    from paddlerec_milvus.zoo import ModelFolder  # paddle: not for the baselines

    files = reader_files(data.folder / "train", "--data")
    folder, runner = ModelFolder(settings.model_dir), settings.runner
    reader: Any = folder.reader(runner.train_reader_path, files, settings.dotted())
    return int(reader.count_batches(runner.train_batch_size))


def measure(
    data: DataSet,
    yaml: Path,
    options: Sequence[str],
    seed: int,
    folder: Path,
    length: RunLength | None = None,
    whole_epoch: int | None = None,
) -> Measurement:
    """Train into ``folder`` and measure its best epoch on valid and test; the folder is removed.

    ``length`` is that of a run that was cut to fit a budget, ``whole_epoch`` the batches that an
    epoch has without it.
    """
    options = [*options, *(length.options if length else [])]
    seconds, log = _trained(data, yaml, [*options, f"runner.seed={seed}"], folder)
    settings = settings_of(data, yaml, options)
    checkpoint, about = _best(folder / "model")
    encoder = _encoder(settings, checkpoint)
    valid, test, unseen = relevance_to(data, settings, encoder)
    cost = cost_of(encoder, data.users("test"))
    shutil.rmtree(folder)
    epochs = len(DONE.findall(log))
    ended: Literal["epochs", "budget"] = "budget" if length else "epochs"
    return Measurement(
        seconds=seconds,
        checkpoint=about,
        valid=means(valid),
        test=test,
        unseen=unseen,
        training=TrainingRun(
            epochs=epochs,
            batches=length.batches if length else None,
            whole_epoch=whole_epoch,
            ended=ended if epochs == settings.runner.epochs else "patience",
        ),
        cost=cost,
    )


def _trained(data: DataSet, yaml: Path, options: Sequence[str], folder: Path) -> tuple[float, str]:
    """Seconds of tools/trainer.py into ``folder``, its start included, and what it printed.

    UserError with its last lines where it fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-u", str(ROOT / "tools" / "trainer.py"), "-m", str(yaml)]
    command += ["--data", str(data.folder), "-o", *options]
    command.append(f"runner.model_save_path={folder / 'model'}")
    log, began = folder / "log", time.perf_counter()
    with log.open("w") as lines:
        done = subprocess.run(command, stdout=lines, stderr=subprocess.STDOUT, check=False)
    text = log.read_text(errors="replace")
    if done.returncode:
        said = "\n".join(text.splitlines()[-5:])
        raise UserError(f"{' '.join(command)}: exit code {done.returncode}\n{said}\nall: {log}")
    return time.perf_counter() - began, text


def _best(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that was best on valid, else the last, and what is known of it."""
    from paddlerec_milvus.checkpoint import BEST, BEST_FILE

    best = folder / BEST
    if best.exists():
        return best, json.loads((best / BEST_FILE).read_text())
    epochs = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    return folder / str(epochs[-1]), {"epoch": epochs[-1], "chosen": "the last"}


def _encoder(settings: Settings, checkpoint: Path) -> Encoder:
    from paddlerec_milvus.encoder import Encoder
    from paddlerec_milvus.zoo import ModelFolder

    encoder = Encoder(settings, ModelFolder(settings.model_dir))
    encoder.load(checkpoint)
    return encoder


def relevance_to(data: DataSet, settings: Settings, encoder: Encoder) -> list[RelevanceByUser]:
    """Of the lists that ``data`` is measured by: exact search with all of a user's interests."""
    from paddlerec_milvus.evaluation.predict import Queries, Search, Stopwatch, candidates_of

    search = Search.exactly(encoder.item_vectors(), settings.retrieval.metric, TOP_N)
    relevance = []
    for users, excluded in data.lists_measured():
        queries = Queries.of(users, encoder.maxlen, exclude_history=excluded)
        lists, _ = candidates_of(encoder, search, queries, USERS, Stopwatch())
        relevance.append(relevance_of(lists, users))
    return relevance


def cost_of(encoder: Encoder, users: HeldOutUsers) -> TowerCost:
    """Weights of the model and what one of ``users`` takes; the encoder is settled by it."""
    encoder.settle()
    histories, lengths = (part[:TIMED] for part in users.histories(encoder.maxlen))
    taken = []
    for row in range(len(lengths)):
        began = time.perf_counter()
        vectors = encoder.interests(histories[row : row + 1], lengths[row : row + 1])
        taken.append(time.perf_counter() - began)
    return TowerCost(
        parameters=sum(int(np.prod(weights.shape)) for weights in encoder.model.parameters()),
        tower_ms=1000 * statistics.median(taken[min(SETTLED, len(taken) - 1) :]),
        vectors=vectors.shape[1],
        dimensions=vectors.shape[2],
    )
