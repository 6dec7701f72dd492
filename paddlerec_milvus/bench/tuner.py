# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The cheapest index setting that meets a target, found with few measurements.

What an index finds grows with ``ef`` or ``nprobe``, so the smallest value that meets the target is
found by halving a ladder of values; only what it ends at is timed.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.bench.clients import Load
from paddlerec_milvus.bench.loads import Loads
from paddlerec_milvus.bench.memory import estimate_mib
from paddlerec_milvus.bench.quality import Exact, exact_of, found_by_user
from paddlerec_milvus.bench.report import words
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.statistics import spread, standard_error
from paddlerec_milvus.retrieval.base import FloatArray, Neighbours
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw, Index, Ivf, IvfFlat, most_cells
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

USERS = 1_000  # that the target is checked on
Z = 2.0  # standard errors of a difference of two such groups of users that the target is passed by
STEP = 1.15  # of the ladder of values
LARGEST_EF = 4_096
WINDOWS = 3  # that a setting is timed in
SMALL = 50_000  # items; up to here FLAT is worth a try


@dataclass(frozen=True)
class Goal:
    """The target: what a setting has to keep; at least one of the first two."""

    index_recall: float | None = None
    """At least this share of the exact list of a user, in the mean."""
    loss: float | None = None
    """At most this share of recall@k lost against exact search, in the mean (0.001: a tenth of a
    per cent)."""
    p99_ms: float | None = None
    """At most this, of one client."""

    def __post_init__(self) -> None:
        if self.index_recall is None and self.loss is None:
            raise SettingsError("give a target: --recall (of the index) or --loss (of relevance)")
        for name, value in (("--recall", self.index_recall), ("--loss", self.loss)):
            if value is not None and not 0 < value < 1:
                raise SettingsError(f"{name} {value}: expected a share above 0 and below 1")
        if self.p99_ms is not None and self.p99_ms <= 0:
            raise SettingsError(f"--p99-ms {self.p99_ms}: expected milliseconds above 0")


@dataclass(frozen=True)
class Margin:
    """By how much a setting passes a target, over users."""

    mean: float
    se: float

    @property
    def passed(self) -> bool:
        """Whether it will on other users, too, in all likelihood."""
        return self.mean >= Z * math.sqrt(2) * self.se

    @property
    def sure(self) -> float:
        """How likely the target holds on as many other users, 0 to 1."""
        if not self.se or math.isnan(self.se):
            return 1.0 if self.mean >= 0 else 0.0
        return 0.5 * math.erfc(-self.mean / (self.se * 2))


@dataclass
class Setting:
    """An index setting that meets the target on the users it was tried on."""

    index: Index
    sure: float
    quality: dict[str, float]
    users_per_second: float = 0.0
    clients: int = 0
    p99_ms: float = 0.0
    seconds: float = 0.0
    """What finding it cost, its build included."""
    estimate_mib: float = 0.0
    rss_mib: float | None = None


@dataclass
class Advice:
    """What to use, and what else was tried."""

    best: Setting | None
    settings: list[Setting] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Why an index is not among them."""


class Searching(Protocol):
    """What a retriever does for the tuner."""

    def search_with(self, index: Index, queries: FloatArray, k: int) -> Neighbours:
        """The ``k`` nearest items of each of ``queries`` [n, D] by the parameters of ``index``."""
        ...


class Served(NamedTuple):
    """An index that was built and can be searched."""

    retriever: MilvusRetriever
    loads: Loads
    rss_mib: Callable[[], float | None]
    """Resident memory of the server now, None where it cannot be seen."""


@dataclass(frozen=True)
class Tuner:
    """Searches for settings on some users of ``workload``.

    ``serve`` builds an index for the time of a ``with``.
    """

    workload: Workload
    k: int
    goal: Goal
    serve: Callable[[Index], AbstractContextManager[Served]]
    clients: Sequence[int] = (1, 4)
    seconds: float = 2.0

    def advise(self, candidates: Sequence[Index] = ()) -> Advice:
        """The setting with the highest throughput among those that meet the target."""
        some = self.workload.take(spread(len(self.workload.interests), USERS))
        exact = exact_of(some, self.k)
        advice = Advice(None)
        for index in candidates or candidates_for(len(self.workload.ids)):
            began = time.perf_counter()
            with self.serve(index) as served:
                found = self.smallest(some, exact, served.retriever, index)
                if found is None:
                    advice.failed.append(f"{index.type_name}: no setting meets the target")
                    continue
                self.timed(found, served.loads)
                found.rss_mib = served.rss_mib()
            found.estimate_mib = estimate_mib(index, *self.workload.vectors.shape)
            found.seconds = time.perf_counter() - began
            if self.goal.p99_ms is not None and found.p99_ms > self.goal.p99_ms:
                advice.failed.append(
                    f"{index.type_name}: meets the target with {found.index!r}, but its p99 is "
                    f"{found.p99_ms:.2f} ms"
                )
            else:
                advice.settings.append(found)
        advice.settings.sort(key=lambda each: -each.users_per_second)
        advice.best = advice.settings[0] if advice.settings else None
        return advice

    def smallest(
        self, some: Workload, exact: Exact, retriever: Searching, index: Index
    ) -> Setting | None:
        """The least work of ``index`` that passes the target on ``some`` users; None: nothing."""
        ladder = ladder_of(index, self.k)
        tried: dict[int, Setting | None] = {}

        def passing(place: int) -> Setting | None:
            if place not in tried:
                found = retriever.search_with(ladder[place], some.queries, self.k)
                by_user = found_by_user(some, exact, found)
                margin = self.margin(by_user, exact)
                quality = {name: float(values.mean()) for name, values in by_user.items()}
                tried[place] = (
                    Setting(ladder[place], margin.sure, quality) if margin.passed else None
                )
            return tried[place]

        low, high = 0, len(ladder) - 1
        while low < high:
            middle = (low + high) // 2
            if passing(middle) is None:
                low = middle + 1
            else:
                high = middle
        return passing(low)

    def margin(self, by_user: dict[str, npt.NDArray[np.float64]], exact: Exact) -> Margin:
        """The smaller one of the targets' margins."""
        margins = []
        if self.goal.index_recall is not None:
            margins.append(_margin(by_user["index_recall"] - self.goal.index_recall))
        if self.goal.loss is not None:
            name = f"recall@{self.k}"
            if name not in exact.relevance:
                raise SettingsError("--loss needs clicks to compare with: these vectors have none")
            kept = by_user[name] - (1 - self.goal.loss) * exact.relevance[name]
            margins.append(_margin(kept))
        return min(margins, key=lambda each: each.sure)

    def timed(self, found: Setting, loads: Loads) -> None:
        """Fill in throughput, its number of clients, and p99 of the fewest clients.

        Each is the median of some windows, taken in turn: what else runs for a moment on the
        machine then changes little.
        """
        rates: dict[int, list[float]] = {clients: [] for clients in self.clients}
        slowest = []
        for _ in range(WINDOWS):
            for clients in self.clients:
                orders = [
                    Load(found.index, self.k, seconds=self.seconds, first=97 * number)
                    for number in range(clients)
                ]
                outcome = loads.run(orders, 50)
                rates[clients].append(outcome.rate)
                if clients == min(self.clients):
                    slowest.append(outcome.latency()["p99"])
        found.p99_ms = statistics.median(slowest)
        found.users_per_second, found.clients = max(
            (statistics.median(values), clients) for clients, values in rates.items()
        )


def _margin(values: npt.NDArray[np.float64]) -> Margin:
    return Margin(float(values.mean()), standard_error(values))


def candidates_for(items: int) -> list[Index]:
    """What is worth a build for so many items.

    In a large catalogue that is a lean graph and a dense one, which needs a smaller ``ef`` for the
    same index_recall. IVF_FLAT, less than half as fast at an index_recall of 0.98, was never the
    fastest that met a target from 0.9 on (benchmarks/results).
    """
    if items > SMALL:
        return [Hnsw(M=16), Hnsw(M=48)]
    nlist = min(int(4 * math.sqrt(items)), most_cells(items))
    return [Flat(), Hnsw(), IvfFlat(nlist=nlist, nprobe=1)]


def ladder_of(index: Index, k: int) -> list[Index]:
    """``index`` from the least search work to the most; one alone where there is nothing to set."""
    if isinstance(index, Hnsw):
        return [replace(index, ef=ef) for ef in _steps(k, max(LARGEST_EF, 4 * k))]
    if isinstance(index, Ivf):
        return [replace(index, nprobe=n) for n in _steps(1, index.nlist)]
    return [index]


def _steps(low: int, high: int) -> list[int]:
    values = [low]
    while values[-1] < high:
        values.append(min(high, max(values[-1] + 1, math.ceil(values[-1] * STEP))))
    return values


def in_words(setting: Setting, k: int) -> dict[str, Any]:
    """A line of the table."""
    return {
        "index": words.setting(setting.index.label, setting.index.search_params(k)),
        "index_recall": setting.quality["index_recall"],
        "sure": setting.sure,
        "users/s": setting.users_per_second,
        "clients": setting.clients,
        "p99 ms": setting.p99_ms,
        "estimated MiB": setting.estimate_mib,
        "server MiB": setting.rss_mib,
        "seconds": setting.seconds,
    }
