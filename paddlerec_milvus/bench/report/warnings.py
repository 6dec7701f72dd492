# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What looks wrong in the rows of a run, and is said rather than left for the reader to find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from paddlerec_milvus.bench.report.format import fraction, setting, whole
from paddlerec_milvus.bench.report.results import Point, View


class Remark(NamedTuple):
    """On a setting or a build, by its name."""

    name: str
    short: str
    """For a cell."""
    text: str
    about: str = ""
    """The build, where the sentence is on several of its settings and is said once."""


def remarks(view: View) -> list[Remark]:
    """All of them, those on builds first."""
    on_builds = [
        Remark(build.name, "see warnings", text)
        for build in view.builds
        for text in build.row.get("warnings") or []
    ]
    return [
        *on_builds,
        *_without_effect(view),
        *(remark for point in view.points for remark in _on_point(point)),
        *(
            Remark(f"{row['engine']}: {setting(row['index'], row['search'])}", "", text)
            for row in view.floors
            for text in row.get("warnings") or []
        ),
    ]


def _without_effect(view: View) -> Iterator[Remark]:
    """Search settings that found the very same ids: all of a build, or neighbouring values."""
    for group in view.groups:
        builds: dict[str, list[Point]] = {}
        for point in group:
            builds.setdefault(point.build_name, []).append(point)
        for name, points in builds.items():
            if _alike(points):
                text = _effect_words(points)
                yield from (Remark(point.name, "no effect", text, name) for point in points)
            else:
                yield from _of_neighbours(name, points)


def _alike(points: Sequence[Point]) -> bool:
    """Whether several settings, all of them, found the same."""
    digests = {point.row.get("found") for point in points}
    settings = {str(point.row["search"]) for point in points}
    return len(settings) > 1 and len(digests) == 1 and None not in digests


def _of_neighbours(name: str, points: Sequence[Point]) -> Iterator[Remark]:
    """A remark on each setting that finds what the next smaller value of one parameter finds."""
    for key in dict.fromkeys(key for point in points for key in point.row["search"]):
        for line in _lines_along(key, points):
            for alike in _runs(line):
                text = _effect_words(alike, "they")
                short = f"as {key} {alike[0].row['search'][key]}"
                yield from (Remark(point.name, short, text, name) for point in alike[1:])


def _lines_along(key: str, points: Sequence[Point]) -> list[list[Point]]:
    """Settings that differ in ``key`` alone, by its value."""
    lines: dict[str, list[Point]] = {}
    for point in points:
        others = {name: value for name, value in point.row["search"].items() if name != key}
        if key in point.row["search"]:
            lines.setdefault(str(sorted(others.items())), []).append(point)
    return [sorted(line, key=lambda point: point.row["search"][key]) for line in lines.values()]


def _runs(line: Sequence[Point]) -> Iterator[list[Point]]:
    """The longest pieces of ``line`` that found the same, of two settings or more."""
    start = 0
    for end in range(1, len(line) + 1):
        if end == len(line) or not _alike([line[start], line[end]]):
            if end - start > 1:
                yield list(line[start:end])
            start = end


def _effect_words(points: Sequence[Point], who: str = "all settings") -> str:
    searches = [point.row["search"] for point in points]
    changed = [key for key in searches[0] if len({str(each.get(key)) for each in searches}) > 1]
    values = ["/".join(str(each.get(key)) for key in changed) for each in searches]
    recall = points[0].index_recall("interest")
    found = f"{who} found the very same items"
    if recall == 1.0:
        found += ", all of the exact ones: the smallest is enough"
    elif recall is not None:
        found += f" (index_recall {fraction(recall)}), so the parameter does nothing here"
    return f"{'/'.join(changed)} {', '.join(values)} without effect: {found}"


def _on_point(point: Point) -> Iterator[Remark]:
    if point.failures:
        count = whole(point.failures)
        yield Remark(point.name, "failures", f"{count} failed requests; times are of the others")
    for text in point.row.get("warnings") or []:
        yield Remark(point.name, "see warnings", text)
    short = point.row.get("short_lists") or 0
    if short:
        yield Remark(point.name, "short lists", f"{whole(short)} users got less than k items")


def by_name(found: Sequence[Remark]) -> dict[str, str]:
    """Name of a setting or build → its short remarks."""
    return {
        name: ", ".join(dict.fromkeys(each.short for each in found if each.name == name))
        for name in {each.name for each in found}
    }


def sentences(found: Sequence[Remark]) -> list[str]:
    """Each remark once; one about a build stands for all its settings."""
    return list(dict.fromkeys(f"{each.about or each.name}: {each.text}" for each in found))
