# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""SASRec of RecTools as a row: trained by a process of its own, measured as the others are."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.errors import UserError
from quality_table.data import DataSet
from quality_table.models import ROOT
from quality_table.relevance import means, relevance_of
from quality_table.results import TOP_N, Measurement, TrainingRun

NAME = "sasrec_rectools"
SCRIPT = ROOT / "benchmarks" / "peers" / "sasrec_rectools.py"
PACKAGES = ("rectools", "torch", "pytorch_lightning")
SETTINGS = {
    "n_blocks": 2,
    "n_heads": 2,
    "n_factors": 128,
    "dropout_rate": 0.2,
    "loss": "softmax",
    "n_negatives": 1,  # of a loss with negatives; softmax has all items
    "lr": 0.001,
    "batch_size": 128,
}
"""In RecTools' words; its defaults but for the width and the heads, which are those of ours."""


def settings_of(minutes: float, maxlen: int) -> dict[str, Any]:
    """All that decides the row."""
    return SETTINGS | {"session_max_len": maxlen, "minutes": minutes}


@cache
def missing(python: str) -> str | None:
    """What to do where ``python`` cannot run the peer; None where it can."""
    code = f"import importlib.util as u; print([n for n in {PACKAGES} if not u.find_spec(n)])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        lacks = done.stdout.strip() if done.returncode == 0 else done.stderr.strip()[-200:]
    except OSError as error:
        lacks = str(error)
    if lacks == "[]":
        return None
    return (
        f"SASRec of RecTools needs packages that {python} lacks ({lacks}): "
        "pip install 'paddlerec-milvus[peers]', or in an environment of its own "
        "pip install 'rectools[torch]>=0.19', and give --peer_python that environment's python"
    )


def measure(
    data: DataSet, python: str, params: dict[str, Any], seed: int, maxlen: int, folder: Path
) -> Measurement:
    """Train with ``params`` in a process of ``python``; ``folder`` is made and removed.

    UserError with the process's last lines where it fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    users = {split: data.users(split) for split in ("valid", "test")}
    _write(folder / "input.npz", data, users, maxlen)
    settings = params | {"seed": seed, "top_n": TOP_N}
    command = [python, str(SCRIPT), str(folder / "input.npz"), str(folder / "lists.npz")]
    with (folder / "log").open("w") as lines:
        done = subprocess.run(
            [*command, json.dumps(settings)],
            stdout=lines,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=folder,
        )
    if done.returncode:
        said = "\n".join((folder / "log").read_text(errors="replace").splitlines()[-5:])
        raise UserError(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
    lists = np.load(folder / "lists.npz")
    valid, test = (relevance_of(lists[split], users[split]) for split in users)
    unseen = relevance_of(lists["unseen"], users["test"])
    about = json.loads(str(lists["about"]))
    shutil.rmtree(folder)
    return Measurement(
        seconds=about["seconds"],
        valid=means(valid),
        test=test,
        unseen=unseen,
        checkpoint=about,
        training=TrainingRun(
            epochs=round(about["batches"] / about["whole_epoch"], 2), ended="budget"
        ),
    )


def _write(file: Path, data: DataSet, users: dict[str, HeldOutUsers], maxlen: int) -> None:
    log = data.log()
    arrays = {
        "users": np.repeat(log.user_ids, log.lengths),
        "items": log.items,
        "valid_truths": users["valid"].truths,
        "valid_indptr": users["valid"].truth_indptr,
    }
    for split, held_out in users.items():
        arrays[f"{split}_histories"] = held_out.histories(maxlen)[0]
    np.savez(file, **arrays)  # type: ignore[arg-type]
