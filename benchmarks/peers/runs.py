# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A training run as a process of its own: its command, its log lines, its peak memory."""

from __future__ import annotations

import os
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ["-m", "mind/config.yaml"]
LINE = re.compile(r"batch_id: \d+,.*avg_reader_cost: ([\d.]+) sec, avg_batch_cost: ([\d.]+) sec")
LINES, BURN_IN = 10, 2  # log lines of a run, and of them left out at its start


def peer(name: str) -> list[str]:
    """The command of a script in this folder."""
    return ["-u", str(ROOT / "benchmarks" / "peers" / name), *MODEL]


def options(section: str, values: Mapping[str, Any]) -> list[str]:
    """``values`` as they follow -o; None is nothing after the sign."""
    return [f"{section}.{key}={'' if value is None else value}" for key, value in values.items()]


def execute(
    arguments: Sequence[str], log: Path, threads: int, python: str = sys.executable
) -> tuple[str, float]:
    """Run ``python`` in a process of its own: its output and its peak memory in MB."""
    print("$ python", shlex.join(arguments), flush=True)
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with log.open("w") as output:
        process = subprocess.Popen(
            [python, *arguments],
            cwd=ROOT,
            env={**os.environ, **limits},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    if process.returncode:
        sys.exit(f"exit code {process.returncode}, {log}:\n{text[-4000:]}")
    return text, usage.ru_maxrss * 1024 / 1e6


def parse(text: str, batch: int) -> dict[str, float]:
    """Seconds of a whole step and of its reading, and samples/s, without the burn-in.

    ``batch`` is that of all processes together; each line says what a step of it took.
    """
    lines = LINE.findall(text)[BURN_IN:]
    if not lines:
        sys.exit(f"too few log lines to measure in:\n{text[-4000:]}")
    reader, step = (statistics.fmean(map(float, column)) for column in zip(*lines, strict=True))
    return {"step": step, "reader": reader, "rate": batch / step}


@dataclass
class Contender:
    """A way to train, at a batch (of all processes together) and a number of negatives."""

    title: str
    command: Sequence[str]
    batch: int
    negatives: int
    hyper: Mapping[str, Any]  # hyper_parameters
    runner: Mapping[str, Any]  # runner
    rate: float  # samples/s, a guess until the first run
    runs: list[dict[str, float]] = field(default_factory=list)
    python: str = sys.executable

    @property
    def key(self) -> tuple[str, int, int]:
        return self.title, self.batch, self.negatives

    def median(self, name: str) -> float:
        """The median over runs of ``rate``, ``step``, ``reader`` or ``peak_mb``."""
        return statistics.median(run[name] for run in self.runs)

    def run(self, work: Path, seconds: float, threads: int) -> None:
        """Train for about so many seconds and add what was measured to ``runs``."""
        batches = max(3 * LINES, int(seconds * self.rate / self.batch))
        runner = {
            "train_batch_size": self.batch,
            "batches_per_epoch": batches,
            "print_interval": batches // LINES,
            "epochs": 1,
            "model_save_path": work / "trained",
            **self.runner,
        }
        hyper = options("hyper_parameters", {"neg_samples": self.negatives, **self.hyper})
        name = re.sub(r"\W+", "_", "_".join(map(str, self.key)))
        log = work / f"{name}_{len(self.runs)}.log"
        command = [*self.command, "-o", *options("runner", runner), *hyper]
        text, peak = execute(command, log, threads, self.python)
        self.runs.append({**parse(text, self.batch), "peak_mb": peak})
        self.rate = self.runs[-1]["rate"]
