# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A real Milvus server on this machine, for tests and measurements: :class:`LocalMilvus`.

The server's binary comes from the PyPI package ``milvus`` (extra ``[server]``), version 2.3.5. It
runs with a configuration of ours: every port free, its own data folder, ended with its parent
(:mod:`.supervisor`). A deployment uses a current Milvus by its address.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import types
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from paddlerec_milvus.errors import RetrievalError

START_SECONDS = 120.0
STOP_SECONDS = 15.0
COORDINATORS = ("rootCoord", "queryCoord", "dataCoord")
NODES = ("queryNode", "indexNode", "dataNode")
LOG_LINES_SHOWN = 8


def free_ports(count: int) -> list[int]:
    """Different free TCP ports of 127.0.0.1. Another program may still take one before its use."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def package_folder() -> Path:
    """The data folder of the package ``milvus``: compressed binaries and the template.

    Raises RetrievalError if the extra is missing or there is no wheel for this platform.
    """
    try:
        import milvus
    except ImportError:
        raise RetrievalError(
            "the local Milvus server needs the package 'milvus': "
            "pip install 'paddlerec-milvus[server]'. It has wheels for Linux x86-64 and macOS; "
            "elsewhere give the address of a running Milvus (milvus.uri or MILVUS_URI)"
        ) from None
    folder = Path(milvus.__file__).parent / "data"
    if not (folder / "bin" / "milvus.lzma").is_file():
        raise RetrievalError(
            f"{folder} holds no server: the installed package 'milvus' is another one or has no "
            "wheel for this platform. pip install 'paddlerec-milvus[server]', or give the address "
            "of a running Milvus (milvus.uri or MILVUS_URI)"
        )
    return folder


def unpacked_binaries(package: Path) -> Path:
    """The folder of unpacked binaries (246 MB, unpacked once for each user, some 7 s).

    Unpacked beside its place and renamed: a killed start leaves no half server, and two starts at
    once do not disturb each other.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddlerec-milvus"
    stamp = (package / "bin" / "milvus.lzma").stat()
    place = cache / f"milvus-2.3.5-{stamp.st_size:x}"
    if place.is_dir():
        return place
    try:
        cache.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix="unpacking-", dir=cache))
        try:
            for packed in (package / "bin").glob("*.lzma"):
                target = beside / packed.stem
                with lzma.open(packed) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                target.chmod(0o755)
            with contextlib.suppress(OSError):  # another start was quicker
                beside.rename(place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as problem:
        raise RetrievalError(
            f"cannot unpack the Milvus server (250 MB) into {cache}: {problem}. "
            "Free some space or set XDG_CACHE_HOME to another folder"
        ) from problem
    return place


def server_settings(
    template: str, data: Path, ports: Mapping[str, int], authorization: bool
) -> dict[str, Any]:
    """The package's template with our ports, folders and loopback addresses filled in.

    Raises KeyError if the template lacks a section (another version of the package).
    """
    filled = re.sub(r"\{\{[^}:]*(?::\s*([^}]*?)\s*)?\}\}", lambda hit: hit.group(1) or "", template)
    settings: dict[str, Any] = yaml.safe_load(filled)
    for name in ("proxy", *COORDINATORS, *NODES):
        settings[name].update(ip="127.0.0.1", port=ports[name])
    settings["proxy"]["internalPort"] = ports["proxy_internal"]
    settings["indexCoord"]["bindIndexNodeMode"]["address"] = f"127.0.0.1:{ports['indexNode']}"
    settings["etcd"].update(
        endpoints=f"127.0.0.1:{ports['etcd']}",
        data={"dir": str(data / "etcd.data")},
        config={"path": str(data.parent / "configs" / "etcd.yaml")},
    )
    settings["etcd"]["log"]["path"] = str(data.parent / "logs" / "etcd.log")
    settings["localStorage"]["path"] = str(data)
    settings["rocksmq"]["path"] = str(data / "rocksmq")
    settings["log"]["file"]["rootPath"] = str(data.parent / "logs")
    settings["log"]["level"] = "warn"
    settings["common"]["security"].update(authorizationEnabled=authorization, tlsMode=0)
    settings["common"]["gracefulStopTimeout"] = 5  # seconds
    return settings


def etcd_settings(data: Path, ports: Mapping[str, int]) -> dict[str, Any]:
    """Settings of the etcd inside the server: both of its ports on 127.0.0.1."""
    client = f"http://127.0.0.1:{ports['etcd']}"
    peer = f"http://127.0.0.1:{ports['etcd_peer']}"
    return {
        "name": "default",
        "data-dir": str(data / "etcd.data"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "log-level": "warn",
        "log-outputs": [str(data.parent / "logs" / "etcd.log")],
        "quota-backend-bytes": 4 << 30,
        "auto-compaction-mode": "revision",
        "auto-compaction-retention": "1000",
    }


class LocalMilvus:
    """A Milvus server of this machine, as a context manager; ``uri`` while it runs.

    ``data_dir`` keeps data and logs and is used again by a later start; without one a temporary
    folder is removed at the end. ``port`` 0 takes a free one. ``authorization`` demands a token
    (``root:Milvus`` at first). Raises RetrievalError if the extra is missing, the folder is in use
    or the server does not get healthy within ``start_seconds``.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        authorization: bool = False,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self.port = port
        self.authorization = authorization
        self.start_seconds = start_seconds
        self._given = data_dir.absolute() if data_dir is not None else None
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
        self.folder = self._given or Path(tempfile.mkdtemp(prefix="paddlerec-milvus-"))
        try:
            ports = self._choose_ports()
            self._write_settings(package, ports)
            self._launch(binaries, ports["metrics"])
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server (it writes what it holds, some seconds); remove a temporary folder."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()  # the server is tied to the supervisor and ends with it
                process.wait()
        if self._given is None and self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)

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
        remove = "" if self._given is not None else str(self.folder)
        command = [sys.executable, "-I", str(supervisor), str(os.getpid()), remove]
        command += [str(binaries / "milvus"), "run", "standalone"]
        with (self.folder / "logs" / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we end the server in order
            )

    def _wait_until_healthy(self) -> None:
        assert_process = self._process
        end = time.monotonic() + self.start_seconds
        while time.monotonic() < end:
            if assert_process is None or assert_process.poll() is not None:
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
            with urllib.request.urlopen(self._health, timeout=2) as answer:
                return b"OK" in answer.read()
        except (urllib.error.URLError, OSError):
            return False

    def _last_lines(self) -> str:
        try:
            lines = (self.folder / "logs" / "server.log").read_text("utf-8", "replace").splitlines()
        except OSError:
            return "  (no log)"
        return "\n".join(f"  {line[:300]}" for line in lines[-LOG_LINES_SHOWN:]) or "  (empty)"
