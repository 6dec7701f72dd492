# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Who asks the service and who searches with pymilvus: processes with a connection of each.

The same process does both, by turns, so that both are measured by the same Python at the same cost.
Run as a program it is one of them: ``service_callers.py FILE_DESCRIPTOR``.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection as End
from typing import Any, Protocol

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from paddlerec_milvus.bench.client_pool import START_SECONDS, Load, LoadResult, joined, run_load
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.base import FloatArray

HOST = "127.0.0.1"
REQUEST_LIMIT = 30.0  # seconds
IDLE = 2.0  # after which a connection is not used again: uvicorn closes it after five
LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)


class Call(Protocol):
    """A connection that makes one request after the other."""

    def __call__(self, request: Any) -> Any:
        """The answer; RetrievalError: there is none."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Way(Protocol):
    """How requests are made."""

    def connect(self) -> tuple[Call, Sequence[Any]]:
        """A connection, and the requests to make."""
        ...


class Wire:
    """One kept HTTP/1.1 connection that costs its process little; a call sends a whole request.

    Raises RetrievalError for any answer but 200, and for one that is not the model's.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._used = 0.0
        self.head = b""

    def __call__(self, request: bytes) -> bytes:
        """The body; ``head`` keeps the answer's first lines."""
        try:
            body = self._exchanged(request)
        except (OSError, ValueError) as problem:
            self.close()
            raise RetrievalError(f"the service at port {self._port}: {problem}") from problem
        if not self.head.startswith(b"HTTP/1.1 200 ") or b'"fallback"' in body:
            status = self.head.partition(b"\r\n")[0].decode("latin-1")
            raise RetrievalError(f"{status}: {body[:300].decode('utf-8', 'replace')}")
        return body

    def _exchanged(self, request: bytes) -> bytes:
        now = time.perf_counter()
        if self._socket is None or now - self._used > IDLE:
            self.close()
            self._socket = socket.create_connection((HOST, self._port), REQUEST_LIMIT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._used = now
        self._socket.sendall(request)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        self.head, length = received[:end], LENGTH.search(received, 0, end)
        if length is None:
            raise ValueError("an answer without Content-Length")
        whole = end + 4 + int(length[1])
        while len(received) < whole:
            received += self._more()
        return received[end + 4 :]

    def _more(self) -> bytes:
        assert self._socket is not None
        if not (part := self._socket.recv(1 << 18)):
            raise ConnectionError("the connection was closed")
        return part

    def close(self) -> None:
        """Close it; the next call opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def post(path: str, body: bytes) -> bytes:
    """A whole HTTP request with a JSON ``body``."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass(frozen=True, eq=False)
class ByService:
    """Whole HTTP ``requests`` to the service."""

    port: int
    requests: Sequence[bytes]

    def connect(self) -> tuple[Wire, Sequence[bytes]]:
        """A connection of its own, and the requests."""
        return Wire(self.port), self.requests


@dataclass(frozen=True, eq=False)
class ByPymilvus:
    """Searches of ``queries``, each [n, D], with pymilvus and nothing else."""

    uri: str
    token: str
    collection: str
    options: Mapping[str, Any]
    """Of ``MilvusClient.search``."""
    queries: Sequence[FloatArray]

    def connect(self) -> tuple[Search, Sequence[FloatArray]]:
        """A client of its own, and the queries."""
        client = MilvusClient(self.uri, token=self.token, dedicated=True)
        return Search(client, self.collection, self.options), self.queries


class Search:
    """Searches one collection; the hits' ids and scores are read, as lists."""

    def __init__(self, client: MilvusClient, collection: str, options: Mapping[str, Any]) -> None:
        self._client, self._collection, self._options = client, collection, dict(options)

    def __call__(self, request: FloatArray) -> list[tuple[list[int], list[float]]]:
        """Ids and scores of each of the queries ``request`` [n, D]."""
        try:
            results = self._client.search(
                self._collection, list(request), timeout=REQUEST_LIMIT, **self._options
            )
        except MilvusException as problem:
            raise RetrievalError(str(problem)) from problem
        return [(hits.ids, hits.distances) for hits in results]

    def close(self) -> None:
        """Close the client."""
        self._client.close()


class Callers:
    """``count`` processes with a connection by each of ``ways``; a context manager."""

    def __init__(self, count: int, ways: Mapping[str, Way]) -> None:
        self._count, self._ways = count, dict(ways)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ends: list[End] = []

    def __enter__(self) -> Callers:
        try:
            for _ in range(self._count):
                self._start()
            self._ask([("connect", self._ways)] * self._count)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        here, there = Pipe()
        number = there.fileno()
        self._ends.append(here)
        self._processes.append(
            subprocess.Popen(
                [sys.executable, __file__, str(number)],
                pass_fds=[number],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        )
        there.close()

    def __exit__(self, *problem: object) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()

    def run(self, way: str, loads: Sequence[Load]) -> LoadResult:
        """A process for each of ``loads``, started together; timetables are shifted, no bursts."""
        start = time.perf_counter() + START_SECONDS
        orders = []
        for number, load in enumerate(loads):
            shift = number / (len(loads) * load.rate) if load.rate else 0.0
            orders.append(("run", way, load, start + shift))
        return joined(self._ask(orders))

    def _ask(self, orders: Sequence[tuple[Any, ...]]) -> list[Any]:
        used = self._ends[: len(orders)]
        try:
            for end, order in zip(used, orders, strict=True):
                end.send(order)
            answers = [end.recv() for end in used]
        except (EOFError, OSError) as error:
            raise RetrievalError("a caller process of the benchmark was lost") from error
        for answer in answers:
            if isinstance(answer, str):
                raise RetrievalError(answer)
        return answers


def rotated(requests: Sequence[Any], first: int) -> list[Any]:
    """``requests`` from the place ``first`` on, round to the one before."""
    place = first % len(requests)
    return [*requests[place:], *requests[:place]]


def serve(end: End) -> None:
    """Take an order, give its answer, until the pipe closes. An error is a string."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    connected: dict[str, tuple[Call, Sequence[Any]]] = {}
    while True:
        try:
            order = end.recv()
        except EOFError:
            return
        try:
            if order[0] == "connect":
                connected = {name: way.connect() for name, way in order[1].items()}
                end.send(None)
            else:
                _, way, load, start = order
                call, requests = connected[way]
                end.send(run_load(call, rotated(requests, load.first), load, start))
        except Exception:
            end.send(f"a caller process of the benchmark failed:\n{traceback.format_exc()}")


if __name__ == "__main__":
    serve(End(int(sys.argv[1])))
