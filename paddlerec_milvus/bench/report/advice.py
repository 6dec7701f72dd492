# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which setting to use, in a sentence, with the numbers that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from paddlerec_milvus.bench.report.steadiness import (
    Disturbance,
    Rival,
    drift_of,
    load_on,
    rivals_of,
    speed,
    worst,
)
from paddlerec_milvus.bench.report.view import Loss, Point, View, mixed, per_cent, rounded, whole
from paddlerec_milvus.retrieval.indexes import setting_options

LARGEST_LOSS = 0.001  # of recall@k, relative
LEAST_RECALL = 0.99  # index_recall of the merged list, where nobody clicked
TIE = 0.03  # of users a second
SHOWN = 3  # settings that are named where a run cannot tell them apart


@dataclass(frozen=True)
class IndexAdvice:
    """For one k on one server."""

    text: str
    setting: str | None
    """None: no setting meets the target, or this run cannot tell which."""
    numbers: dict[str, Any]
    options: str = ""
    """The setting as ``-o`` of tools/infer.py and the service's SERVING_OPTIONS take it."""

    def as_dict(self) -> dict[str, Any]:
        """Its fields, for the JSON file of a report."""
        return asdict(self)


def advise(view: View) -> list[IndexAdvice]:
    """The cheapest setting that meets the target, for each k and server."""
    return [_advice(view, group) for group in view.groups]


def meets_target(point: Point) -> bool:
    """At most 0.1 % of recall@k lost; without held-out clicks, an index_recall of 0.99."""
    loss = point.loss()
    if loss is not None and loss.relative is not None:
        return loss.relative.mean <= LARGEST_LOSS
    return point.index_recall >= LEAST_RECALL


def cheapest(points: Sequence[Point]) -> Point:
    """The most users a second; among those within 3 % of it the lowest p99."""
    most = max(point.users_per_second() or 0.0 for point in points)
    near = [point for point in points if (point.users_per_second() or 0.0) >= (1 - TIE) * most]
    return min(near, key=lambda point: point.latency.p99)


def best_by_type(points: Sequence[Point]) -> list[Point]:
    """The cheapest setting of each index type that meets the target, else the one nearest to it."""
    types = dict.fromkeys(point.type for point in points)
    best = []
    for kind in types:
        ours = [point for point in points if point.type == kind]
        good = [point for point in ours if meets_target(point)]
        best.append(cheapest(good) if good else min(ours, key=_distance))
    return best


def _distance(point: Point) -> float:
    """From the target; smaller is better."""
    loss = point.loss()
    if loss is not None and loss.relative is not None:
        return loss.relative.mean
    return -point.index_recall


def _advice(view: View, group: Sequence[Point]) -> IndexAdvice:
    if differing := mixed(group):
        text = (
            f"No advice: the settings were measured with different {' and '.join(differing)}, so "
            "their speeds cannot be compared. Measure all of them into another --out."
        )
        return IndexAdvice(text, None, {})
    sound = [point for point in group if not point.failures]
    good = [point for point in sound if meets_target(point)]
    left_out = [point for point in group if point.failures and meets_target(point)]
    if not good:
        text = _none_words(sound)
        return IndexAdvice(text + _left_out_words(left_out), None, {})
    best = cheapest(good)
    drift = drift_of(view, group)
    if rivals := rivals_of(best, good, drift):
        text, numbers = _withheld(best, rivals)
        return IndexAdvice(text + _left_out_words(left_out), None, numbers)
    disturbance = worst([drift, *map(load_on, good)])
    recorded = best.measured.machine_state is not None
    numbers = _numbers(view, best) | {"disturbance": disturbance.share if recorded else None}
    text = f"{best.name}: {_words(view, best)}.{_not_ruled_out(best)}"
    text += _unquiet_words(disturbance, len(good)) + _left_out_words(left_out)
    options = setting_options(best.result.index, best.result.search)
    return IndexAdvice(text, best.name, numbers, options)


def _withheld(best: Point, rivals: Sequence[Rival]) -> tuple[str, dict[str, Any]]:
    """What cannot be told apart, how near it is, why, and what to do; and the numbers of it."""
    names = [
        f"{rival.point.name} ({rounded(speed(rival.point))}, by {per_cent(rival.difference, 1)} %)"
        for rival in rivals[:SHOWN]
    ]
    more = len(rivals) - SHOWN
    names += [f"{whole(more)} more"] if more > 0 else []
    cause = worst(rival.disturbance for rival in rivals)
    todo = {
        "load": "end the other programs, or wait until they are done",
        "drift": "wait until the machine is steady, or raise measure.seconds and "
        "measure.repetitions",
    }
    text = (
        "No advice: this run cannot tell which setting is the fastest. "
        f"{cause.words[0].upper()}{cause.words[1:]}, which may change a speed by "
        f"{per_cent(cause.share, 1)} %; {best.name} ({rounded(speed(best))} users/s) differs by "
        f"less from {', '.join(names)}. To get an advice: {todo[cause.cause]}, and measure into "
        "another --out, as what a folder holds is not measured again."
    )
    points = [best, *(rival.point for rival in rivals)]
    speeds = {point.name: speed(point) for point in points}
    return text, {
        "withheld": cause.cause,
        "disturbance": cause.share,
        "users_per_second": speeds,
    }


def _unquiet_words(disturbance: Disturbance, compared: int) -> str:
    if not disturbance.matters:
        return ""
    apart = " All other settings that meet the target are further apart." if compared > 1 else ""
    return (
        f" The figures are not those of a quiet machine: {disturbance.words}, which may change "
        f"them by {per_cent(disturbance.share, 1)} %.{apart}"
    )


def _numbers(view: View, point: Point) -> dict[str, Any]:
    loss, flat = point.loss(), view.flat(point)
    relative = loss.relative if loss else None
    return {
        "k": point.k,
        "index_recall": point.index_recall,
        "recall": point.relevance(),
        "loss_relative": relative.mean if relative else None,
        "loss_relative_low": relative.low if relative else None,
        "loss_relative_high": relative.high if relative else None,
        "users_per_second": point.users_per_second(),
        "clients": point.best_clients,
        "flat_users_per_second": flat.users_per_second() if flat else None,
        "times_flat": view.times_flat(point),
        "p99_ms": point.latency.p99,
        "rss_mib": point.built(lambda build: build.rss_mib),
    }


def _words(view: View, point: Point) -> str:
    parts = [_quality_words(point), _speed_words(view, point)]
    parts.append(f"p99 {rounded(point.latency.p99)} ms")
    memory = point.built(lambda build: build.rss_mib)
    parts += [] if memory is None else [f"{whole(memory)} MiB of server memory"]
    return ", ".join(part for part in parts if part)


def _quality_words(point: Point) -> str:
    loss, name = point.loss(), f"recall@{point.k}"
    if loss is None or loss.relative is None:
        share = f"{per_cent(point.index_recall)} % of the exact list found"
        return f"{share} (relevance unknown: no held-out clicks)"
    if loss[:3] == (0, 0, 0):
        return f"nothing of {name} lost"
    if not loss.seen:
        return f"no loss of {name} seen above noise ({interval(loss.relative)})"
    return f"{per_cent(loss.relative.mean)} % of {name} lost ({interval(loss.relative)})"


def interval(loss: Loss) -> str:
    """The 95 % interval of a relative loss, in per cent."""
    return f"95 % interval {per_cent(loss.low)} to {per_cent(loss.high)} %"


def _speed_words(view: View, point: Point) -> str:
    rate, flat = point.users_per_second(), view.flat(point)
    if rate is None:
        return "throughput not measured"
    if flat is point:
        return f"{rounded(rate)} users/s"
    times = view.times_flat(point)
    if times is None or flat is None:
        return f"{rounded(rate)} users/s (no FLAT beside it)"
    theirs = rounded(flat.users_per_second())
    return f"{rounded(times)} times FLAT's throughput ({rounded(rate)} against {theirs} users/s)"


def _not_ruled_out(point: Point) -> str:
    """What the interval does not rule out."""
    loss = point.loss()
    relative = loss.relative if loss else None
    if relative is None or relative.high <= LARGEST_LOSS:
        return ""
    return (
        f" With these users a loss of up to {per_cent(relative.high)} % cannot be ruled out: the "
        f"target of {per_cent(LARGEST_LOSS, 1)} % is met by the mean alone."
    )


def _none_words(points: Sequence[Point]) -> str:
    if not points:
        return "No advice: every setting had failed requests."
    nearest = min(points, key=_distance)
    loss = nearest.loss()
    if loss is not None and loss.relative is not None:
        target = f"loses at most {per_cent(LARGEST_LOSS, 1)} % of recall@{nearest.k}"
        return (
            f"No setting {target}. The nearest is {nearest.name}: "
            f"{per_cent(loss.relative.mean)} % lost ({interval(loss.relative)})."
        )
    target = f"finds {per_cent(LEAST_RECALL, 0)} % of the exact list"
    return f"No setting {target}. The nearest is {nearest.name}: {_quality_words(nearest)}."


def _left_out_words(points: Sequence[Point]) -> str:
    if not points:
        return ""
    which = f"{whole(len(points))} setting" + ("s" if len(points) > 1 else "")
    return f" Left out for failed requests: {which}."
