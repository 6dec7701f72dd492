# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A job that is killed anywhere, again and again, ends as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support import ROOT, python
from test_part_files import content_of

from paddlerec_milvus.retrieval.connection import Connection

pytestmark = pytest.mark.slow

USERS, PARTS = 12_000, 48
PROGRAM = str(ROOT / "tools" / "batch.py")
KILLED_AFTER = """
import os, signal, sys
from paddlerec_milvus.batch.cli import main
from paddlerec_milvus.retrieval.connection import Connection

call, left = Connection.call, int(sys.argv[1])

def counted(connection, name, *values, **named):
    global left
    answer = call(connection, name, *values, **named)
    left -= name == "upsert"
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

Connection.call = counted
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def job(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a job of some seconds, without its place."""
    rng = np.random.default_rng(1)
    file = tmp_path_factory.mktemp("many") / "users.parquet"
    items = rng.integers(1, 301, (USERS, 12)).tolist()
    pl.DataFrame({"user": rng.permutation(USERS), "items": items}).write_parquet(file)
    usual = ["--top_k", "20", "--part-users", str(USERS // PARTS), "--histories", str(file)]
    return ["--export", str(exported), "--exact", *usual]


def stopped(arguments: list[str], how: signal.Signals, when: Callable[[], bool]) -> int:
    """Start the job, send the signal ``when`` it is time, and wait for its end."""
    process = subprocess.Popen(
        [sys.executable, PROGRAM, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 60
    while not when() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(how)
    process.communicate(timeout=60)
    return process.returncode


def test_killed_three_times_and_interrupted_once(job: list[str], tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "lists"
    done = python(PROGRAM, *job, "--out", str(whole), cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    here = [*job, "--out", str(out)]
    kills = [(3, signal.SIGKILL), (11, signal.SIGKILL), (20, signal.SIGINT), (30, signal.SIGKILL)]
    for parts, how in kills:
        code = stopped(here, how, lambda: len(list(out.glob("part-*"))) >= parts)  # noqa: B023
        assert code == (130 if how == signal.SIGINT else -9)
        assert not (out / "_SUCCESS").exists()
        assert parts <= len(list(out.glob("part-*"))) < PARTS
    done = python(PROGRAM, *here, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert content_of(out) == content_of(whole)
    assert pl.read_parquet(out / "part-*.parquet")["user"].n_unique() == USERS


@pytest.mark.server
def test_killed_while_it_stores(job: list[str], tmp_path: Path, server: Any) -> None:
    connection = Connection(server.uri)

    def count(name: str) -> int:
        if not connection.call("has_collection", name):
            return 0
        strong = {"output_fields": ["count(*)"], "consistency_level": "Strong"}
        try:
            return int(connection.call("query", name, **strong)[0]["count(*)"])
        except Exception:  # it is not loaded yet
            return 0

    def arguments(name: str) -> list[str]:
        large = ["--part-users", "2000"]
        return [*job, *large, "--to-milvus", name, "-o", f"milvus.uri={server.uri}"]

    names = ("lists_at_once", "lists_killed")
    done = python(PROGRAM, *arguments(names[0]), cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    for calls in (1, 3, 4):  # of a thousand users each, two to a part
        killed = [KILLED_AFTER, str(calls), *arguments(names[1])]
        done = python("-c", *killed, cwd=tmp_path, PYTHONPATH=str(ROOT))
        assert done.returncode == -9, done.stderr
        assert 0 < count(names[1]) < USERS
    done = python(PROGRAM, *arguments(names[1]), cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    rows = []
    for name in names:
        assert count(name) == USERS
        fields = ["user", "items", "scores", "source"]
        there = connection.call(
            "query", name, filter="user >= 0", limit=USERS, output_fields=fields
        )
        rows.append(sorted(json.dumps(dict(row), sort_keys=True) for row in there))
        connection.call("drop_collection", name)
    assert rows[0] == rows[1]
    connection.close()
