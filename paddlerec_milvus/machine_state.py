# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What else a machine did while a setting was measured: other programs' load, steal, its clock.

Load is processor time: all that the machine spent, less that of this process, of the processes that
it started (clients, a server of its own) and of the Milvus that is measured.
"""

from __future__ import annotations

import os
import socket
import time
from collections import defaultdict
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil
from pydantic import BaseModel, ConfigDict

PIECE, PIECES = bytes(2**18), 100  # the fixed work is to hash the first; the shortest time counts
PROXY = "docker-proxy"  # listens in the place of a server in a container
SERVERS = ("milvus", "etcd", "minio", PROXY)  # programs of a Milvus


class MachineState(BaseModel):
    """The machine from before a measurement until after it; shares are of all its cores' time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cores: int
    seconds: float
    foreign: float | None = None
    """Share that other programs used; None: it cannot be told from that of the server."""
    busiest: str | None = None
    """The name of the program with most of that, all its processes counted."""
    steal: float | None = None
    """Share that the host of a virtual machine took away; None: it cannot be seen."""
    pace_before_ms: float
    """Of a small fixed piece of work, the shortest of some: it grows when the clock falls."""
    pace_after_ms: float

    @property
    def load(self) -> float:
        """Share of the machine that the measurement could not have, as far as it is known."""
        return (self.foreign or 0.0) + (self.steal or 0.0)


class Program(NamedTuple):
    """A process and the seconds of processor time that it has used since its start."""

    parent: int
    name: str
    seconds: float


class CpuSnapshot(NamedTuple):
    """Seconds of processor time at a moment ``at``, since the machine's start."""

    at: float
    busy: float
    """Of all programs, interrupts left out."""
    steal: float | None
    programs: Mapping[tuple[int, float], Program]
    """By process id and time of its start."""


def snapshot() -> CpuSnapshot:
    """The machine's counters and those of all processes that can be seen."""
    programs = {}
    for process in psutil.process_iter(["ppid", "name", "cpu_times", "create_time"]):
        info = process.info
        if info["cpu_times"] is not None:
            seconds = info["cpu_times"].user + info["cpu_times"].system
            program = Program(info["ppid"] or 0, info["name"] or "", seconds)
            programs[process.pid, info["create_time"] or 0.0] = program
    times = psutil.cpu_times()
    busy = times.user + times.system + getattr(times, "nice", 0.0)
    return CpuSnapshot(time.perf_counter(), busy, getattr(times, "steal", None), programs)


def tree_of(roots: set[int], programs: Mapping[tuple[int, float], Program]) -> set[int]:
    """The processes ``roots`` and all that they started, by id."""
    tree, size = set(roots), 0
    while len(tree) > size:
        size = len(tree)
        tree |= {pid for (pid, _), program in programs.items() if program.parent in tree}
    return tree


def server_processes(uri: str, programs: Mapping[tuple[int, float], Program]) -> set[int] | None:
    """The processes of the Milvus at ``uri``, where it is a server on this machine.

    Empty for a file or another machine; None where it runs here and cannot be seen, as in a
    virtual machine of its own.
    """
    address = urlsplit(uri)
    here = ("localhost", "::1", socket.gethostname())
    host = address.hostname or ""
    if not address.scheme or not (host in here or host.startswith("127.")):
        return set()
    try:
        sockets = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        sockets = []
    listeners = {
        place.pid
        for place in sockets
        if place.status == psutil.CONN_LISTEN and place.laddr[1:] == (address.port,)
    }
    direct = {p for (p, _), part in programs.items() if p in listeners and part.name != PROXY}
    return direct or {p for (p, _), part in programs.items() if part.name in SERVERS} or None


def state_between(
    before: CpuSnapshot,
    after: CpuSnapshot,
    own: set[int] | None,
    pace_ms: tuple[float, float],
    cores: int,
) -> MachineState:
    """The state from ``before`` to ``after``; ``own`` processes, by id, are no foreign load.

    ``own`` None: they are not known, and so neither is what is foreign.
    """
    seconds = after.at - before.at
    whole = seconds * cores
    spent = {
        key: program.seconds - (before.programs[key].seconds if key in before.programs else 0.0)
        for key, program in after.programs.items()
    }
    foreign = busiest = None
    if own is not None:
        ours = sum(used for (pid, _), used in spent.items() if pid in own)
        foreign = min(1.0, max(0.0, after.busy - before.busy - ours) / whole)
        others = defaultdict[str, float](float)
        for key, used in spent.items():
            if key[0] not in own:
                others[after.programs[key].name] += used
        busiest = max(others, key=others.__getitem__) if any(others.values()) else None
    steal = None
    if before.steal is not None and after.steal is not None:
        steal = min(1.0, max(0.0, after.steal - before.steal) / whole)
    return MachineState(
        cores=cores,
        seconds=seconds,
        foreign=foreign,
        busiest=busiest,
        steal=steal,
        pace_before_ms=pace_ms[0],
        pace_after_ms=pace_ms[1],
    )


def pace() -> float:
    """Milliseconds of the fixed piece of work now; other programs hardly change the shortest."""
    shortest = float("inf")
    for _ in range(PIECES):
        began = time.perf_counter()
        sha256(PIECE).digest()
        shortest = min(shortest, time.perf_counter() - began)
    return 1000 * shortest


class MachineRecorder:
    """Records from now on what a machine does beside the Milvus at ``uri`` and its clients."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._pace = pace()
        self._before = snapshot()

    def state(self) -> MachineState:
        """The state of the machine since then."""
        after = snapshot()
        server = server_processes(self._uri, after.programs)
        own = None if server is None else tree_of({os.getpid(), *server}, after.programs)
        cores = psutil.cpu_count() or 1
        return state_between(self._before, after, own, (self._pace, pace()), cores)
