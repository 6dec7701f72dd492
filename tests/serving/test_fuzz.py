# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Requests that nobody would write, sent to the service as a program: no 5xx, no growing memory.

A few hundred as a rule; FUZZ_EXAMPLES=10000 sends at least as many and checks that, and
the memory, too.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from fuzzing import *  # noqa: F403  # the tests
from fuzzing import EXAMPLES, LARGEST, LONG, VARIABLE, Target
from running_service import until
from support import ROOT

MOST_GROWTH = 0.1  # of the memory after the largest requests


pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200 if LONG else 300)]


@dataclass
class Program(Target):
    process: psutil.Process

    def megabytes(self) -> float:
        return float(self.process.memory_info().rss) / 2**20


@pytest.fixture(scope="module")
def target(trained, tmp_path_factory) -> Iterator[Program]:
    """uvicorn main:app on Milvus Lite, with vectors."""
    folder = tmp_path_factory.mktemp("fuzz")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    environment = {
        "SERVING_DATA": str(trained.data),
        "SERVING_OPTIONS": f"runner.infer_load_path='{trained.checkpoints}' index.type=FLAT "
        "hyper_parameters.neg_samples=128",
        "SERVING_KEPT": str(folder / "kept"),
        "SERVING_TIMEOUT": "30",
        "MILVUS_URI": str(folder / "milvus.db"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--port", str(port), "main:app"],
            cwd=ROOT / "serving",
            env={name: value for name, value in os.environ.items() if name != VARIABLE}
            | environment,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            until(lambda: started.poll() is not None or answers(http), 60)
            assert started.poll() is None, Path(log.name).read_text()
            assert http.post("/insert").status_code == 200
            yield Program(str(http.base_url), http, 300, psutil.Process(started.pid))
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(30)
    text = Path(log.name).read_text()
    assert "Traceback" not in text
    assert '"level": "ERROR"' not in text


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module", autouse=True)
def memory(target, request) -> Iterator[None]:
    """The largest requests come first: what they take is no growth."""
    for body in LARGEST:
        assert target.http.post("/candidates", content=body).status_code in (200, 413, 422)
    before, sent = target.megabytes(), sum(target.requests().values())
    yield
    after, counted = target.megabytes(), target.requests()
    sent = sum(counted.values()) - sent
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\nfuzzing: {sent:,} requests, all by status: {counted}")
        print(f"memory of the service: {before:.0f} MB before, {after:.0f} MB after")
    assert not [status for status in counted if status >= "5"]
    if LONG:
        assert sent >= EXAMPLES
        assert after < (1 + MOST_GROWTH) * before
