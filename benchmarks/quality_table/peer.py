# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Other people's models as rows: trained by processes of their own, measured as ours are."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.errors import UserError
from quality_table.data import DataSet
from quality_table.models import PEERS, ROOT
from quality_table.relevance import means, relevance_of
from quality_table.results import TOP_N, Measurement, TrainingRun

FOLDER = ROOT / "benchmarks" / "peers"
SHARED = FOLDER / "in_parts.py"


@dataclass(frozen=True)
class Peer:
    """A program of benchmarks/peers that trains for some minutes and writes lists."""

    script: Path
    packages: tuple[str, ...]
    """That it imports."""
    settings: Mapping[str, Any]
    """In its authors' words."""
    pip: str
    """What brings the packages into an environment of their own."""
    needs_checkout: bool = False
    length_key: str = "maxlen"
    """Of its settings: how many clicks of a history it sees."""

    @property
    def code(self) -> str:
        """SHA-256 of its sources here."""
        return sha256(self.script.read_bytes() + SHARED.read_bytes()).hexdigest()

    def settings_of(self, minutes: float, maxlen: int) -> dict[str, Any]:
        """All that decides the row."""
        return {**self.settings, self.length_key: maxlen, "minutes": minutes}


SASREC = {
    "n_blocks": 2,
    "n_heads": 2,
    "n_factors": 128,
    "dropout_rate": 0.2,
    "loss": "softmax",
    "n_negatives": 1,  # of a loss with negatives; softmax has all items
    "lr": 0.001,
    "batch_size": 128,
}
"""RecTools' defaults but for the width and the heads, which are those of ours."""
REMI = {
    "hidden_size": 128,
    "interest_num": 4,
    "batch_size": 128,
    "sampled_n": 1280,
    "lr": 0.003,  # 0.001, 0.003 and 0.01 were tried on Beauty's valid users, 1.3 minutes each
    "rbeta": 0.0,
    "rlambda": 0.0,
}
"""REMI's repository's defaults but for the rate, and the width, which is that of ours."""


def _remi(model_type: str, **settings: Any) -> Peer:
    return Peer(
        script=FOLDER / "remi_torch.py",
        packages=("torch",),
        settings={**REMI, "model_type": model_type, **settings},
        pip="'torch>=2.4' numpy",
        needs_checkout=True,
    )


TRAINED: Mapping[str, Peer] = {
    "sasrec_rectools": Peer(
        script=FOLDER / "sasrec_rectools.py",
        packages=("rectools", "torch", "pytorch_lightning"),
        settings=SASREC,
        pip="'rectools[torch]>=0.19'",
        length_key="session_max_len",
    ),
    "comirec_sa_remi": _remi("ComiRec-SA"),
    "comirec_dr_remi": _remi("ComiRec-DR"),
    "remi_remi": _remi("REMI", rbeta=1.0, rlambda=100.0),
}
"""By the names of their rows."""


def absolute_python(python: str) -> str:
    """``python`` as it is run from any folder."""
    program = shutil.which(python)
    return str(Path(program).absolute()) if program else python


def versions_of(python: str) -> dict[str, str]:
    """Of the packages of the peers in ``python``."""
    names = sorted({name for peer in TRAINED.values() for name in peer.packages})
    code = "import json, importlib.metadata as m; "
    code += f"print(json.dumps({{n: m.version(n) for n in {names}}}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


@cache
def missing(name: str, python: str) -> str | None:
    """What to do where ``python`` cannot run the peer ``name``; None where it can."""
    peer = TRAINED[name]
    code = f"import importlib.util as u; print([n for n in {peer.packages} if not u.find_spec(n)])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        lacks = done.stdout.strip() if done.returncode == 0 else done.stderr.strip()[-200:]
    except OSError as error:
        lacks = str(error)
    if lacks == "[]":
        return None
    return (
        f"{PEERS[name]} needs packages that {python} lacks ({lacks}): "
        "pip install 'paddlerec-milvus[peers]', or in an environment of its own "
        f"pip install {peer.pip}, and give --peer_python that environment's python"
    )


def measure(
    data: DataSet,
    name: str,
    program: tuple[str, ...],
    params: dict[str, Any],
    seed: int,
    folder: Path,
) -> Measurement:
    """Train with ``params`` by ``program``, a Python and the checkout where the peer needs one.

    ``folder`` is made and removed. UserError with the process's last lines where it fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    users = {split: data.users(split) for split in ("valid", "test")}
    _write(folder / "input.npz", data, users)
    settings = params | {"seed": seed, "top_n": TOP_N, "item_count": data.item_count}
    python, *checkout = program
    command = [python, str(TRAINED[name].script), "input.npz", "lists.npz"]
    command += [json.dumps(settings), *checkout]
    with (folder / "log").open("w") as lines:
        done = subprocess.run(
            command, stdout=lines, stderr=subprocess.STDOUT, check=False, cwd=folder
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


def _write(file: Path, data: DataSet, users: dict[str, HeldOutUsers]) -> None:
    """Training clicks, whole histories, and the valid users' truths."""
    log = data.log()
    arrays = {
        "users": np.repeat(log.user_ids, log.lengths),
        "items": log.items,
        "valid_truths": users["valid"].truths,
        "valid_indptr": users["valid"].truth_indptr,
    }
    for split, held_out in users.items():
        longest = int(np.diff(held_out.history_indptr).max())
        arrays[f"{split}_histories"] = held_out.histories(longest)[0]
    np.savez(file, **arrays)  # type: ignore[arg-type]
