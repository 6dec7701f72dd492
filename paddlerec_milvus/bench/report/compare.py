# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Two runs side by side: what differs, and whether that is more than noise."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from paddlerec_milvus.bench.report.appendix_tables import parts_of
from paddlerec_milvus.bench.report.markdown import Column, Table, escaped, markdown
from paddlerec_milvus.bench.report.steadiness import (
    NOTHING,
    Disturbance,
    clock_drift,
    load_on,
    machine_words,
    repeat_drift,
    worst,
)
from paddlerec_milvus.bench.report.view import (
    Point,
    View,
    fraction,
    identity,
    per_cent,
    rounded,
    view_of,
    whole,
)
from paddlerec_milvus.bench.results import (
    BuildResult,
    LibraryResult,
    Refusal,
    RepeatResult,
    Result,
    SearchResult,
    StudyResult,
)
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.retrieval.indexes import setting_name

LEAST = {"users/s": 0.05, "p50, ms": 0.05, "p99, ms": 0.10, "RSS, MiB": 0.05}
EQUAL = 1e-9  # a float's rounding
NOISE = (
    "Beyond noise: users/s, when they differ by more than the larger spread of the runs of either "
    "and 5 %; p50 by 5 %, p99 by 10 %, RSS by 5 %; index_recall by two standard errors of the "
    "difference; recall@k, when the 95 % intervals of what is lost do not overlap."
)
BEYOND = "beyond noise"
UNRECORDED = Disturbance(0.0, "", "not recorded")
HIDDEN = {"load": "the machine was busy", "drift": "within drift"}
DISTURBED = (
    "Load, drift: by how much the load of other programs and steal while one of the two was "
    "measured, or the drift of a run or from one to the other, may have changed a speed. A "
    "difference that is no larger is not beyond noise, whatever the runs of either say; nor is any "
    "difference of a latency beside such load, as a request may wait for any time."
)


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
    """The same setting in both runs."""

    name: str
    measures: Sequence[Comparison]


def compare(first: Sequence[Result], second: Sequence[Result]) -> str:
    """The comparison of two lists of rows as Markdown; ``second`` less ``first``.

    UserError: no rows, or no setting that both have.
    """
    ours, theirs = view_of(first), view_of(second)
    same_data = _fingerprints(ours) == _fingerprints(theirs)
    pairs = _pairs(ours, theirs, same_data)
    if not pairs:
        raise UserError(
            "the two runs have no setting in common: compare runs of one sweep (same index, "
            "parameters and k)"
        )
    parts = ["# Two runs side by side", _summary(pairs), *_origins(ours, theirs, same_data)]
    parts += [_beyond_table(pairs), *_number_tables(pairs), *_only(first, second), NOISE]
    parts.append(DISTURBED)
    return "\n\n".join(part for part in parts if part) + "\n"


def _fingerprints(view: View) -> set[str]:
    return {data.fingerprint for data in view.provenances(lambda row: row.data)}


def _pairs(ours: View, theirs: View, same_data: bool) -> list[Pair]:
    points = {identity(point.result): point for point in theirs.points}
    drift = worst(repeat_drift(view, view.points) for view in (ours, theirs))
    pairs = [
        Pair(point.name, _measures(point, points[key], same_data, drift))
        for point in ours.points
        if (key := identity(point.result)) in points
    ]
    builds = {identity(build.result): build.measured.rss_mib for build in theirs.builds}
    for build in ours.builds:
        one, other = build.measured.rss_mib, builds.get(identity(build.result))
        if one is not None and other is not None:
            pairs.append(Pair(build.name, [_by_share("RSS, MiB", one, other)]))
    return [pair for pair in pairs if pair.measures]


def _disturbances(one: Point, other: Point, drift: Disturbance) -> tuple[Disturbance, Disturbance]:
    """Of a setting's throughput, and of its latencies; ``drift`` is that within the two runs."""
    if one.measured.machine_state is None or other.measured.machine_state is None:
        return UNRECORDED, UNRECORDED
    machines = [point.result.provenance.machine for point in (one, other)]
    between = clock_drift([one, other]) if machines[0] == machines[1] else NOTHING
    load = worst([load_on(one), load_on(other)])
    of_rate = worst([load, between, drift])
    return of_rate, load._replace(share=math.inf) if load.matters else of_rate


def _measures(one: Point, other: Point, same_data: bool, drift: Disturbance) -> list[Comparison]:
    of_rate, of_latency = _disturbances(one, other, drift)
    measures = [
        _throughput(one, other, of_rate),
        _by_share("p50, ms", one.latency.p50, other.latency.p50, of_latency),
        _by_share("p99, ms", one.latency.p99, other.latency.p99, of_latency),
        _index_recall(one, other),
        _relevance(one, other) if same_data else None,
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


def _summary(pairs: Sequence[Pair]) -> str:
    measures = [measure for pair in pairs for measure in pair.measures]
    verdicts = Counter(measure.verdict for measure in measures)
    beyond, hidden = verdicts[BEYOND], sum(verdicts[name] for name in HIDDEN.values())
    words = f", {whole(hidden)} by no more than load or drift may have done" if hidden else ""
    return (
        f"{whole(len(measures))} numbers compared: {whole(beyond)} differ by more than noise"
        f"{words}, {whole(len(measures) - beyond - hidden)} do not."
    )


def _origins(ours: View, theirs: View, same_data: bool) -> list[str]:
    """What else differs between the runs, as a list."""
    lines = []
    if not same_data:
        lines.append(
            "**OTHER DATA: the two runs searched different vectors, users or clicks. Relevance is "
            "not comparable and left out; index_recall and speed are of different searches.**"
        )
    lines += [
        f"- {name} run: {escaped(words)}"
        for name, view in (("First", ours), ("Second", theirs))
        if (words := machine_words(view))
    ]
    table = _different(ours, theirs)
    return lines + ([markdown(table)] if table.lines else [])


def _different(ours: View, theirs: View) -> Table:
    """The parts of the provenance that are not alike."""
    lines = []
    parts, others = parts_of(ours), parts_of(theirs)
    for part in parts:
        one, other = _joined(parts[part]), _joined(others[part])
        lines += [
            (f"{part}: {name}", one.get(name, ""), other.get(name, ""))
            for name in dict.fromkeys([*one, *other])
            if one.get(name) != other.get(name)
        ]
    seeds = [
        ", ".join(str(seed) for seed in view.provenances(lambda row: row.seed))
        for view in (ours, theirs)
    ]
    lines += [("seed", seeds[0], seeds[1])] if seeds[0] != seeds[1] else []
    titles = ("differs", "first", "second")
    columns = [
        Column(title, [line[place] for line in lines], words=True)
        for place, title in enumerate(titles)
    ]
    return Table("What else differs", columns)


def _joined(parts: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Name → all of its values in one text."""
    texts: dict[str, set[str]] = {}
    for part in parts:
        for name, value in part.items():
            text = value if isinstance(value, str) else json.dumps(value)
            texts.setdefault(name, set()).add(text)
    return {name: " and ".join(sorted(values)) for name, values in texts.items()}


def _beyond_table(pairs: Sequence[Pair]) -> str:
    lines = [
        (f"{pair.name}: {measure.name}", measure)
        for pair in pairs
        for measure in pair.measures
        if measure.verdict == BEYOND
    ]
    return _section("Beyond noise", lines, verdict=False)


def _number_tables(pairs: Sequence[Pair]) -> list[str]:
    names = list(dict.fromkeys(measure.name for pair in pairs for measure in pair.measures))
    return [
        _section(
            name,
            [(pair.name, value) for pair in pairs for value in pair.measures if value.name == name],
        )
        for name in names
    ]


def _section(title: str, lines: Sequence[tuple[str, Comparison]], verdict: bool = True) -> str:
    if not lines:
        return ""
    measures = [measure for _, measure in lines]
    columns = [
        Column("setting", [name for name, _ in lines], words=True),
        Column("first", [_shown(value.name, value.first) for value in measures]),
        Column("second", [_shown(value.name, value.second) for value in measures]),
        Column("difference", [_signed(value) for value in measures]),
        Column("relative, %", [_relative(value) for value in measures]),
    ]
    columns.append(Column("load, drift", [value.disturbed for value in measures], words=True))
    if verdict:
        columns.append(Column("verdict", [value.verdict for value in measures], words=True))
    return f"## {escaped(title)}\n\n{markdown(Table(title, columns))}"


def _shown(name: str, value: float) -> str:
    return fraction(value) if name in ("index_recall", "recall@k") else rounded(value)


def _signed(measure: Comparison) -> str:
    difference = measure.second - measure.first
    sign = "+" if difference > 0 else ""
    return sign + _shown(measure.name, difference).replace("-", "\N{MINUS SIGN}")


def _relative(measure: Comparison) -> str:
    if not measure.first:
        return ""
    share = measure.second / measure.first - 1
    return ("+" if share > 0 else "") + per_cent(share, 1)


def _only(first: Sequence[Result], second: Sequence[Result]) -> list[str]:
    """Rows that only one of the two has; a refused one is one that it lacks."""
    ours, theirs = (
        {identity(row): row for row in rows if not isinstance(row, Refusal | RepeatResult)}
        for rows in (first, second)
    )
    parts = []
    for name, mine, others in (("first", ours, theirs), ("second", theirs, ours)):
        alone = [_row_name(row) for key, row in mine.items() if key not in others]
        if alone:
            lines = "\n".join(f"- {escaped(row)}" for row in alone)
            parts.append(f"## Only in the {name} run\n\n{lines}")
    return parts


def _row_name(row: BuildResult | SearchResult | LibraryResult | StudyResult) -> str:
    if isinstance(row, BuildResult):
        return f"{row.kind}: {setting_name(row.index)}"
    words = f"{setting_name(row.index, row.search)}, k {row.k}"
    if isinstance(row, LibraryResult):
        return f"{row.engine}: {words}"
    if isinstance(row, StudyResult):
        params = row.measured.params.model_dump(exclude_none=True)
        return f"{row.measured.study}: {words}, {json.dumps(params)}"
    return f"{row.kind}: {words}"
