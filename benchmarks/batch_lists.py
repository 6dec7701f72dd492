# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users per second of tools/batch.py, beside those of tools/infer.py in the same run.

Both search one Milvus server for users of the full-size sample log (603,668 users, 367,982 items)
at one list length and one HNSW; a million users are those of the log, from the second round on
without their last click. MIND is trained for a moment: what its vectors mean does not change what
a search of theirs costs.

    python benchmarks/batch_lists.py --work /tmp/batch                      # a million users
    python benchmarks/batch_lists.py --work /tmp/batch --users 20000 --items 20000 --rank

A run that was stopped goes on: data, models and parts are kept in --work. The speed is that of the
parts that the last run made.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import polars as pl
from full_size import CLICKS, ITEMS, USERS
from tabulate import tabulate

from paddlerec_milvus import command
from paddlerec_milvus.batch.histories import UserClicks, prepared_clicks
from paddlerec_milvus.batch.shares import Share
from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.evaluation.report import machine, versions
from paddlerec_milvus.evaluation.results import EvaluationReport
from paddlerec_milvus.retrieval.server import LocalMilvus

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "batch_lists.json"
RATE = re.compile(r"parts, (\d+) users/s")


class ProgramRun(NamedTuple):
    """A program that ended."""

    log: str
    """What it said on stderr."""
    seconds: float
    mebibytes: float
    """The most memory that it held."""


def run(words: list[str], **environment: str) -> ProgramRun:
    """Run this Python in the repository; a failure ends the benchmark."""
    print("$ python", *words, flush=True)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-u", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        text=True,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    log, peak = "", 0.0
    for line in process.stderr:
        print(line, end="", file=sys.stderr, flush=True)
        log, peak = log + line, peak_mib(process.pid) or peak
    if process.wait():
        sys.exit(f"exit code {process.returncode}")
    return ProgramRun(log, time.perf_counter() - began, peak)


def peak_mib(process: int) -> float:
    """The most memory of a process so far; 0 when it has ended.

    What ``wait`` tells of it counts what this program held when it started the other.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024 if "VmHWM:" in status else 0.0


def sample_of(work: Path, items: int) -> Path:
    """The sample log, of full size where it has all ``items``."""
    sample, part = work / f"sample_{items}", items / ITEMS
    sizes = ["--users", str(int(USERS * part)), "--clicks", str(int(CLICKS * part))]
    if prepare(["--sample", *sizes, "--items", str(items), "--out", str(sample)]):
        sys.exit(2)
    return sample


def histories_of(clicks: UserClicks, users: int) -> pl.DataFrame:
    """``users`` users: those of the log, and again without their last click."""
    known, rows = len(clicks.users), []
    for user in range(users):
        history = clicks.history(user % known).tolist()
        rows.append(history[: max(1, len(history) - user // known)])
    return pl.DataFrame({"user": range(users), "items": rows})


def write_histories(work: Path, sample: Path, users: int, items: int) -> Path:
    file = work / f"histories_{items}_{users}.parquet"
    if not file.exists():
        fresh = file.with_suffix(".new")
        histories_of(prepared_clicks(sample, items, Share()), users).write_parquet(fresh)
        fresh.replace(file)
    return file


def train(work: Path, sample: Path, options: list[str], *, rank: bool) -> list[str]:
    """The arguments that name a model, trained for a moment, with a ranker if it is to ``rank``."""
    out = work / f"model_{sample.name}"
    arguments = ["-m", "mind/config.yaml", "--data", str(sample), "-o", *options]
    arguments += [f"runner.model_save_path={out}", f"runner.infer_load_path={out}"]
    if not (out / "0" / "rec.pdparams").exists():
        brief = ["runner.epochs=1", "runner.batches_per_epoch=2000"]
        run(["tools/trainer.py", *arguments, *brief])
    if rank and not (out / "best" / "ranking").exists():
        run(["tools/rank.py", "--lists", "400", "--rounds", "3", *arguments])
    return arguments


def batch_rate(arguments: list[str], out: Path, uri: str) -> tuple[float, ProgramRun]:
    """Users/s of a job of which none is made yet."""
    done = run(["tools/batch.py", *arguments, "--out", str(out)], MILVUS_URI=uri)
    rates = RATE.findall(done.log)
    if not rates:
        sys.exit(f"{out}: was finished before and has no speed: remove it")
    return float(rates[-1]), done


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("output_batch"), help="for reruns")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=ITEMS, help="of the sample log")
    parser.add_argument("--top_k", type=int, default=50)
    parser.add_argument("--rank", action="store_true", help="also ranked lists, of a tenth of them")
    parser.add_argument("--ef", type=int, default=128, help="of HNSW at search (128)")
    parser.add_argument("--out", type=Path, default=RESULT, help="the result (%(default)s)")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    sample = sample_of(work, arguments.items)
    file = write_histories(work, sample, arguments.users, arguments.items)
    options = ["hyper_parameters.embedding_dim=64", "hyper_parameters.hidden_size=64"]
    options += [f"index.ef={arguments.ef}"]
    model = train(work, sample, options, rank=arguments.rank)
    rates, memory, seconds = {}, {}, {}
    with LocalMilvus() as server:
        top = ["-top_n", str(arguments.top_k)]
        report = work / "infer.json"
        ask = ["tools/infer.py", "--best", *top, "--report", str(report), *model]
        memory["infer"] = run(ask, MILVUS_URI=server.uri).mebibytes
        evaluation = EvaluationReport.model_validate_json(report.read_text())
        stages = evaluation.last.seconds_by_stage
        rates["infer"] = evaluation.last.users / (stages["tower"] + stages["search"])
        jobs: dict[str, tuple[Path, list[str]]] = {"batch": (file, [])}
        if arguments.rank:
            few = write_histories(work, sample, arguments.users // 10, arguments.items)
            jobs["batch --rank"] = (few, ["--rank"])
        for name, (histories, flags) in jobs.items():
            out = work / f"{histories.stem}_{arguments.top_k}{''.join(flags)}"
            job = ["--histories", str(histories), "--top_k", str(arguments.top_k), *flags, *model]
            # vectors of its own: infer's say not whose they are
            job += ["milvus.collection=batch_items"]
            rates[name], done = batch_rate(job, out, server.uri)
            memory[name], seconds[name] = done.mebibytes, done.seconds
    rows = [
        (name, f"{rate:,.0f}", f"{rate / rates['infer']:.2f}", f"{memory[name]:,.0f}")
        for name, rate in rates.items()
    ]
    print(tabulate(rows, ["", "users/s", "ratio", "MiB"], disable_numparse=True, stralign="right"))
    result = {
        "users": arguments.users,
        "items": arguments.items,
        "top_k": arguments.top_k,
        "users_per_second": rates,
        "ratio": rates["batch"] / rates["infer"],
        "seconds": seconds,
        "mebibytes": memory,
        "index": evaluation.settings["index"],
        "infer_users": evaluation.last.users,
        "machine": machine(),
        "versions": versions(),
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"all figures: {arguments.out}")


if __name__ == "__main__":
    sys.exit(command.run(main))
