# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Two runs side by side: what differs, and whether that is more than noise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from paddlerec_milvus.bench.report.format import fraction, per_cent, rounded, setting, whole
from paddlerec_milvus.bench.report.markdown import Column, Table, escaped, markdown
from paddlerec_milvus.bench.report.results import Point, Row, View, identity, view_of
from paddlerec_milvus.errors import UserError

LEAST = {"users/s": 0.05, "p50, ms": 0.05, "p99, ms": 0.10, "RSS, MiB": 0.05}
EQUAL = 1e-9  # a float's rounding
NOISE = (
    "Beyond noise: users/s, when they differ by more than the larger spread of the runs of either "
    "and 5 %; p50 by 5 %, p99 by 10 %, RSS by 5 %; index_recall by two standard errors of the "
    "difference; recall@k, when the 95 % intervals of what is lost do not overlap."
)


class Measure(NamedTuple):
    """A number of both runs; ``noise`` is what may lie between them by chance."""

    name: str
    first: float
    second: float
    noise: float

    @property
    def beyond(self) -> bool:
        """Whether the difference is more than noise."""
        return abs(self.second - self.first) > self.noise + EQUAL


@dataclass(frozen=True)
class Pair:
    """The same setting in both runs."""

    name: str
    measures: Sequence[Measure]


def compare(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> str:
    """The comparison of two lists of rows as Markdown; ``second`` less ``first``.

    UserError: rows of different schemas, no rows, or no setting that both have.
    """
    schemas = [sorted({str(row.get("schema")) for row in rows}) for rows in (first, second)]
    if first and second and schemas[0] != schemas[1]:
        raise UserError(
            f"rows of different schemas cannot be compared: {', '.join(schemas[0])} and "
            f"{', '.join(schemas[1])}; measure both with one version"
        )
    ours, theirs = view_of(first), view_of(second)
    same_data = _fingerprints(ours) == _fingerprints(theirs)
    pairs = _pairs(ours, theirs, same_data)
    if not pairs:
        raise UserError(
            "the two runs have no setting in common: compare runs of one sweep (same index, "
            "parameters and k)"
        )
    parts = ["# Two runs side by side", _summary(pairs), *_origins(ours, theirs, same_data)]
    parts += [_beyond_table(pairs), *_measure_tables(pairs), *_only(first, second), NOISE]
    return "\n\n".join(part for part in parts if part) + "\n"


def _fingerprints(view: View) -> set[str]:
    return {str(data.get("fingerprint")) for data in view.provenances("data")}


def _pairs(ours: View, theirs: View, same_data: bool) -> list[Pair]:
    points = {identity(point.row): point for point in theirs.points}
    pairs = [
        Pair(point.name, _measures(point, points[key], same_data))
        for point in ours.points
        if (key := identity(point.row)) in points
    ]
    builds = {identity(build.row): build.row.get("rss_mib") for build in theirs.builds}
    for build in ours.builds:
        one, other = build.row.get("rss_mib"), builds.get(identity(build.row))
        if one is not None and other is not None:
            pairs.append(Pair(build.name, [_by_share("RSS, MiB", one, other)]))
    return [pair for pair in pairs if pair.measures]


def _measures(one: Point, other: Point, same_data: bool) -> list[Measure]:
    found = [_throughput(one, other)]
    for name in ("p50", "p99"):
        a, b = one.latency(name), other.latency(name)
        found.append(None if a is None or b is None else _by_share(f"{name}, ms", a, b))
    found.append(_index_recall(one, other))
    found.append(_relevance(one, other) if same_data else None)
    return [measure for measure in found if measure is not None]


def _by_share(name: str, one: float, other: float) -> Measure:
    return Measure(name, one, other, LEAST[name] * abs(one))


def _throughput(one: Point, other: Point) -> Measure | None:
    """At the number of clients, of those that both have, where the first did most."""
    common = set(one.throughput) & set(other.throughput)
    if not common:
        return None
    clients = max(common, key=lambda number: one.users_per_second(number) or 0.0)
    a, b = one.users_per_second(clients), other.users_per_second(clients)
    if a is None or b is None:
        return None
    noise = max(LEAST["users/s"] * a, _spread(one, clients), _spread(other, clients))
    return Measure("users/s", a, b, noise)


def _spread(point: Point, clients: int) -> float:
    runs = point.throughput[clients].get("runs") or [0.0]
    return float(max(runs) - min(runs))


def _index_recall(one: Point, other: Point) -> Measure | None:
    a, b = one.index_recall(), other.index_recall()
    if a is None or b is None:
        return None
    errors = [point.index_recall("list", "se") or 0.0 for point in (one, other)]
    return Measure("index_recall", a, b, 2 * math.hypot(*errors))


def _relevance(one: Point, other: Point) -> Measure | None:
    """Judged by the intervals of what is lost: no noise where they do not overlap."""
    a, b, lost, theirs = one.relevance(), other.relevance(), one.loss(), other.loss()
    if a is None or b is None:
        return None
    overlap = not lost or not theirs or (lost.low <= theirs.high and theirs.low <= lost.high)
    return Measure("recall@k", a, b, math.inf if overlap else 0.0)


def _summary(pairs: Sequence[Pair]) -> str:
    measures = [measure for pair in pairs for measure in pair.measures]
    beyond = sum(measure.beyond for measure in measures)
    return (
        f"{whole(len(measures))} numbers compared: {whole(beyond)} differ by more than noise, "
        f"{whole(len(measures) - beyond)} do not."
    )


def _origins(ours: View, theirs: View, same_data: bool) -> list[str]:
    """What else differs between the runs, as a list."""
    lines = []
    if not same_data:
        lines.append(
            "**OTHER DATA: the two runs searched different vectors, users or clicks. Relevance is "
            "not comparable and left out; index_recall and speed are of different searches.**"
        )
    table = _different(ours, theirs)
    return lines + ([markdown(table)] if table.lines else [])


def _different(ours: View, theirs: View) -> Table:
    """The parts of the provenance that are not alike."""
    lines = []
    for part in ("machine", "server", "versions", "data", "measure"):
        one, other = (_joined(view.provenances(part)) for view in (ours, theirs))
        names = list(dict.fromkeys([*one, *other]))
        lines += [
            (f"{part}: {name}", one.get(name, ""), other.get(name, ""))
            for name in names
            if one.get(name) != other.get(name)
        ]
    seeds = [", ".join(map(str, view.provenances("seed"))) for view in (ours, theirs)]
    lines += [("seed", seeds[0], seeds[1])] if seeds[0] != seeds[1] else []
    titles = ("differs", "first", "second")
    columns = [
        Column(title, [line[place] for line in lines], words=True)
        for place, title in enumerate(titles)
    ]
    return Table("What else differs", columns)


def _joined(values: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name → all of its values in one text."""
    found: dict[str, list[str]] = {}
    for value in values:
        for name, each in value.items():
            text = each if isinstance(each, str) else json.dumps(each)
            if text not in found.setdefault(name, []):
                found[name].append(text)
    return {name: " and ".join(sorted(texts)) for name, texts in found.items()}


def _beyond_table(pairs: Sequence[Pair]) -> str:
    lines = [
        (f"{pair.name}: {measure.name}", measure)
        for pair in pairs
        for measure in pair.measures
        if measure.beyond
    ]
    return _section("Beyond noise", lines, verdict=False)


def _measure_tables(pairs: Sequence[Pair]) -> list[str]:
    names = list(dict.fromkeys(measure.name for pair in pairs for measure in pair.measures))
    return [
        _section(
            name,
            [(pair.name, each) for pair in pairs for each in pair.measures if each.name == name],
        )
        for name in names
    ]


def _section(title: str, lines: Sequence[tuple[str, Measure]], verdict: bool = True) -> str:
    if not lines:
        return ""
    measures = [measure for _, measure in lines]
    columns = [
        Column("setting", [name for name, _ in lines], words=True),
        Column("first", [_shown(each.name, each.first) for each in measures]),
        Column("second", [_shown(each.name, each.second) for each in measures]),
        Column("difference", [_signed(each) for each in measures]),
        Column("relative, %", [_relative(each) for each in measures]),
    ]
    if verdict:
        said = ["beyond noise" if each.beyond else "noise" for each in measures]
        columns.append(Column("verdict", said, words=True))
    return f"## {escaped(title)}\n\n{markdown(Table(title, columns))}"


def _shown(name: str, value: float) -> str:
    return fraction(value) if name in ("index_recall", "recall@k") else rounded(value)


def _signed(measure: Measure) -> str:
    difference = measure.second - measure.first
    sign = "+" if difference > 0 else ""
    return sign + _shown(measure.name, difference).replace("-", "\N{MINUS SIGN}")


def _relative(measure: Measure) -> str:
    if not measure.first:
        return ""
    share = measure.second / measure.first - 1
    return ("+" if share > 0 else "") + per_cent(share, 1)


def _only(first: Sequence[Row], second: Sequence[Row]) -> list[str]:
    """Rows that only one of the two has; a refused one is one that it lacks."""
    held = [
        {identity(row): row for row in rows if "refused" not in row} for rows in (first, second)
    ]
    parts = []
    for name, ours, theirs in (("first", held[0], held[1]), ("second", held[1], held[0])):
        alone = [_row_name(row) for key, row in ours.items() if key not in theirs]
        if alone:
            lines = "\n".join(f"- {escaped(each)}" for each in alone)
            parts.append(f"## Only in the {name} run\n\n{lines}")
    return parts


def _row_name(row: Row) -> str:
    what = row.get("engine") or row.get("study") or row["kind"]
    k = f", k {row['k']}" if "k" in row else ""
    params = row.get("params")
    more = f", {json.dumps(params)}" if params else ""
    return f"{what}: {setting(row['index'], row.get('search'))}{k}{more}"
