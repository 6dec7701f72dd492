# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The tables of a report beside settings and builds: engine, open loop, studies, machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paddlerec_milvus.bench.report.markdown import Column, Table
from paddlerec_milvus.bench.report.view import View, fraction, per_cent, rounded, whole
from paddlerec_milvus.bench.results import StudyParams, StudyResult, StudyValues
from paddlerec_milvus.retrieval.indexes import setting_name

STUDIES = {
    "exclusion": "Lists without items already seen",
    "filter": "Search among a category",
    "upserts": "Search while rows are written",
    "replacement": "A part of the catalogue replaced",
    "freshness": "From an insert to the first search that finds it",
    "scale": "Growth with the catalogue",
}
UNITS = {
    "p50": "p50, ms",
    "p99": "p99, ms",
    "rss_mib": "RSS, MiB",
    "disk_mib": "disk, MiB",
    "insert_seconds": "insert, s",
    "index_seconds": "index, s",
    "seconds": "took, s",
    "median_seconds": "median, s",
    "longest_seconds": "longest, s",
}
FRACTIONS = ("index_recall",)


def library_table(view: View) -> Table:
    """The engine alone beside Milvus at the same parameters."""
    lines = []
    for row in view.libraries:
        point = view.point_of(row)
        engine = row.measured.latency.p50
        served = point.latency.p50 if point else None
        above = None if served is None else served - engine
        lines.append(
            [
                point.name if point else setting_name(row.index, row.search),
                row.engine,
                fraction(row.measured.index_recall.list.mean),
                rounded(engine),
                rounded(served),
                rounded(above),
                per_cent(above / served, 0) if above is not None and served else "",
                rounded(row.measured.users_per_second),
                rounded(point.users_per_second(1) if point else None),
            ]
        )
    at_k = view.at_k if view.points else "@k"
    titles = ["setting", "engine", f"its index_recall{at_k}", "engine p50, ms", "Milvus p50, ms"]
    titles += ["above the engine, ms", "of Milvus' p50, %", "engine users/s", "Milvus users/s"]
    note = (
        "What client and server cost above the engine: the same vectors and parameters searched in "
        "the client's process by one thread, beside one client of Milvus."
    )
    return _from_lines("Above the engine", titles, lines, note, words=2)


def open_loop_table(view: View) -> Table:
    """Latency at a given rate, from the planned start."""
    lines = []
    for point in view.points:
        for load in point.measured.open_loop:
            times = [rounded(load.p50), rounded(load.p99), rounded(load.p99_9)]
            counts = [whole(load.clients), whole(load.planned)]
            answered = [whole(load.requests), whole(load.failures)]
            lines.append([point.name, rounded(load.rate), *counts, *answered, *times])
    titles = ["setting", "rate, users/s", "clients", "planned", "answered", "failures"]
    titles += ["p50, ms", "p99, ms", "p99.9, ms"]
    note = "Requests start on a timetable, and a latency counts from the planned start."
    return _from_lines("Open loop", titles, lines, note)


def study_tables(view: View) -> list[Table]:
    """One table for each study, its columns as the study sets them."""
    names = list(dict.fromkeys(row.measured.study for row in view.studies))
    return [
        _study_table(name, [row for row in view.studies if row.measured.study == name])
        for name in names
    ]


def _study_table(name: str, rows: Sequence[StudyResult]) -> Table:
    settings = [setting_name(row.index, row.search) for row in rows]
    params = [row.measured.params.model_dump() for row in rows]
    values = [row.measured.values.model_dump() for row in rows]
    columns = [
        *(
            Column(title_of(key), [_any_value(line[key]) for line in params], words=True)
            for key in StudyParams.model_fields
            if any(line[key] is not None for line in params)
        ),
        *(
            Column(title_of(key), [_value(key, line[key]) for line in values])
            for key in StudyValues.model_fields
            if any(line[key] is not None for line in values)
        ),
    ]
    same = len(set(settings)) == 1
    columns = columns if same else [Column("setting", settings, words=True), *columns]
    note = f"{settings[0]}." if same else ""
    return Table(STUDIES.get(name, name), columns, note)


def title_of(key: str) -> str:
    """A value of a study, with its unit."""
    return UNITS.get(key, key.replace("_", " ") if key not in FRACTIONS else key)


def _value(key: str, value: Any) -> str:
    return fraction(value) if key in FRACTIONS else _any_value(value)


def refused_table(view: View) -> Table:
    """What the server would not do."""
    lines = [[setting_name(row.index, row.search), row.what, row.reason] for row in view.refused]
    return _from_lines("Refused", ["setting", "what", "reason"], lines, words=3)


def origin_table(view: View) -> Table:
    """Machine, server, versions, data and how it was measured; each value that occurs."""
    lines = [
        [part, key, _plain(value)]
        for part, values in parts_of(view).items()
        for mapping in values
        for key, value in mapping.items()
        if value != ""
    ]
    lines += [["run", "seed", str(seed)] for seed in view.provenances(lambda row: row.seed)]
    lines += [["run", "sweep", name] for name in view.provenances(lambda row: row.sweep)]
    times = sorted(view.provenances(lambda row: row.time))
    lines.append(["run", "measured", " to ".join(dict.fromkeys([times[0], times[-1]]))])
    unique = list(map(list, dict.fromkeys(map(tuple, lines))))
    return _from_lines("Machine, versions, data", ["part", "name", "value"], unique, words=3)


def parts_of(view: View) -> dict[str, Sequence[Mapping[str, object]]]:
    """The parts of the provenance that are more than one value, each with all that occur."""
    return {
        "machine": view.provenances(lambda row: row.machine),
        "server": [part.model_dump() for part in view.provenances(lambda row: row.server)],
        "versions": view.provenances(lambda row: row.versions),
        "data": [
            part.model_dump(exclude_none=True) for part in view.provenances(lambda row: row.data)
        ],
        "measure": [part.model_dump() for part in view.provenances(lambda row: row.measure)],
    }


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _from_lines(
    title: str,
    titles: Sequence[str],
    lines: Sequence[Sequence[str]],
    note: str = "",
    words: int = 1,
) -> Table:
    """A table of lines; the first ``words`` columns hold words."""
    columns = [
        Column(name, [line[place] for line in lines], words=place < words)
        for place, name in enumerate(titles)
    ]
    return Table(title, columns, note)


def _any_value(value: Any) -> str:
    """Of a study, whatever it is."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return whole(value) if isinstance(value, int) else rounded(value)
