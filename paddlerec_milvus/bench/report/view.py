# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Results as a report shows them: points with their builds, and how numbers are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

from paddlerec_milvus.bench.load_results import LatencySummary, Throughput
from paddlerec_milvus.bench.results import (
    BuildMeasurement,
    BuildResult,
    LibraryResult,
    Provenance,
    RankedQuality,
    Refusal,
    RelevanceComparison,
    RelevanceMetric,
    RepeatResult,
    Result,
    SearchMeasurement,
    SearchResult,
    StudyResult,
)
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.retrieval.indexes import setting_name

T = TypeVar("T")
MINUS = "\N{MINUS SIGN}"


class Loss(NamedTuple):
    """Relevance that exact search has and the index has not, a difference of two means of [0, 1].

    ``low`` to ``high`` is its 95 % interval; ``exact`` the mean of exact search.
    """

    mean: float
    low: float
    high: float
    exact: float

    @property
    def seen(self) -> bool:
        """Whether it stands above the noise: its interval does not hold 0."""
        return self.low > 0 or self.high < 0

    @property
    def relative(self) -> Loss | None:
        """All of it as shares of ``exact``; None where that is 0."""
        if not self.exact:
            return None
        scale = self.exact
        return Loss(self.mean / scale, self.low / scale, self.high / scale, exact=1.0)


@dataclass(frozen=True, eq=False)
class BuildView:
    """An index that was built; ``name`` tells it from all others of the report."""

    result: BuildResult
    name: str

    @property
    def measured(self) -> BuildMeasurement:
        """Seconds, memory and disk."""
        return self.result.build


@dataclass(frozen=True, eq=False)
class Point:
    """A search setting of a build."""

    result: SearchResult
    name: str
    """Type, build and search parameters."""
    build_name: str
    build: BuildView | None

    @property
    def type(self) -> str:
        """FLAT, HNSW …"""
        return self.result.index_type

    @property
    def k(self) -> int:
        """Length of a list."""
        return self.result.k

    @property
    def measured(self) -> SearchMeasurement:
        """What it returns and how fast."""
        return self.result.measured

    @property
    def failures(self) -> int:
        """Requests that failed, in all loads."""
        return self.measured.failures

    @property
    def index_recall(self) -> float:
        """Of the merged list, its mean over users."""
        return self.measured.quality.index_recall.list.mean

    def relevance(self, metric: RelevanceMetric = "recall") -> float | None:
        """A metric at k; None where nobody clicked."""
        relevance = self.measured.quality.relevance
        return relevance.index.mean(metric) if relevance else None

    def loss(self, metric: RelevanceMetric = "recall") -> Loss | None:
        """Of a metric at k; None where nobody clicked."""
        return _loss_of(self.measured.quality.relevance, metric)

    @property
    def ranked(self) -> RankedQuality | None:
        """The best items after ranking; None where nothing was ranked."""
        return self.measured.quality.ranked

    def ranked_loss(self, metric: RelevanceMetric = "ndcg") -> Loss | None:
        """Of a metric of the ranked lists; None where nothing was ranked."""
        return _loss_of(self.ranked.relevance if self.ranked else None, metric)

    @property
    def latency(self) -> LatencySummary:
        """Of one client that searches for one user at a time."""
        return self.measured.latency

    @cached_property
    def throughput(self) -> dict[int, Throughput]:
        """Clients → what they did at the same time."""
        return {load.clients: load for load in self.measured.throughput}

    @property
    def best_clients(self) -> int | None:
        """The number of clients with the most users a second."""
        loads = self.throughput
        return max(loads, key=lambda n: loads[n].users_per_second) if loads else None

    def users_per_second(self, clients: int | None = None) -> float | None:
        """Of ``clients`` clients at the same time, or of the best number."""
        number = self.best_clients if clients is None else clients
        load = None if number is None else self.throughput.get(number)
        return load.users_per_second if load else None

    def same(self, row: RepeatResult | LibraryResult) -> bool:
        """Whether ``row`` is of the same index and search."""
        own = self.result
        return (own.index, own.search, own.k) == (row.index, row.search, row.k)

    def built(self, value: Callable[[BuildMeasurement], T]) -> T | None:
        """A value of its build; None without one."""
        return None if self.build is None else value(self.build.measured)


@dataclass(frozen=True)
class View:
    """All results of a run, sorted by kind, refused ones apart."""

    rows: Sequence[Result]
    builds: Sequence[BuildView]
    points: Sequence[Point]
    repeats: Sequence[RepeatResult]
    libraries: Sequence[LibraryResult]
    studies: Sequence[StudyResult]
    refused: Sequence[Refusal]

    @property
    def groups(self) -> list[list[Point]]:
        """Points that may be compared: of one k and one server."""
        groups: dict[tuple[str, int], list[Point]] = {}
        for point in self.points:
            groups.setdefault(_group(point), []).append(point)
        return list(groups.values())

    def flat(self, point: Point) -> Point | None:
        """The FLAT index of the same k and server."""
        flats = (other for other in self.points if other.type == "FLAT")
        return next((other for other in flats if _group(other) == _group(point)), None)

    def times_flat(self, point: Point) -> float | None:
        """Its users a second over FLAT's, each at its best number of clients.

        None where they were not measured alike, see :func:`mixed`.
        """
        flat = self.flat(point)
        theirs = flat.users_per_second() if flat and not mixed([flat, point]) else None
        ours = point.users_per_second()
        return ours / theirs if ours is not None and theirs else None

    def point_of(self, library: LibraryResult) -> Point | None:
        """The point of Milvus at the parameters of an engine's result."""

        return next((point for point in self.points if point.same(library)), None)

    @property
    def at_k(self) -> str:
        """``@50``, or ``@k`` where several k were measured."""
        lengths = {point.k for point in self.points}
        return f"@{lengths.pop()}" if len(lengths) == 1 else "@k"

    @property
    def last(self) -> Provenance:
        """Provenance of the result that was measured last."""
        return self.rows[-1].provenance

    def provenances(self, part: Callable[[Provenance], T]) -> list[T]:
        """The different values of a part of the provenance, in order."""
        values: list[T] = []
        for row in self.rows:
            value = part(row.provenance)
            if value not in values:
                values.append(value)
        return values


def view_of(rows: Sequence[Result]) -> View:
    """Sort ``rows``. Of two rows of one setting the later one counts. UserError: there are none."""
    if not rows:
        raise UserError("nothing was measured yet: there are no rows to report")
    latest = list(_latest(rows))
    built = [row for row in latest if isinstance(row, BuildResult)]
    searched = [row for row in latest if isinstance(row, SearchResult)]
    servers = {server_of(row) for row in latest if isinstance(row, BuildResult | SearchResult)}
    lengths = {row.k for row in searched}

    def named(row: BuildResult | SearchResult, *, with_search: bool) -> str:
        where = [server_of(row)] if len(servers) > 1 else []
        if not with_search or isinstance(row, BuildResult):
            name = setting_name(row.index)
        else:
            where += [f"k {row.k}"] if len(lengths) > 1 else []
            name = setting_name(row.index, row.search)
        return f"{name} ({', '.join(where)})" if where else name

    builds = [BuildView(row, named(row, with_search=False)) for row in built]
    by_name = {build.name: build for build in builds}
    points = []
    for row in searched:
        name = named(row, with_search=False)
        points.append(Point(row, named(row, with_search=True), name, by_name.get(name)))
    return View(
        rows,
        builds,
        points,
        [row for row in latest if isinstance(row, RepeatResult)],
        [row for row in latest if isinstance(row, LibraryResult)],
        [row for row in latest if isinstance(row, StudyResult)],
        [row for row in latest if isinstance(row, Refusal)],
    )


def server_of(row: Result) -> str:
    """Kind of the server that a row was measured on."""
    return row.provenance.server.kind


CONDITIONS: dict[str, Callable[[Provenance], object]] = {
    "versions of Milvus": lambda origin: origin.server.version,
    "machines": lambda origin: {
        name: value for name, value in origin.machine.items() if name != "platform"
    },
    "measure settings": lambda origin: origin.measure,
}


def mixed(points: Iterable[Point]) -> list[str]:
    """Which conditions differ among ``points``, so that their speeds cannot be compared.

    One that was not recorded differs from none.
    """
    origins = [point.result.provenance for point in points]
    known = {name: list(filter(None, map(part, origins))) for name, part in CONDITIONS.items()}
    return [name for name, values in known.items() if any(one != values[0] for one in values)]


def identity(row: Result) -> str:
    """What a row measures, whenever and wherever that was."""
    about: list[object] = [row.kind, row.index]
    if not isinstance(row, BuildResult):
        about += [row.search, row.k]
    if isinstance(row, LibraryResult):
        about.append(row.engine)
    if isinstance(row, StudyResult):
        about += [row.measured.study, row.measured.params.model_dump()]
    if isinstance(row, Refusal):
        about += [row.what, row.engine]
    return json.dumps(about, sort_keys=True)


def _latest(rows: Iterable[Result]) -> Iterable[Result]:
    by_identity: dict[Hashable, Result] = {(identity(row), server_of(row)): row for row in rows}
    return by_identity.values()


def _loss_of(relevance: RelevanceComparison | None, metric: RelevanceMetric) -> Loss | None:
    if relevance is None:
        return None
    lost = relevance.loss.of(metric)
    return Loss(lost.mean, lost.low, lost.high, relevance.exact.mean(metric))


def _group(point: Point) -> tuple[str, int]:
    return server_of(point.result), point.k


# How numbers are written: what was not measured is an empty string.


def rounded(value: float | None) -> str:
    """Three digits that count, thousands apart: 0.0512, 3.21, 1,234."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 99.95:
        text = f"{value:,.0f}"
    elif size >= 9.995:
        text = f"{value:.1f}"
    elif size >= 0.9995:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3f}" if size >= 0.0005 else ("0" if not value else f"{value:.1e}")
    return text.replace("-", MINUS, 1) if value < 0 else text


def fraction(value: float | None) -> str:
    """Of 1, four decimals."""
    return "" if value is None else f"{value:.4f}"


def whole(value: float | None) -> str:
    """A count, thousands apart."""
    return "" if value is None else f"{value:,.0f}"


def per_cent(value: float | None, digits: int = 2) -> str:
    """A share of 1 as per cent, without the sign of it; never a negative nought."""
    if value is None:
        return ""
    text = f"{100 * value:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return text.replace("-", MINUS)
