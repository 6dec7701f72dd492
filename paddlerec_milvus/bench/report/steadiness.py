# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whether a run can tell two speeds apart: what load and drift may hide, beside the difference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from paddlerec_milvus.bench.report.view import Point, View, per_cent, rounded, server_of
from paddlerec_milvus.bench.results import RepeatResult, SearchMeasurement
from paddlerec_milvus.machine_state import MachineState

QUIET = 0.05  # of a speed; what load and drift change by no more is noise of any run
NAMED = 0.01  # of a machine; less than that of a part of the load is not worth a word


class Disturbance(NamedTuple):
    """What may have changed a speed, by up to a ``share`` of it."""

    share: float
    cause: str
    """``load`` or ``drift``; empty: none."""
    words: str

    @property
    def matters(self) -> bool:
        """Whether it is more than the noise of any run."""
        return self.share > QUIET

    def hides(self, one: float, other: float) -> bool:
        """Whether the difference of two numbers may come from it."""
        return self.matters and difference(one, other) <= self.share


NOTHING = Disturbance(0.0, "", "")


def difference(one: float, other: float) -> float:
    """Of two numbers from 0 on, as a share of the larger one."""
    larger = max(one, other)
    return abs(one - other) / larger if larger else 0.0


def worst(disturbances: Iterable[Disturbance]) -> Disturbance:
    """The largest one; none where there is none."""
    return max(disturbances, key=lambda part: part.share, default=NOTHING)


def load_on(point: Point) -> Disturbance:
    """What the machine did beside measuring ``point``."""
    state = point.measured.machine_state
    if state is None or not state.load:
        return NOTHING
    return Disturbance(state.load, "load", f"{load_words(state)} while {point.name} was measured")


def load_words(state: MachineState) -> str:
    """How many cores other programs and the host used."""
    parts = []
    if state.foreign and state.foreign >= NAMED:
        name = f" (most of it: {state.busiest})" if state.busiest else ""
        parts.append(f"other programs used {_cores(state, state.foreign)}{name}")
    if state.steal and state.steal >= NAMED:
        parts.append(f"the virtual machine's host took {_cores(state, state.steal)} (steal)")
    return " and ".join(parts)


def _cores(state: MachineState, share: float) -> str:
    return f"{rounded(share * state.cores)} of {state.cores} cores"


def clock_drift(points: Sequence[Point]) -> Disturbance:
    """By how much the time of the fixed piece of work differs, before and after all ``points``."""
    states = [point.measured.machine_state for point in points]
    times = [
        time for state in states if state for time in (state.pace_before_ms, state.pace_after_ms)
    ]
    if not times:
        return NOTHING
    low, high = min(times), max(times)
    words = f"one and the same small piece of work took {rounded(low)} to {rounded(high)} ms"
    return Disturbance(difference(low, high), "drift", words)


def repeat_drift(view: View, points: Sequence[Point]) -> Disturbance:
    """By how much the speed of the first setting changed until the end of the run."""
    return worst(
        _change_of(point, repeat)
        for point in points
        for repeat in view.repeats
        if point.same(repeat) and server_of(point.result) == server_of(repeat)
    )


def _change_of(point: Point, repeat: RepeatResult) -> Disturbance:
    ratio = speed_ratio(point.measured, repeat.measured)
    change = f"{per_cent(abs(ratio - 1), 1)} % {'slower' if ratio < 1 else 'faster'}"
    words = f"{point.name}, timed first and again at the end, was {change} then"
    return Disturbance(difference(1.0, ratio), "drift", words)


def speed_ratio(first: SearchMeasurement, again: SearchMeasurement) -> float:
    """How many times as fast it was the second time.

    The geometric mean over all numbers of clients and the median latency, as a change of the
    machine meets them all and chance does not.
    """
    before, after = _speeds(first), _speeds(again)
    ratios = [after[key] / before[key] for key in before if before[key] and after.get(key)]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else 1.0


def _speeds(measured: SearchMeasurement) -> dict[int, float]:
    """By number of clients, and one client's 1 / p50 as that of 0."""
    p50 = measured.latency.p50
    rates = {load.clients: load.users_per_second for load in measured.throughput}
    return {0: 1 / p50 if p50 else 0.0} | rates


def drift_of(view: View, points: Sequence[Point]) -> Disturbance:
    """The larger one of the clock's drift and that of the first setting."""
    return worst([clock_drift(points), repeat_drift(view, points)])


def speed(point: Point) -> float:
    """Users a second; without them, what one client's median latency makes of it."""
    rate = point.users_per_second()
    return 1000 / point.latency.p50 if rate is None and point.latency.p50 else rate or 0.0


class Rival(NamedTuple):
    """A setting whose speed cannot be told from that of another one, and why."""

    point: Point
    difference: float
    """Share that it is slower or faster by."""
    disturbance: Disturbance


def rivals_of(point: Point, others: Sequence[Point], drift: Disturbance) -> list[Rival]:
    """Those of ``others`` that load or ``drift`` may have put behind ``point``, the nearest first.

    Empty where they are all further apart than that, or the machine was quiet.
    """
    rivals = []
    for other in others:
        disturbance = worst([drift, load_on(point), load_on(other)])
        if other is not point and disturbance.hides(speed(point), speed(other)):
            rivals.append(Rival(other, difference(speed(point), speed(other)), disturbance))
    return sorted(rivals, key=lambda rival: rival.difference)


def machine_words(view: View) -> str:
    """Load, steal and drift while the settings of a report were measured, in a sentence."""
    if not view.points:
        return ""
    states = [state for point in view.points if (state := point.measured.machine_state)]
    if not states:
        return "Load, steal and clock drift of the machine: not recorded."
    parts = [
        _range("other programs", [state.foreign for state in states]),
        _range("steal", [state.steal for state in states]),
    ]
    drifts = [clock_drift(view.points).words, repeat_drift(view, view.points).words]
    missing = len(view.points) - len(states)
    words = ", ".join(parts) + " of the machine; " + "; ".join(word for word in drifts if word)
    words += "" if view.repeats else "; the first setting was not timed again"
    words += f"; not recorded for {missing} of {len(view.points)} settings" if missing else ""
    return f"While the settings were measured: {words}."


def _range(name: str, shares: Sequence[float | None]) -> str:
    seen = [share for share in shares if share is not None]
    if not seen:
        return f"{name} cannot be seen"
    return f"{name} {per_cent(min(seen), 1)} to {per_cent(max(seen), 1)} %"
