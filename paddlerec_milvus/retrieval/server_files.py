# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a local Milvus server needs before it starts: binaries, ports and a configuration."""

from __future__ import annotations

import contextlib
import lzma
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from paddlerec_milvus.errors import RetrievalError

COORDINATORS = ("rootCoord", "queryCoord", "dataCoord")
NODES = ("queryNode", "indexNode", "dataNode")
# A server with a loaded collection does not finish its orderly stop in any time; it loses nothing
# by less, for writes are logged.
STOP_SECONDS = 3
# Stopped so, it stays registered in its folder for a while, and an early next start there waits:
# up to half a minute (a whole one with the default, 30). With much less, a machine that stalls
# for a moment would end the server.
SESSION_SECONDS = 10


def free_ports(count: int) -> list[int]:
    """Different free TCP ports of 127.0.0.1. Another program may still take one before its use."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [int(free.getsockname()[1]) for free in sockets]


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
    # an insert makes one segment up to dataCoord.segment.maxSize, 512 MB, instead of one for each
    # 23 % of that: nothing has to be joined, for which this version disturbs other collections
    settings["dataCoord"]["segment"]["sealProportion"] = 1.0
    settings["common"]["security"].update(authorizationEnabled=authorization, tlsMode=0)
    settings["common"]["session"].update(ttl=SESSION_SECONDS)
    settings["common"]["gracefulStopTimeout"] = STOP_SECONDS
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
