# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Clients that search as users do: one process each, a user a request, latencies in a histogram.

A request is one user: one search call with all of their interests. Closed loop: a client asks again
as soon as it is answered. Open loop: requests start on a timetable whatever the answers do, and a
latency counts from the planned start, so that a stall is felt by all that wait behind it.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from paddlerec_milvus.bench.load_results import LatencySummary
from paddlerec_milvus.bench.measure_build import Target
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.indexes import Index
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

T = TypeVar("T")

LONGEST_MICROSECONDS = 600_000_000
DIGITS = 3  # of a latency that a histogram keeps
GIVE_UP = 3  # failures without a success between: the server is away
REQUEST_SECONDS = 30.0  # deadline of one
START_SECONDS = 0.05  # for the go to reach every client
LONGEST_SECONDS = 120.0
ROUNDING = 1e-9  # of a number of requests


@dataclass(frozen=True)
class Load:
    """What one client does. It ends after ``requests`` or ``seconds``, what comes first."""

    index: Index
    k: int
    requests: int = 0
    """0: as many as fit."""
    seconds: float = LONGEST_SECONDS
    users: int = 1
    """In one call."""
    rate: float = 0.0
    """Requests a second on a timetable; 0: closed loop."""
    first: int = 0
    """User that it starts with, so that clients do not all ask for the same."""


class LoadResult(NamedTuple):
    """What one or several clients saw."""

    requests: int
    """Answered."""
    failures: int
    """Of a timetable also those that a client which gave up did not make."""
    first_failure: str
    rate: float
    """Answered requests a second: of each client from the start to its last answer, summed."""
    histogram: bytes
    """Of all answered requests, in microseconds, as HdrHistogram encodes it."""

    def latency(self) -> LatencySummary:
        """Requests, failures and percentiles in milliseconds."""
        histogram = new_histogram()
        histogram.decode_and_add(self.histogram)

        def below(share: float) -> float:
            return float(histogram.get_value_at_percentile(share)) / 1000

        return LatencySummary(
            requests=self.requests,
            failures=self.failures,
            p50=below(50),
            p95=below(95),
            p99=below(99),
            p99_9=below(99.9),
            mean=float(histogram.get_mean_value()) / 1000,
            max=float(histogram.get_max_value()) / 1000,
            histogram=self.histogram.decode(),
        )


def new_histogram() -> Any:
    """An empty one: 1 µs to ten minutes, three digits."""
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError as error:
        raise RetrievalError(
            "latencies need hdrhistogram: pip install 'paddlerec-milvus[bench]'"
        ) from error
    return HdrHistogram(1, LONGEST_MICROSECONDS, DIGITS)


def calls_of(interests: FloatArray, load: Load) -> list[FloatArray]:
    """The queries [users * K, D] of each call, until all users of ``interests`` had a turn."""
    users, _, dimension = interests.shape
    turns = -(-users // load.users)
    places = (load.first + np.arange(turns * load.users)) % users
    return [interests[rows].reshape(-1, dimension) for rows in places.reshape(turns, load.users)]


def run_load(
    search: Callable[[T], object], calls: Sequence[T], load: Load, start: float | None = None
) -> LoadResult:
    """``search`` each of ``calls``, again and again, from ``start`` (of perf_counter; now) on."""
    histogram, clock = new_histogram(), time.perf_counter
    start = clock() if start is None else start
    end, last = start + load.seconds, start
    number = done = failures = in_a_row = 0
    first = ""
    time.sleep(max(0.0, start - clock()))
    while not load.requests or number < load.requests:
        begun = clock()
        if load.rate:
            planned = start + number / load.rate
            time.sleep(max(0.0, planned - begun))
            begun = planned
        if begun >= end:
            break
        try:
            search(calls[number % len(calls)])
        except RetrievalError as error:
            failures, in_a_row, first = failures + 1, in_a_row + 1, first or str(error)
            if in_a_row == GIVE_UP:
                failures += max(0, planned_requests(load) - number - 1)  # nobody makes them now
                break
        else:
            in_a_row, answered = 0, clock()
            histogram.record_value(int(1e6 * (answered - begun)))
            done, last = done + 1, answered
        number += 1
    rate = done / (last - start) if done else 0.0
    return LoadResult(done, failures, first, rate, histogram.encode())


def planned_requests(load: Load) -> int:
    """How many requests the timetable of ``load`` holds; none without one."""
    fit = math.ceil(load.rate * load.seconds - ROUNDING)
    return min(fit, load.requests or fit)


def starts(loads: Sequence[Load], first: float) -> list[float]:
    """When each client starts: at ``first``, timetables shifted evenly, so that there is no burst.

    With equal rates the requests of all clients together are then as far apart as one client's
    would be at the rate of all.
    """
    shares = [number / len(loads) for number in range(len(loads))]
    return [
        first + (share / load.rate if load.rate else 0.0)
        for share, load in zip(shares, loads, strict=True)
    ]


def joined(outcomes: Sequence[LoadResult]) -> LoadResult:
    """What they saw together."""
    histogram = new_histogram()
    for outcome in outcomes:
        histogram.decode_and_add(outcome.histogram)
    return LoadResult(
        sum(outcome.requests for outcome in outcomes),
        sum(outcome.failures for outcome in outcomes),
        next((outcome.first_failure for outcome in outcomes if outcome.first_failure), ""),
        sum(outcome.rate for outcome in outcomes),
        histogram.encode(),
    )


class ClientPool:
    """Processes that search, started once and used again; a context manager.

    ``interests`` is an npy file of [U, K, D] float32 that all of them read.
    """

    def __init__(self, count: int, interests: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Pipe] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, str(interests)), daemon=True)
            self._processes.append(process)
            self._pipes.append(here)

    def __enter__(self) -> ClientPool:
        threads = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # read when a process loads numpy
        try:
            for process in self._processes:
                process.start()
        finally:
            if threads is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = threads
        return self

    def __exit__(self, *problem: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(5)

    def open(self, target: Target) -> None:
        """Connect all of them to ``target``."""
        self._ask([("open", target)] * len(self._pipes))

    def run(self, loads: Sequence[Load], warm_up: int = 0) -> LoadResult:
        """One client for each of ``loads``: ``warm_up`` requests each, then all start together.

        Those with a timetable start one after another within its first step, see :func:`starts`.
        """
        if warm_up:
            first = [Load(load.index, load.k, warm_up, first=load.first) for load in loads]
            self._ask([("run", load, time.perf_counter()) for load in first])
        at = starts(loads, time.perf_counter() + START_SECONDS)
        return joined(self._ask([("run", *order) for order in zip(loads, at, strict=True)]))

    def _ask(self, orders: Sequence[tuple[Any, ...]]) -> list[Any]:
        used = self._pipes[: len(orders)]
        for pipe, order in zip(used, orders, strict=True):
            pipe.send(order)
        answers = []
        for pipe in used:
            try:
                answers.append(pipe.recv())
            except EOFError as error:
                raise RetrievalError("a client process of the benchmark was lost") from error
        for answer in answers:
            if isinstance(answer, str):
                raise RetrievalError(answer)
        return answers


def _serve(pipe: Pipe, interests: str) -> None:
    """A client process: an order, its answer, until the pipe closes. An error is a string."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    users: FloatArray = np.load(interests, mmap_mode="r")
    retriever: MilvusRetriever | None = None
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        try:
            if order[0] == "open":
                if retriever is not None:
                    retriever.close()
                target: Target = order[1]
                deadline = min(target.timeout, REQUEST_SECONDS)
                retriever = replace(target, timeout=deadline).connect()
                retriever.open()
                pipe.send(None)
            else:
                assert retriever is not None
                pipe.send(_searched(retriever, users, *order[1:]))
        except RetrievalError as error:
            pipe.send(str(error))
        except Exception:
            pipe.send(f"a client process of the benchmark failed:\n{traceback.format_exc()}")


def _searched(
    retriever: MilvusRetriever, users: FloatArray, load: Load, start: float
) -> LoadResult:
    calls = calls_of(users, load)
    return run_load(
        lambda queries: retriever.search_with(load.index, queries, load.k), calls, load, start
    )


class LoadRunner(Protocol):
    """Runs loads: processes, or for Milvus Lite this one."""

    def run(self, loads: Sequence[Load], warm_up: int = 0) -> LoadResult:
        """One client for each of ``loads``, started together."""
        ...


class InProcessClient:
    """The only client that Milvus Lite can have: this process."""

    def __init__(self, retriever: MilvusRetriever, interests: FloatArray) -> None:
        self._retriever, self._interests = retriever, interests

    def run(self, loads: Sequence[Load], warm_up: int = 0) -> LoadResult:
        """The one load."""
        (load,) = loads

        def search(queries: FloatArray) -> object:
            return self._retriever.search_with(load.index, queries, load.k)

        calls = calls_of(self._interests, load)
        if warm_up:
            run_load(search, calls, Load(load.index, load.k, warm_up))
        return run_load(search, calls, load)


@contextmanager
def clients_for(server: str, workload: Workload, count: int) -> Iterator[ClientPool | None]:
    """``count`` client processes with the interests of ``workload``; None for Milvus Lite."""
    if server == "lite":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="paddlerec-milvus-bench-") as folder:
        file = Path(folder) / "interests.npy"
        np.save(file, workload.interests)
        with ClientPool(count, file) as clients:
            yield clients


@contextmanager
def searching(
    target: Target, workload: Workload, clients: ClientPool | None
) -> Iterator[tuple[MilvusRetriever, LoadRunner]]:
    """A retriever on the items of ``workload`` that ``target`` holds, and who puts load on it."""
    with target.connect() as retriever:
        retriever.open(rows=len(workload.ids))
        if clients is None:
            yield retriever, InProcessClient(retriever, workload.interests)
        else:
            clients.open(target)
            yield retriever, clients
