# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A real Milvus server on this machine, for tests and measurements: :class:`LocalMilvus`.

The server's binary comes from the PyPI package ``milvus`` (extra ``[server]``), version 2.3.5. It
runs with a configuration of ours: every port free, its own data folder, ended with its parent
(:mod:`.supervisor`). A deployment uses a current Milvus by its address.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.server_files import (
    COORDINATORS,
    NODES,
    etcd_settings,
    free_ports,
    package_folder,
    server_settings,
    unpacked_binaries,
)
from paddlerec_milvus.subcommands import CommandParser, as_typed

EXAMPLES = """\
examples:
  python -m paddlerec_milvus.retrieval.server
  python -m paddlerec_milvus.retrieval.server --data milvus_data --port 0

then, in another terminal: export MILVUS_URI=http://127.0.0.1:PORT and run tools/infer.py as usual.
Needs: pip install 'paddlerec-milvus[server]'
"""

START_SECONDS = 120.0
STOP_SECONDS = 15.0
LOG_LINES_SHOWN = 8
RESTARTS = 1  # of the server that a user has started


class LocalMilvus:
    """A Milvus server of this machine, as a context manager; ``uri`` while it runs.

    ``data_dir`` keeps data and logs and is used again by a later start; without one a temporary
    folder is removed at the end. ``port`` 0 takes a free one. ``authorization`` demands a token
    (``root:Milvus`` at first). ``restarts``: so often it is started again on its data where it ends
    by itself, and a line on stderr says so. ``settings`` are others of milvus.yaml, by keys such as
    ``dataCoord.gc.interval``. Raises RetrievalError if the extra is missing, the
    folder is in use or the server does not get healthy within ``start_seconds``.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        authorization: bool = False,
        start_seconds: float = START_SECONDS,
        restarts: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.port = port
        self.authorization = authorization
        self.start_seconds = start_seconds
        self.restarts = restarts
        self._settings = settings or {}
        self._data_dir = data_dir.absolute() if data_dir is not None else None
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._health = ""

    @property
    def uri(self) -> str:
        """The address for ``MilvusClient`` and for ``MILVUS_URI``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def process_id(self) -> int | None:
        """The supervisor's process id while the server runs, else None."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> LocalMilvus:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it is healthy."""
        package = package_folder()
        binaries = unpacked_binaries(package)
        self.folder = self._data_dir or Path(tempfile.mkdtemp(prefix="paddlerec-milvus-"))
        try:
            ports = self._choose_ports()
            self._write_settings(package, ports)
            self._launch(binaries, ports["metrics"])
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def stop(self, *, kill: bool = False) -> None:
        """End the server and remove a temporary folder.

        It writes what it holds, which takes some seconds; ``kill`` loses that and takes none.
        """
        process, self._process = self._process, None
        if process is not None:
            (process.kill if kill else process.terminate)()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()  # the server is tied to the supervisor and ends with it
                process.wait()
        if self._data_dir is None and self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self) -> None:
        """Wait until the server ends by itself; raises RetrievalError then, for it should not."""
        if self._process is not None:
            status = self._process.wait()
            raise RetrievalError(
                f"the Milvus server ended with status {status}; its last lines "
                f"({self.folder}/logs/server.log):\n{self._last_lines()}"
            )

    def _choose_ports(self) -> dict[str, int]:
        names = ("proxy", "proxy_internal", "etcd", "etcd_peer", "metrics", *COORDINATORS, *NODES)
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        if self.port:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", self.port))
                except OSError as problem:
                    raise RetrievalError(
                        f"port {self.port} cannot be used for Milvus: {problem}. "
                        "Take another one, or --port 0 for a free one"
                    ) from problem
            ports["proxy"] = self.port
        self.port = ports["proxy"]
        self._health = f"http://127.0.0.1:{ports['metrics']}/healthz"
        return ports

    def _write_settings(self, package: Path, ports: Mapping[str, int]) -> None:
        data = self.folder / "data"
        try:
            for folder in (data, self.folder / "configs", self.folder / "logs"):
                folder.mkdir(parents=True, exist_ok=True)
            template = (package / "config.yaml.template").read_text(encoding="utf-8")
            settings = server_settings(template, data, ports, self.authorization)
            for key, value in self._settings.items():
                *sections, name = key.split(".")
                reduce(getitem, sections, settings)[name] = value
            for name, content in (
                ("milvus.yaml", settings),
                ("etcd.yaml", etcd_settings(data, ports)),
            ):
                (self.folder / "configs" / name).write_text(yaml.safe_dump(content), "utf-8")
            shutil.copy(package / "glog.conf", self.folder / "configs" / "glog.conf")
        except OSError as problem:
            raise RetrievalError(
                f"cannot use {self.folder} for Milvus' data: {problem}. Give another folder"
            ) from problem

    def _launch(self, binaries: Path, metrics_port: int) -> None:
        environment = dict(os.environ)
        environment.update(
            DEPLOY_MODE="STANDALONE",
            METRICS_PORT=str(metrics_port),
            MILVUSCONF=str(self.folder / "configs"),
            MILVUS_RUN_DIR=str(self.folder / "run"),
        )
        for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
            before = environment.get(name)
            environment[name] = f"{binaries}:{before}" if before else str(binaries)
        supervisor = Path(__file__).with_name("supervisor.py")
        remove = "" if self._data_dir is not None else str(self.folder)
        command = [sys.executable, "-I", str(supervisor), str(os.getpid())]
        command += [remove, str(self.restarts)]
        command += [str(binaries / "milvus"), "run", "standalone"]
        with (self.folder / "logs" / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=2,  # what our user should know, on our stderr
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we end the server in order
            )

    def _wait_until_healthy(self) -> None:
        process = self._process
        end = time.monotonic() + self.start_seconds
        while time.monotonic() < end:
            if process is None or process.poll() is not None:
                raise RetrievalError(
                    f"the Milvus server in {self.folder} ended at its start; its last lines "
                    f"(logs/server.log):\n{self._last_lines()}\nAnother server on the same folder, "
                    "a full disk or a folder of another version would do that"
                )
            if self._healthy():
                return
            time.sleep(0.1)
        raise RetrievalError(
            f"the Milvus server in {self.folder} was not healthy within {self.start_seconds:g} s; "
            f"its last lines (logs/server.log):\n{self._last_lines()}"
        )

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(self._health, timeout=2) as answer:  # nosec B310 # our own
                return b"OK" in answer.read()
        except (urllib.error.URLError, OSError):
            return False

    def _last_lines(self) -> str:
        try:
            lines = (self.folder / "logs" / "server.log").read_text("utf-8", "replace").splitlines()
        except OSError:
            return "  (no log)"
        return "\n".join(f"  {line[:300]}" for line in lines[-LOG_LINES_SHOWN:]) or "  (empty)"


def arguments() -> argparse.ArgumentParser:
    """The parser of ``python -m paddlerec_milvus.retrieval.server``."""
    parser = CommandParser(
        prog="python -m paddlerec_milvus.retrieval.server",
        description="Run a Milvus 2.3.5 server on this machine, reachable from it alone, until "
        "Ctrl-C. For tests and measurements; a deployment uses a current Milvus by its address.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        help="keep data and logs here and use them again at the next start "
        "(default: a temporary folder, removed at the end)",
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=int,
        default=19530,
        help="port for clients; 0 takes a free one (default: %(default)s, Milvus' own)",
    )
    parser.add_argument(
        "--auth",
        action="store_true",
        help="demand a token; the first one is root:Milvus (export MILVUS_TOKEN=root:Milvus)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a server in the foreground until Ctrl-C or SIGTERM; 2 if it cannot be started."""
    options = arguments().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = LocalMilvus(
        options.data, port=options.port, authorization=options.auth, restarts=RESTARTS
    )
    try:
        print("starting Milvus …", file=sys.stderr, flush=True)
        with server:
            print(f"Milvus is running at {server.uri} (data: {server.folder}). Use it with")
            print(f"  export MILVUS_URI={server.uri}")
            if options.auth:
                print("  export MILVUS_TOKEN=root:Milvus")
            print("Ctrl-C ends it.", flush=True)
            server.wait()
    except KeyboardInterrupt:
        print("Milvus has ended.", file=sys.stderr)
    except RetrievalError as problem:
        print(f"error: {as_typed(str(problem))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
