# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The fastest index setting that meets a target, found with few measurements.

What an index finds grows with ``ef`` or ``nprobe``, so the smallest value that meets the target is
found by climbing a ladder of values in growing strides, and halving the last stride. What that ends
at, one setting of each index, is timed: in turn, with all of them loaded, as the pace of a machine
changes in the minutes that a build takes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.bench.client_pool import LoadRunner
from paddlerec_milvus.bench.measure_search import Exact, exact_of, quality_by_user
from paddlerec_milvus.bench.race import race
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.statistics import standard_error
from paddlerec_milvus.retrieval import indexes
from paddlerec_milvus.retrieval.base import LARGEST_K, FloatArray, Neighbours
from paddlerec_milvus.retrieval.build import BuildTimes
from paddlerec_milvus.retrieval.indexes import (
    Flat,
    Hnsw,
    Index,
    Ivf,
    IvfFlat,
    most_cells,
    setting_name,
)
from paddlerec_milvus.retrieval.memory_estimate import estimate_mib
from paddlerec_milvus.sampling import evenly_spread

USERS = 1_000  # that the target is checked on
Z = 2.0  # standard errors of a difference of two such groups of users that the target is passed by
STEP = 1.08  # of the ladder of values
FIRST_STRIDE = 4  # steps up that ladder, if its foot does not pass
LARGEST_EF = 4_096
WINDOWS = 4  # that a setting is timed in
SMALL = 50_000  # items; up to here FLAT is worth a try
# times k: with an ef up to here a lean graph is the fastest. At 367,982 items (benchmarks/results)
# M 16 did 530 users/s or more with ef 50 and 100, M 48 517 with ef 50, the least it takes.
NEAR = 1.5


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
    def confidence(self) -> float:
        """How likely the target holds on as many other users, 0 to 1."""
        if not self.se or math.isnan(self.se):
            return 1.0 if self.mean >= 0 else 0.0
        return 0.5 * math.erfc(-self.mean / (self.se * 2))


@dataclass
class TunedSetting:
    """An index setting that meets the target on the users it was tried on."""

    index: Index
    confidence: float
    """How likely it does on as many others, 0 to 1."""
    quality: dict[str, float]
    """Means over users: ``index_recall``, and relevance where there are clicks."""
    users_per_second: float = 0.0
    clients: int = 0
    p99_ms: float = 0.0
    seconds: float = 0.0
    """What finding it cost, its build included, and timing left out."""
    estimate_mib: float = 0.0
    rss_mib: float | None = None


@dataclass
class Tuning:
    """The settings that meet the target, the fastest first."""

    settings: list[TunedSetting] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Why an index is not among them."""

    @property
    def best(self) -> TunedSetting | None:
        """The one to use."""
        return self.settings[0] if self.settings else None


class Searching(Protocol):
    """What a retriever does for the tuner."""

    def search_with(self, index: Index, queries: FloatArray, k: int) -> Neighbours:
        """The ``k`` nearest items of each of ``queries`` [n, D] by the parameters of ``index``."""
        ...


class Served(NamedTuple):
    """An index that was built and can be searched."""

    retriever: Searching
    loads: LoadRunner
    times: BuildTimes
    rss_mib: float | None = None
    """What the server's resident memory grew by, None where it cannot be seen."""


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
    seconds: float = 1.0

    def __post_init__(self) -> None:
        check_k(self.k, len(self.workload.ids))

    def advise(self, candidates: Sequence[Index] = ()) -> Tuning:
        """The settings that meet the target, that with the highest throughput first.

        Their indexes stay served until all are timed.
        """
        some = self.workload.take(evenly_spread(len(self.workload.interests), USERS))
        exact = exact_of(some, self.k)
        tuning, passing = Tuning(), list[tuple[TunedSetting, LoadRunner]]()
        with ExitStack() as stack:
            for index in candidates or candidates_for(len(self.workload.ids)):
                reason = needless(index, [setting for setting, _ in passing], self.k)
                if not reason:
                    cheapest = self._cheapest(index, some, exact, stack)
                    reason = "" if cheapest else "no setting meets the target"
                    passing += [cheapest] if cheapest else []
                if reason:
                    tuning.failed.append(f"{setting_name(index.label)}: {reason}")
            self._time(tuning, passing)
        return tuning

    def _cheapest(
        self, index: Index, some: Workload, exact: Exact, stack: ExitStack
    ) -> tuple[TunedSetting, LoadRunner] | None:
        """The least work that passes, to be timed, and served until ``stack`` ends."""
        with ExitStack() as mine:
            began = time.perf_counter()
            served = mine.enter_context(self.serve(index))
            setting = self.smallest(some, exact, served.retriever, index)
            if setting is None:
                return None
            setting.rss_mib = served.rss_mib
            setting.estimate_mib = estimate_mib(index, *self.workload.vectors.shape)
            setting.seconds = time.perf_counter() - began
            stack.push(mine.pop_all())
            return setting, served.loads

    def _time(self, tuning: Tuning, passing: Sequence[tuple[TunedSetting, LoadRunner]]) -> None:
        """Time the ``passing`` settings, and put the fastest first."""
        runners = [(setting.index, loads) for setting, loads in passing]
        timings = race(runners, self.k, sorted({1, *self.clients}), self.seconds, WINDOWS)
        for (setting, _), timing in zip(passing, timings, strict=True):
            setting.users_per_second, setting.clients, setting.p99_ms, failed = timing
            if not failed and self.goal.p99_ms is not None and timing.p99_ms > self.goal.p99_ms:
                failed = f"its p99 is {timing.p99_ms:.2f} ms"
            if failed:
                name = setting_name(setting.index.label, setting.index.search_params(self.k))
                tuning.failed.append(f"{name}: meets the target, but {failed}")
            else:
                tuning.settings.append(setting)
        tuning.settings.sort(key=lambda setting: -setting.users_per_second)

    def smallest(
        self, some: Workload, exact: Exact, retriever: Searching, index: Index
    ) -> TunedSetting | None:
        """The least work of ``index`` that passes the target on ``some`` users; None: nothing."""
        ladder = ladder_of(index, self.k)
        tried: dict[int, TunedSetting | None] = {}

        def passing(step: int) -> TunedSetting | None:
            if step not in tried:
                neighbours = retriever.search_with(ladder[step], some.queries, self.k)
                by_user = quality_by_user(some, exact, neighbours)
                margin = self.margin(by_user, exact)
                quality = {name: float(values.mean()) for name, values in by_user.items()}
                setting = TunedSetting(ladder[step], margin.confidence, quality)
                tried[step] = setting if margin.passed else None
            return tried[step]

        # little work first, as it is cheap to search with, in growing strides; then halves
        low, high, last = 0, 0, len(ladder) - 1
        while high < last and passing(high) is None:
            low, high = high + 1, min(2 * high + FIRST_STRIDE, last)
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
            margins.append(_margin(by_user[name] - (1 - self.goal.loss) * exact.relevance[name]))
        return min(margins, key=lambda margin: margin.confidence)


def _margin(values: npt.NDArray[np.float64]) -> Margin:
    return Margin(float(values.mean()), standard_error(values))


def check_k(k: int, items: int) -> None:
    """SettingsError: no list of so many items can be found."""
    most = min(items, LARGEST_K)
    if not 1 <= k <= most:
        raise SettingsError(f"--k {k}: expected 1 to {most:,}, as there are {items:,} items")


def candidates_for(items: int, graphs: bool = True) -> list[Index]:
    """What is worth a build for so many items; ``graphs``: whether these work (see the probe).

    In a large catalogue that is a lean graph and a dense one, which needs a smaller ``ef`` for the
    same index_recall; M 48 was hardly faster than M 32 and takes longer to build. IVF_FLAT, less
    than half as fast at 0.98, was never the fastest that met a target from 0.9 on
    (benchmarks/results). Where lengths break the graphs, one with a large ``ef`` may still do, and
    IVF_FLAT and FLAT do in any case.
    """
    if items > SMALL and graphs:
        return [Hnsw(M=16), Hnsw(M=32)]
    nlist = min(int(4 * math.sqrt(items)), most_cells(items))
    return [Flat(), Hnsw(), IvfFlat(nlist=nlist, nprobe=1)]


def needless(index: Index, passing: Sequence[TunedSetting], k: int) -> str:
    """Why ``index`` cannot be faster than the ``passing`` settings; empty: it may be.

    A dense graph saves work by a smaller ``ef``, which cannot be below ``k``. It compares more
    vectors for each node that it looks at, so with nothing to save it is the slower one.
    """
    for lean in [setting.index for setting in passing]:
        if not isinstance(lean, Hnsw) or not isinstance(index, Hnsw):
            continue
        if lean.M < index.M and lean.ef <= NEAR * k:
            return f"not built: M {lean.M} meets the target with ef {lean.ef}, close to k"
    return ""


def ladder_of(index: Index, k: int) -> list[Index]:
    """``index`` from the least search work to the most; one alone where there is nothing to set."""
    if isinstance(index, Hnsw):
        most = min(indexes.LARGEST_EF, max(LARGEST_EF, 4 * k))
        return [replace(index, ef=ef) for ef in _steps(k, most)]
    if isinstance(index, Ivf):
        return [replace(index, nprobe=n) for n in _steps(1, index.nlist)]
    return [index]


def _steps(low: int, high: int) -> list[int]:
    values = [low]
    while values[-1] < high:
        values.append(min(high, max(values[-1] + 1, math.ceil(values[-1] * STEP))))
    return values
