# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The tables of a report beside settings and builds: engine, open loop, studies, machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddlerec_milvus.bench.report.format import (
    any_value,
    fraction,
    per_cent,
    rounded,
    setting,
    whole,
)
from paddlerec_milvus.bench.report.markdown import Column, Table
from paddlerec_milvus.bench.report.results import Row, View

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


def floor_table(view: View) -> Table:
    """The engine alone beside Milvus at the same parameters."""
    lines = []
    for row in view.floors:
        point = view.point_of(row)
        engine = row["latency"]["p50"]
        served = point.latency("p50") if point else None
        above = None if served is None else served - engine
        found = ((row.get("index_recall") or {}).get("list") or {}).get("mean")
        lines.append(
            [
                point.name if point else setting(row["index"], row["search"]),
                str(row["engine"]),
                fraction(found),
                rounded(engine),
                rounded(served),
                rounded(above),
                per_cent(above / served, 0) if above is not None and served else "",
                rounded(row.get("users_per_second")),
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
        for each in point.row.get("open_loop") or []:
            planned = each.get("planned", each.get("sent"))
            times = [rounded(each.get(name)) for name in ("p50", "p99", "p99_9")]
            counts = [whole(each.get(n)) for n in ("clients",)] + [whole(planned)]
            answered = [whole(each.get("requests")), whole(each.get("failures"))]
            lines.append([point.name, rounded(each["rate"]), *counts, *answered, *times])
    titles = ["setting", "rate, users/s", "clients", "planned", "answered", "failures"]
    titles += ["p50, ms", "p99, ms", "p99.9, ms"]
    note = "Requests start on a timetable, and a latency counts from the planned start."
    return _from_lines("Open loop", titles, lines, note)


def study_tables(view: View) -> list[Table]:
    """One table for each study, its columns as the rows have them."""
    names = list(dict.fromkeys(row["study"] for row in view.studies))
    return [
        _study_table(name, [row for row in view.studies if row["study"] == name]) for name in names
    ]


def _study_table(name: str, rows: Sequence[Row]) -> Table:
    asked = list(dict.fromkeys(key for row in rows for key in row["params"]))
    found = list(dict.fromkeys(key for row in rows for key in row["values"]))
    settings = [setting(row["index"], row.get("search")) for row in rows]
    columns = [
        *(
            Column(title_of(key), [any_value(row["params"].get(key)) for row in rows], words=True)
            for key in asked
        ),
        *(
            Column(title_of(key), [_value(key, row["values"].get(key)) for row in rows])
            for key in found
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
    return fraction(value) if key in FRACTIONS else any_value(value)


def refused_table(view: View) -> Table:
    """What the server would not do."""
    lines = [
        [setting(row["index"], row.get("search")), str(row["kind"]), str(row["refused"])]
        for row in view.refused
    ]
    return _from_lines("Refused", ["setting", "what", "reason"], lines, words=3)


def origin_table(view: View) -> Table:
    """Machine, server, versions, data and how it was measured; each value that occurs."""
    lines = []
    for part in ("machine", "server", "versions", "data", "measure"):
        for value in view.provenances(part):
            lines += [[part, key, _plain(each)] for key, each in value.items() if each != ""]
    for part in ("seed", "sweep"):
        lines += [["run", part, str(each)] for each in view.provenances(part)]
    times = sorted(view.provenances("time"))
    lines += (
        [["run", "measured", " to ".join(dict.fromkeys([times[0], times[-1]]))]] if times else []
    )
    unique = list(map(list, dict.fromkeys(map(tuple, lines))))
    return _from_lines("Machine, versions, data", ["part", "name", "value"], unique, words=3)


def _plain(value: Any) -> str:
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
