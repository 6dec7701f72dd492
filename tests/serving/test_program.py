# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``python -m paddlerec_milvus.serving`` (``make serve``): start, end and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from running_service import status_of_a_long_head, until
from support import ROOT

from paddlerec_milvus.retrieval.server_files import free_ports
from paddlerec_milvus.serving.server import GRACE_SECONDS, MORE_SECONDS

pytestmark = pytest.mark.slow

START_SECONDS = 90.0


class Program:
    """The program on a free port; its lines on stderr are in ``log``."""

    def __init__(self, environment: dict[str, str], log: Path, *arguments: str) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        command = [sys.executable, "-m", "paddlerec_milvus.serving"]
        with log.open("w") as sink:
            self.process = subprocess.Popen(
                [*command, *(arguments or ("--port", str(self.port)))],
                cwd=log.parent,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
                stderr=sink,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_until_ready(self) -> None:
        line = f"ready: {self.url}/\n"
        until(lambda: line in self.log or self.process.poll() is not None, START_SECONDS)
        assert line in self.log, self.log

    def status(self) -> int:
        """Of a GET of /healthz; 0: no answer."""
        try:
            return httpx.get(f"{self.url}/healthz").status_code
        except httpx.HTTPError:
            return 0

    def end(self, number: int, within: float = 30.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(within)


@contextlib.contextmanager
def started(environment: dict[str, str], log: Path, *arguments: str) -> Iterator[Program]:
    program = Program(environment, log, *arguments)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait()


def check_it_answers(program: Program) -> None:
    program.wait_until_ready()
    page = httpx.get(f"{program.url}/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    body = {"hist_item": [[3, 7]], "top_k": 5}
    found = httpx.post(f"{program.url}/candidates", json=body).json()
    assert found["source"] == ["model"]
    assert len(found["candidates"][0]) == 5
    assert httpx.get(f"{program.url}/count").json()["count"] == 300
    assert status_of_a_long_head(program.url) == 431


def test_it_inserts_says_when_it_answers_and_ends_in_order(environment, tmp_path):
    environment["MILVUS_URI"] = str(tmp_path / "milvus.db")
    with started(environment, tmp_path / "log") as program:
        check_it_answers(program)
        assert program.end(signal.SIGINT) == 0
    assert program.log.count("ready: ") == 1
    assert "Traceback" not in program.log
    with started(environment, tmp_path / "log") as again:  # with the vectors of the first
        check_it_answers(again)
        assert again.end(signal.SIGTERM) == -signal.SIGTERM
    assert "Traceback" not in again.log


@pytest.mark.server
def test_it_inserts_into_a_server(server, environment, tmp_path):
    environment["MILVUS_URI"] = server.uri
    environment["SERVING_OPTIONS"] += " milvus.collection=program"
    with started(environment, tmp_path / "log") as program:
        check_it_answers(program)
        assert httpx.post(f"{program.url}/delete", timeout=60).json() == {"deleted": 300}
        assert program.end(signal.SIGINT) == 0


def test_a_port_in_use(environment, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with started(environment, tmp_path / "log", "--port", port) as program:
            assert program.process.wait(START_SECONDS) == 2
    assert f"error: 127.0.0.1:{port}: Address already in use; give another" in program.log
    assert "Traceback" not in program.log


def test_a_port_that_another_takes_during_the_start(environment, tmp_path):
    environment["MILVUS_URI"] = str(tmp_path / "milvus.db")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = str(other.getsockname()[1])
        with started(environment, tmp_path / "log", "--port", port) as program:
            until(lambda: "starting; then the page is" in program.log, START_SECONDS)
            other.listen()
            assert program.process.wait(START_SECONDS) == 2
    assert "ddress already in use; give another --host or --port" in program.log
    assert "Traceback" not in program.log
    assert "ready: " not in program.log


FAULTY = """
from types import SimpleNamespace
from fastapi import FastAPI
from paddlerec_milvus.serving.__main__ import _run
from paddlerec_milvus.serving.observability import log_json_lines
from paddlerec_milvus.serving.server import AnsweringServer, listening_socket

async def lifespan(app):
    raise RuntimeError("broken")
    yield

log_json_lines()
app = FastAPI(lifespan=lifespan)
app.state.settings = SimpleNamespace(max_connections=9, receive_timeout=9.0)
app.state.metrics = SimpleNamespace(refused_connections=None)
_run(AnsweringServer(app, "http://shop.example/"), listening_socket("127.0.0.1", 0))
"""


def test_a_fault_of_the_code_has_another_exit_code_and_its_traceback_in_the_log():
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FAULTY], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 1
    *_, logged, last = ran.stderr.splitlines()
    assert last == "error: the service failed with RuntimeError: see the line above"
    assert "RuntimeError: broken" in json.loads(logged)["traceback"]


def test_a_port_that_is_none(environment, tmp_path):
    with started(environment, tmp_path / "log", "--port", "65536") as program:
        assert program.process.wait(START_SECONDS) == 2
    assert "'65536' is no port: 0 to 65535" in program.log


def refused(environment: dict[str, str], log: Path) -> str:
    """What it says in the end, with exit code 2 and without a traceback."""
    with started(environment, log) as program:
        assert program.process.wait(START_SECONDS) == 2, program.log
    assert "Traceback" not in program.log
    assert "ready: " not in program.log
    return program.log.splitlines()[-1]


def test_addresses_that_others_can_reach_need_keys(environment, tmp_path):
    with started(environment, tmp_path / "log", "--host", "0.0.0.0", "--port", "0") as program:
        assert program.process.wait(START_SECONDS) == 2
    assert "error: --host 0.0.0.0: others can reach this service, and it has no keys" in program.log
    assert "Traceback" not in program.log


def test_a_missing_checkpoint(environment, tmp_path):
    environment["SERVING_OPTIONS"] += f" runner.infer_load_path={tmp_path}"
    text = refused(environment, tmp_path / "log")
    assert text.startswith(f"error: {tmp_path}: holds no checkpoint; train one")


def test_a_damaged_checkpoint(environment, trained, tmp_path):
    shutil.copytree(trained.checkpoints, tmp_path / "out")
    damaged = tmp_path / "out" / "best" / "rec.pdparams"
    damaged.write_bytes(damaged.read_bytes()[:1_000])
    environment["SERVING_OPTIONS"] += f" runner.infer_load_path={tmp_path / 'out'}"
    environment["MILVUS_URI"] = str(tmp_path / "milvus.db")
    text = refused(environment, tmp_path / "log")
    assert text.startswith("error: ")
    assert str(damaged) in text


def test_an_insert_that_is_refused(environment, tmp_path):
    """The index finds too little: nothing serves, and the exit code says so."""
    environment["SERVING_OPTIONS"] += " index.type=IVF_FLAT index.nlist=128 index.nprobe=1"
    environment["SERVING_LEAST_RECALL"] = "1"
    environment["MILVUS_URI"] = str(tmp_path / "milvus.db")
    text = refused(environment, tmp_path / "log")
    assert "error: the new index finds 0." in text


@pytest.fixture
def silent(environment) -> Iterator[dict[str, str]]:
    """An environment in which Milvus takes connections and never answers; a build waits long."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        uri = f"http://127.0.0.1:{listening.getsockname()[1]}"
        options = environment["SERVING_OPTIONS"] + " milvus.timeout=120"
        yield {**environment, "MILVUS_URI": uri, "SERVING_OPTIONS": options}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_its_end_does_not_wait_for_a_build(silent, tmp_path, number):
    with started({**silent, "SERVING_TIMEOUT": "1"}, tmp_path / "log") as program:
        program.wait_until_ready()
        with httpx.Client(base_url=program.url, timeout=60) as http:
            building = threading.Thread(target=insert, args=(http,))
            building.start()
            time.sleep(1)
            began = time.monotonic()
            code = program.end(number)
            assert time.monotonic() - began < GRACE_SECONDS + MORE_SECONDS + 3
            building.join()
    assert code == 128 + number if number == signal.SIGINT else code in (-number, 128 + number)
    assert "Traceback" not in program.log


def insert(http: httpx.Client) -> None:
    with contextlib.suppress(httpx.HTTPError):
        http.post("/insert")


def test_a_signal_ends_the_start_at_once(silent, tmp_path):
    with started({**silent, "SERVING_TIMEOUT": "60"}, tmp_path / "log") as program:
        until(lambda: "starting; then the page is" in program.log, START_SECONDS)
        time.sleep(1)
        assert program.status() == 0
        assert program.end(signal.SIGINT, 5) == 128 + signal.SIGINT
    assert "Traceback" not in program.log
