# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The numbers that two runs have of the same settings, and whether they differ beyond noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from paddlerec_milvus.bench.report.steadiness import (
    NOTHING,
    Disturbance,
    clock_drift,
    load_on,
    repeat_drift,
    worst,
)
from paddlerec_milvus.bench.report.view import Point, View, identity, per_cent, server_of
from paddlerec_milvus.bench.results import Result
from paddlerec_milvus.errors import UserError

LEAST = {"users/s": 0.05, "p50, ms": 0.05, "p99, ms": 0.10, "RSS, MiB": 0.05}
EQUAL = 1e-9  # a float's rounding
BEYOND = "beyond noise"
UNRECORDED = Disturbance(0.0, "", "not recorded")
HIDDEN = {"load": "the machine was busy", "drift": "within drift"}


class Comparison(NamedTuple):
    """A number of both runs; ``noise`` is what may lie between them by chance."""

    name: str
    first: float
    second: float
    noise: float
    disturbance: Disturbance | None = None
    """Of a speed, by load and drift; None: the number is none."""

    @property
    def verdict(self) -> str:
        """Noise, beyond it, or what else may be all that made the difference."""
        if abs(self.second - self.first) <= self.noise + EQUAL:
            return "noise"
        cause = self.disturbance
        hidden = cause is not None and cause.hides(self.first, self.second)
        return HIDDEN[cause.cause] if cause and hidden else BEYOND

    @property
    def disturbed(self) -> str:
        """By how much load or drift may have changed the number, and which of them."""
        cause = self.disturbance
        if cause is None or cause is UNRECORDED:
            return cause.words if cause else ""
        if math.isinf(cause.share):
            return cause.cause
        return f"{per_cent(cause.share, 1)} % {cause.cause}" if cause.matters else "quiet"


@dataclass(frozen=True)
class Pair:
    """The same setting in both runs, or the same build."""

    name: str
    measures: Sequence[Comparison]
    points: tuple[Point, Point] | None = None
    """None: a build."""

    @property
    def build_name(self) -> str:
        """As the legend names it."""
        return self.points[0].build_name if self.points else self.name


def same_data(ours: View, theirs: View) -> bool:
    """Whether two runs searched the same vectors, users and clicks."""
    one, other = (
        {data.fingerprint for data in view.provenances(lambda row: row.data)}
        for view in (ours, theirs)
    )
    return one == other


def pairing_key(*views: View) -> Callable[[Result], Hashable]:
    """What rows of runs are paired by: what they measure, and on which kind of server.

    The server does not count where every run has one kind alone: Lite may be set beside a server.
    """
    if all(len(view.provenances(lambda row: row.server.kind)) == 1 for view in views):
        return identity
    return lambda row: (identity(row), server_of(row))


def pairs_of(ours: View, theirs: View) -> list[Pair]:
    """What both runs measured, setting by setting, then the builds' memory.

    UserError: no setting that both have.
    """
    with_relevance = same_data(ours, theirs)
    key_of = pairing_key(ours, theirs)
    points = {key_of(point.result): point for point in theirs.points}
    drift = worst(repeat_drift(view, view.points) for view in (ours, theirs))
    pairs = [
        Pair(point.name, _measures(point, points[key], with_relevance, drift), (point, points[key]))
        for point in ours.points
        if (key := key_of(point.result)) in points
    ]
    builds = {key_of(build.result): build.measured.rss_mib for build in theirs.builds}
    for build in ours.builds:
        one, other = build.measured.rss_mib, builds.get(key_of(build.result))
        if one is not None and other is not None:
            pairs.append(Pair(build.name, [_by_share("RSS, MiB", one, other)]))
    pairs = [pair for pair in pairs if pair.measures]
    if not pairs:
        raise UserError(
            "the two runs have no setting in common: compare runs of one sweep (same index, "
            "parameters, k, and server where a run has several)"
        )
    return pairs


def _disturbances(one: Point, other: Point, drift: Disturbance) -> tuple[Disturbance, Disturbance]:
    """Of a setting's throughput, and of its latencies; ``drift`` is that within the two runs."""
    if one.measured.machine_state is None or other.measured.machine_state is None:
        return UNRECORDED, UNRECORDED
    machines = [point.result.provenance.machine for point in (one, other)]
    between = clock_drift([one, other]) if machines[0] == machines[1] else NOTHING
    load = worst([load_on(one), load_on(other)])
    of_rate = worst([load, between, drift])
    return of_rate, load._replace(share=math.inf) if load.matters else of_rate


def _measures(
    one: Point, other: Point, with_relevance: bool, drift: Disturbance
) -> list[Comparison]:
    of_rate, of_latency = _disturbances(one, other, drift)
    measures = [
        _throughput(one, other, of_rate),
        _by_share("p50, ms", one.latency.p50, other.latency.p50, of_latency),
        _by_share("p99, ms", one.latency.p99, other.latency.p99, of_latency),
        _index_recall(one, other),
        _relevance(one, other) if with_relevance else None,
    ]
    return [measure for measure in measures if measure is not None]


def _by_share(
    name: str, one: float, other: float, disturbance: Disturbance | None = None
) -> Comparison:
    return Comparison(name, one, other, LEAST[name] * abs(one), disturbance)


def _throughput(one: Point, other: Point, disturbance: Disturbance) -> Comparison | None:
    """At the number of clients, of those that both have, where the first did most."""
    common = set(one.throughput) & set(other.throughput)
    if not common:
        return None
    clients = max(common, key=lambda number: one.users_per_second(number) or 0.0)
    a, b = one.users_per_second(clients), other.users_per_second(clients)
    if a is None or b is None:
        return None
    noise = max(LEAST["users/s"] * a, _spread(one, clients), _spread(other, clients))
    return Comparison("users/s", a, b, noise, disturbance)


def _spread(point: Point, clients: int) -> float:
    runs = point.throughput[clients].runs or [0.0]
    return max(runs) - min(runs)


def _index_recall(one: Point, other: Point) -> Comparison:
    a, b = (point.measured.quality.index_recall.list for point in (one, other))
    return Comparison("index_recall", a.mean, b.mean, 2 * math.hypot(a.se or 0.0, b.se or 0.0))


def _relevance(one: Point, other: Point) -> Comparison | None:
    """Judged by the intervals of what is lost: no noise where they do not overlap."""
    a, b, lost, theirs = one.relevance(), other.relevance(), one.loss(), other.loss()
    if a is None or b is None:
        return None
    overlap = not lost or not theirs or (lost.low <= theirs.high and theirs.low <= lost.high)
    return Comparison("recall@k", a, b, math.inf if overlap else 0.0)
