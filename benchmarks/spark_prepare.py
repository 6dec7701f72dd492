# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Seconds and memory of ``prepare.py`` in memory and by Spark, on one log of Amazon Books' size.

Both folders must be the same, byte for byte, or it ends with 1. On one machine Spark is the slower
one: what it is for is a log that no machine's memory holds.

    python benchmarks/spark_prepare.py --work /tmp/spark_prepare
    python benchmarks/spark_prepare.py --work /tmp/spark_prepare --clicks 500000 --beside-other-work
    python benchmarks/spark_prepare.py --work /tmp/spark_prepare --kill-after 120 \\
        --master 'local-cluster[2,1,2048]'
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
from full_size import CLICKS, ITEMS, USERS
from tabulate import tabulate

from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.data.synthetic import synthetic_log
from paddlerec_milvus.evaluation.report import machine, versions

ROOT = Path(__file__).resolve().parent.parent
PREPARE = ROOT / "datasets" / "amazonbook" / "prepare.py"
ENGINES = ("memory", "spark")
_PAUSE = 0.2  # seconds between two looks at the memory


def write_log(file: Path, clicks: int) -> None:
    """A csv of so many synthetic clicks, a share of the full size's users and items."""
    share = clicks / CLICKS
    log = synthetic_log(int(USERS * share), int(ITEMS * share), clicks, seed=1230)
    place = np.arange(len(log.users))
    rows = {"user": log.users, "item": log.item_ids.to_numpy()[log.items], "time": place}
    # in the order of moments, as logs are written, and not user by user
    order = np.random.default_rng(1230).permutation(len(place))
    pl.DataFrame(rows)[order].write_csv(file)


def measured(
    log: Path, out: Path, engine: str, master: str, kill_after: float = 0.0
) -> dict[str, Any]:
    """Seconds and peak memory (resident, of all its processes) of a run; a failure ends all.

    After ``kill_after`` seconds one of its executors is killed; 0: none.
    """
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, str(PREPARE), "--interactions", str(log), "--out", str(out)]
    environment = {**os.environ, "PYSPARK_SUBMIT_ARGS": f"--master {master} pyspark-shell"}
    began, peak, killed, kills = time.perf_counter(), 0, 0, int(kill_after > 0)
    with subprocess.Popen([*command, "--engine", engine], env=environment) as child:
        while child.poll() is None:
            peak = max(peak, _resident(child.pid))
            if killed < kills and time.perf_counter() - began > kill_after:
                killed += _kill_executor(child.pid)
            time.sleep(_PAUSE)
    if child.returncode:
        sys.exit(child.returncode)
    if killed < kills:
        sys.exit(f"--kill-after {kill_after:g}: there was no executor to kill by then")
    seconds = round(time.perf_counter() - began, 1)
    return {"seconds": seconds, "peak_mib": peak >> 20, "killed_executors": killed}


def _kill_executor(process: int) -> int:
    """Kill one of the executors below ``process``; 1, or 0 where there is none."""
    for one in psutil.Process(process).children(recursive=True):
        try:
            if any("CoarseGrainedExecutorBackend" in word for word in one.cmdline()):
                one.kill()
                return 1
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return 0


def _resident(process: int) -> int:
    total = 0
    try:
        parent = psutil.Process(process)
        for one in [parent, *parent.children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.NoSuchProcess:  # it has just ended
        pass
    return total


def sums_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a prepared folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): sha256_of(file) for file in files}


def main() -> int:
    """Measure both engines and write the file of results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="for the log and both folders")
    parser.add_argument("--clicks", type=int, default=CLICKS)
    parser.add_argument("--master", default="local[*]", help="of Spark (default: %(default)s)")
    parser.add_argument(
        "--beside-other-work", action="store_true", help="say so beside the seconds"
    )
    parser.add_argument(
        "--kill-after",
        type=float,
        default=0.0,
        metavar="S",
        help="kill -9 an executor of a local-cluster so many seconds after the start; 0: none",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "spark_prepare.json"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    log = options.work / f"clicks_{options.clicks}.csv"
    write_log(log, options.clicks)
    rows, sums = {}, {}
    for engine in ENGINES:
        kill_after = options.kill_after if engine == "spark" else 0.0
        rows[engine] = measured(log, options.work / engine, engine, options.master, kill_after)
        sums[engine] = sums_of(options.work / engine)
    same = sums["memory"] == sums["spark"]
    result = {
        "clicks": options.clicks,
        "log_mib": log.stat().st_size >> 20,
        "master": options.master,
        "beside_other_work": options.beside_other_work,
        "engines": rows,
        "same_files": same,
        "sha256": sums["memory"],
        "machine": machine(),
        "versions": versions() | {"pyspark": _pyspark()},
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    table = [[engine, *row.values()] for engine, row in rows.items()]
    print(tabulate(table, ["engine", "seconds", "peak MiB", "killed executors"]))
    print(f"{options.clicks:,} clicks; the same files: {'yes' if same else 'NO'}")
    return 0 if same else 1


def _pyspark() -> str:
    from importlib.metadata import version

    return version("pyspark")


if __name__ == "__main__":
    sys.exit(main())
