# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""An executor of a cluster that is killed costs its own tasks, and nothing of the folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from support import ROOT
from test_same_folder import content_of, csv_of

from paddlerec_milvus.data.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(find_spec("pyspark") is None, reason="needs the extra [spark]"),
]

# a small file is read in several pieces, and sorted into several
CLUSTER = (
    "--master local-cluster[2,1,1024] --conf spark.ui.enabled=false "
    "--conf spark.sql.files.maxPartitionBytes=1500 --conf spark.sql.shuffle.partitions=3 "
    "--conf spark.sql.adaptive.coalescePartitions.enabled=false"
)


def executors(parent: int) -> list[psutil.Process]:
    """The executors below a process, which Spark's workers started."""
    processes = []
    for process in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "CoarseGrainedExecutorBackend" in " ".join(process.cmdline()):
                processes.append(process)
    return processes


def test_a_killed_executor_changes_nothing(tmp_path: Path) -> None:
    log, out = tmp_path / "log.csv", tmp_path / "spark" / "out"
    log.write_text(csv_of(lambda u, i, r, t: (f"u{u}", i, t), "user,item,time"))
    options = ["--interactions", str(log), "--min-count", "3", "--out"]
    assert main([*options, str(tmp_path / "memory")]) == 0
    command = [sys.executable, str(ROOT / "datasets/amazonbook/prepare.py"), *options, str(out)]
    environment = {**os.environ, "PYSPARK_SUBMIT_ARGS": f"{CLUSTER} pyspark-shell"}
    killed = set[int]()
    with subprocess.Popen([*command, "--engine", "spark"], env=environment) as child:
        # one after the first table is there, another in the middle of those that follow
        for table in ("rows", "placed"):
            waited_for = out.with_name(".out.spark") / table
            while child.poll() is None and not waited_for.exists():
                time.sleep(0.05)
            running = [one for one in executors(child.pid) if one.pid not in killed]
            if running:
                running[0].send_signal(signal.SIGKILL)
                killed.add(running[0].pid)
        assert child.wait(timeout=1000) == 0
    assert len(killed) == 2
    assert content_of(out) == content_of(tmp_path / "memory")
    assert [path.name for path in out.parent.iterdir()] == ["out"]
