# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``uvicorn main:app`` as a process that can be killed, and the model's folder that it serves.

The process is forked from one that has loaded paddle and pymilvus already: it starts in a second.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fault_table.served_folder import ServedFolder
from running_service import until
from support import ROOT
from tqdm import tqdm

from paddlerec_milvus.retrieval.server_files import free_ports

SERVING = str(ROOT / "serving")
HISTORIES = [[3, 7], [12, 40, 41], [5], [100, 101, 102, 9], [250, 17]]
TOP_K = 20
START_SECONDS = 180.0
INSERT_SECONDS = 300.0  # ten services that insert at once beside other tests are slow

logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each look is too much

forks = multiprocessing.get_context("forkserver")
# modules that are installed: Python 3.11 looks for no others; what a fork finds it need not import
forks.set_forkserver_preload(
    ["paddlerec_milvus.encoder", "paddlerec_milvus.serving.app", "pymilvus"]
)


class Folder(ServedFolder):
    """That of the small trained MIND, and its lists of HISTORIES."""

    def __init__(self, trained: Any, place: Path) -> None:
        super().__init__(
            place, trained.checkpoints, trained.data, ["hyper_parameters.neg_samples=128"]
        )

    def environment(
        self, uri: str, collection: str = "faults", timeout: float = 1.0
    ) -> dict[str, str]:
        return super().environment(uri, collection, timeout)

    def lists(self, epoch: int) -> list[list[int]]:
        return self.expected(epoch, HISTORIES, TOP_K).lists


class ForkedService:
    """A service with ``environment``; a context manager that ends it in order."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._environment = environment
        self._process: multiprocessing.process.BaseProcess | None = None
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def __enter__(self) -> ForkedService:
        self.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.http.close()
        process = self._process
        if process is not None and process.is_alive():
            process.terminate()
            process.join(30)
            assert not process.is_alive()

    def start(self, ready: bool = False) -> None:
        """Start it and wait until it answers, or until it is ready to answer with the model."""
        self._fork().start()
        until(lambda: self.status("/readyz" if ready else "/healthz") == 200, START_SECONDS)

    def run_to_its_end(self) -> int | None:
        """Start it and wait until it ends by itself; returns its exit code."""
        process = self._fork()
        process.start()
        process.join(START_SECONDS)
        return process.exitcode

    def _fork(self) -> multiprocessing.process.BaseProcess:
        arguments = (self._environment, self.port, str(self.log))
        self._process = forks.Process(target=_serve, args=arguments)
        return self._process

    def kill(self) -> None:
        """``kill -9``."""
        assert self._process is not None
        self._process.kill()
        self._process.join()

    @property
    def process_id(self) -> int:
        """Its number."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def status(self, path: str) -> int:
        """Of a GET; 0: no answer."""
        try:
            return self.http.get(path).status_code
        except httpx.HTTPError:
            assert self._process is not None
            assert self._process.is_alive(), self.log.read_text()[-2000:]
            return 0

    def insert(self) -> dict[str, Any]:
        """Of what is in the folder now; it must succeed."""
        try:
            answer = self.http.post("/insert", timeout=INSERT_SECONDS)
        except httpx.HTTPError as error:
            raise AssertionError(f"{error!r}: {self.log.read_text()[-4000:]}") from error
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def lists(self) -> list[list[int]]:
        """Of HISTORIES, all by a model."""
        body = {"hist_item": HISTORIES, "top_k": TOP_K}
        answer = self.http.post("/candidates", json=body).json()
        assert set(answer["source"]) == {"model"}, answer
        found: list[list[int]] = answer["candidates"]
        return found

    def seconds_until(self, path: str, status: int, within: float) -> float:
        """How long it takes until ``path`` answers with ``status``."""
        began = time.monotonic()
        until(lambda: self.status(path) == status, within)
        return time.monotonic() - began


def _serve(environment: dict[str, str], port: int, log: str) -> None:
    """In the new process: what ``uvicorn --app-dir serving --port … main:app`` does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(log, "ab") as sink:  # noqa: PTH123
        for descriptor in (1, 2):
            os.dup2(sink.fileno(), descriptor)
    tqdm.set_lock(threading.RLock())  # its own is one of the system's, which a killed process leaks
    os.environ.pop("MILVUS_TOKEN", None)
    os.environ.update(environment)
    uvicorn.main(["--app-dir", SERVING, "--port", str(port), "main:app"])
