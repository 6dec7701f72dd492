# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Samples per second of each model's training on a CPU, beside a public implementation of it.

Ours by tools/trainer.py; ComiRec-SA, ComiRec-DR, REMI, GRU4Rec and the mean of the history
(YouTubeDNN) of REMI's authors, SASRec of RecTools. Same log, batch, width, history and number of
negatives; whole steps with the reading. Every run is a process of its own, all take turns, and the
median run is shown. Networks of several interests are measured as their yaml trains them (an item's
score is its best interest's) and with the loss of REMI's authors (the target's, "hard"). REMI's
models get their batches faster than from their own reader. GF-CF is not trained by steps. (MIND:
benchmarks/training_speed.py.)

    python benchmarks/zoo_speed.py --data datasets/books --remi ../REMI --peer_python PYTHON

PYTHON has RecTools and PyTorch: pip install 'paddlerec-milvus[peers]'.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers.runs import ROOT, Contender
from quality_table import peer
from quality_table.data import DataSet, open_data
from tabulate import tabulate

from paddlerec_milvus.command import run
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.report import machine, versions

BATCH, NEGATIVES = 128, 1280
WIDTH, MAXLEN = 128, 20
SCRIPT = ROOT / "benchmarks" / "peers" / "train_peer.py"
REMI = {
    "comirec_sa": "ComiRec-SA",
    "comirec_dr": "ComiRec-DR",
    "remi": "REMI",
    "gru4rec": "GRU4Rec",
    "youtube_dnn": "DNN",
}
"""Folders of models/recall, and the same in its words."""
SEVERAL = ("comirec_sa", "comirec_dr", "remi")  # interests
EXACT = {"sampler": "all"}  # the softmax over all items, as RecTools' default is
RATE = 500  # samples/s, a guess
Pair = tuple[Contender, Contender]


def pairs(data: DataSet, remi: Path, python: str, work: Path) -> Iterator[Pair]:
    """Ours and theirs, of each model."""
    source = work / "clicks.npz"
    log = data.log()
    np.savez(source, users=np.repeat(log.user_ids, log.lengths), items=log.items)
    command = ["-u", str(SCRIPT), str(source)]

    def ours(folder: str, loss: str = "", **hyper: Any) -> Contender:
        trainer = ["-u", str(ROOT / "tools" / "trainer.py"), "-m", f"{folder}/config.yaml"]
        sizes = {"item_count": data.item_count, "embedding_dim": WIDTH, "maxlen": MAXLEN, **hyper}
        runner = {"train_data_dir": data.folder / "train", "valid_data_dir": None, "patience": 0}
        return Contender(folder + loss, trainer, BATCH, NEGATIVES, sizes, runner, rate=RATE)

    def theirs(title: str, name: str, *places: str, **settings: Any) -> Contender:
        about = peer.TRAINED[name].settings_of(0, MAXLEN) | {"seed": 1, "top_n": 50, **settings}
        words = [*command, json.dumps(about | {"item_count": data.item_count}), *places]
        return Contender(title, words, BATCH, NEGATIVES, {}, {}, rate=RATE, python=python)

    for folder, model in REMI.items():
        name = f"{folder}_remi" if f"{folder}_remi" in peer.TRAINED else "comirec_sa_remi"
        other = theirs(f"{model} of REMI's authors", name, str(remi), model_type=model)
        yield ours(folder), other
        if folder in SEVERAL:
            yield ours(folder, ", attention hard", attention="hard"), other
    yield (
        ours("sasrec", ", exact softmax", **EXACT),
        theirs("SASRec of RecTools", "sasrec_rectools"),
    )


def table(measured: Sequence[Pair], style: str) -> str:
    """A line for each pair."""
    rows = []
    for own, other in measured:
        ratio = own.median("rate") / other.median("rate")
        rows.append([own.title, other.title, *map(_rates, (own, other)), f"{ratio:.2f}"])
    head = ["ours", "theirs", "samples/s (lowest, highest)", "theirs", "ours / theirs"]
    return tabulate(rows, head, tablefmt=style, disable_numparse=True)


def _rates(one: Contender) -> str:
    rates = [measured["rate"] for measured in one.runs]
    return f"{one.median('rate'):,.0f} ({min(rates):,.0f}, {max(rates):,.0f})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="prepared, or a raw log")
    add("--remi", type=Path, required=True, metavar="DIR", help="a checkout of REMI's authors")
    add("--peer_python", default=sys.executable, metavar="FILE", help="with RecTools and PyTorch")
    add("--work", type=Path, default=Path("output_speed"), metavar="DIR")
    add("--seconds", type=float, default=20, help="of a run's steps, about (20)")
    add("--repeats", type=int, default=3)
    add("--threads", type=int, default=1, help="of each process (1)")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "zoo_speed", metavar="PATH")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write the JSON and the same as markdown."""
    arguments, load = _arguments(), os.getloadavg()[0]
    work, remi = arguments.work.resolve(), arguments.remi.resolve()
    if not (remi / "src" / "REMI.py").exists():
        raise SettingsError(f"--remi {remi}: no checkout of REMI")
    if arguments.seconds <= 0 or arguments.repeats < 1 or arguments.threads < 1:
        raise SettingsError("--seconds is above 0, --repeats and --threads are at least 1")
    python = peer.absolute_python(arguments.peer_python)
    if lacks := peer.missing("sasrec_rectools", python):
        raise SettingsError(lacks)
    work.mkdir(parents=True, exist_ok=True)
    data = open_data(f"{arguments.data.resolve().name}={arguments.data}", work)
    measured = list(pairs(data, remi, python, work))
    contenders = {one.key: one for pair in measured for one in pair}.values()
    for _ in range(arguments.repeats):  # in turns: what else the machine does meets all alike
        for one in contenders:
            one.run(work, arguments.seconds, arguments.threads)
    print(table(measured, "simple"))
    report = {
        "measured": [
            {"ours": own.title, "theirs": other.title, "runs": [own.runs, other.runs]}
            for own, other in measured
        ],
        "data": {"name": data.name, "fingerprint": data.fingerprint, "items": data.item_count - 1},
        "sizes": {"batch": BATCH, "negatives": NEGATIVES, "width": WIDTH, "history": MAXLEN},
        "seconds": arguments.seconds,
        "repeats": arguments.repeats,
        "threads": arguments.threads,
        "machine": machine() | {"load_before": round(load, 2)},
        "versions": versions() | peer.versions_of(python),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    facts = [
        f"- {name}: {', '.join(f'{key} {value}' for key, value in report[name].items())}"
        for name in ("data", "sizes", "machine", "versions")
    ]
    head = f"Median of {arguments.repeats} runs of about {arguments.seconds:g} s, threads of a "
    head = f"# Speed of training each model on a CPU\n\n{head}process: {arguments.threads}.\n"
    text = "\n".join([head, table(measured, "github"), "", *facts])
    arguments.out.with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
