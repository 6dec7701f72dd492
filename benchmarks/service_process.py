# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The candidate service under uvicorn in a process of its own, to be measured from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.memory_estimate import MIB
from paddlerec_milvus.retrieval.server_files import free_ports

SERVING = Path(__file__).resolve().parent.parent / "serving"
HOST = "127.0.0.1"
START_LIMIT = 120.0  # seconds for each worker: a large checkpoint is read
STOP_LIMIT = 30.0
LOG_LINES_SHOWN = 8


class ServiceProcess:
    """``uvicorn main:app`` with ``workers``, as a context manager; its log goes to ``log``.

    ``environment`` holds its variables SERVING_… and MILVUS_…. Raises RetrievalError with the end
    of the log when it does not start. ``program`` is run in uvicorn's place, and all of it by
    ``prefix``, where there is one; ``python`` is that of an environment with this package.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        workers: int = 1,
        *,
        program: Sequence[str] = ("-m", "uvicorn"),
        prefix: Sequence[str] = (),
        python: str = sys.executable,
    ) -> None:
        self.program = program
        self._command = [*prefix, python]
        self.port = free_ports(1)[0]
        self._environment = {"OMP_NUM_THREADS": "1", **os.environ, **environment}
        self._log, self._workers = log, workers
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> ServiceProcess:
        self.start()
        return self

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [*self._command, *self.program]
        command += ["--app-dir", str(SERVING), "--host", HOST]
        command += ["--port", str(self.port), "--loop", "uvloop", "--http", "httptools"]
        command += [*(("--workers", str(self._workers)) if self._workers > 1 else ()), "main:app"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            self.wait_for("/healthz", START_LIMIT * self._workers)
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *problem: object) -> None:
        self.stop()

    def kill(self) -> None:
        """Let it end by ``kill -9``."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        """End it in order."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait_for(self, path: str, seconds: float) -> None:
        """Wait until ``path`` answers 200."""
        end, last = time.monotonic() + seconds, "no answer"
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                raise RetrievalError(f"the service has ended:\n{self._last_lines()}")
            try:
                with urllib.request.urlopen(self.url + path, timeout=5):  # nosec B310 # our own
                    return
            except urllib.error.HTTPError as answer:
                last = f"{answer.code} {answer.read().decode()}"
            except OSError as problem:
                last = str(problem)
            time.sleep(0.1)
        raise RetrievalError(f"{self.url}{path}: {last}, after {seconds:g} s")

    def rss_mib(self) -> float:
        """Resident memory of the service, in MiB."""
        return float(self._seen().memory_info().rss) / MIB

    def private_mib(self) -> float:
        """The part of it that are no pages of files, in MiB."""
        seen = self._seen().memory_info()
        return float(seen.rss - seen.shared) / MIB

    def cpu_seconds(self) -> float:
        """Of all its threads, since it started."""
        used = self._seen().cpu_times()
        return float(used.user + used.system)

    def workers(self) -> list[psutil.Process]:
        """The processes that answer, where there are several; uvicorn starts a lost one again."""
        children = self._seen().children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def _seen(self) -> psutil.Process:
        if self._process is None:
            raise RetrievalError("the service does not run")
        return psutil.Process(self._process.pid)

    def _last_lines(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return "\n".join(f"  {line[:300]}" for line in lines[-LOG_LINES_SHOWN:])
