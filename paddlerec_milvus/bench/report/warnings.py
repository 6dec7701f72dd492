# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What looks wrong in the rows of a run, and is said rather than left for the reader to find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from paddlerec_milvus.bench.report.view import Point, View, fraction, whole
from paddlerec_milvus.retrieval.indexes import setting_name


class Remark(NamedTuple):
    """On a setting or a build, by its name."""

    name: str
    short: str
    """For a cell."""
    text: str
    about: str = ""
    """The build, where the sentence is on several of its settings and is said once."""


def remarks_of(view: View) -> list[Remark]:
    """All of them, those on builds first."""
    on_builds = [
        Remark(build.name, "see warnings", text)
        for build in view.builds
        for text in build.measured.warnings
    ]
    return [
        *on_builds,
        *_without_effect(view),
        *(remark for point in view.points for remark in _on_point(point)),
        *(
            Remark(f"{row.engine}: {setting_name(row.index, row.search)}", "", text)
            for row in view.libraries
            for text in row.measured.warnings
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
    digests = {point.measured.quality.ids_digest for point in points}
    settings = {str(point.result.search) for point in points}
    return len(settings) > 1 and len(digests) == 1 and None not in digests


def _of_neighbours(name: str, points: Sequence[Point]) -> Iterator[Remark]:
    """A remark on each setting that finds what the next smaller value of one parameter finds."""
    for key in dict.fromkeys(key for point in points for key in point.result.search):
        for line in _lines_along(key, points):
            for alike in _runs(line):
                text = _effect_words(alike, "they")
                short = f"as {key} {alike[0].result.search[key]}"
                yield from (Remark(point.name, short, text, name) for point in alike[1:])


def _lines_along(key: str, points: Sequence[Point]) -> list[list[Point]]:
    """Settings that differ in ``key`` alone, by its value."""
    lines: dict[str, list[Point]] = {}
    for point in points:
        others = {name: value for name, value in point.result.search.items() if name != key}
        if key in point.result.search:
            lines.setdefault(str(sorted(others.items())), []).append(point)
    return [
        sorted(line, key=lambda point: float(point.result.search[key])) for line in lines.values()
    ]


def _runs(line: Sequence[Point]) -> Iterator[list[Point]]:
    """The longest pieces of ``line`` that found the same, of two settings or more."""
    start = 0
    for end in range(1, len(line) + 1):
        if end == len(line) or not _alike([line[start], line[end]]):
            if end - start > 1:
                yield list(line[start:end])
            start = end


def _effect_words(points: Sequence[Point], who: str = "all settings") -> str:
    searches = [point.result.search for point in points]
    changed = [key for key in searches[0] if len({str(search.get(key)) for search in searches}) > 1]
    values = ["/".join(str(search.get(key)) for key in changed) for search in searches]
    recall = points[0].measured.quality.index_recall.interest.mean
    effect = f"{who} found the very same items"
    if recall == 1.0:
        effect += ", all of the exact ones: the smallest is enough"
    else:
        effect += f" (index_recall {fraction(recall)}), so the parameter does nothing here"
    return f"{'/'.join(changed)} {', '.join(values)} without effect: {effect}"


def _on_point(point: Point) -> Iterator[Remark]:
    if point.failures:
        count = whole(point.failures)
        yield Remark(point.name, "failures", f"{count} failed requests; times are of the others")
    for text in point.measured.warnings:
        yield Remark(point.name, "see warnings", text)
    short = point.measured.quality.short_lists
    if short:
        yield Remark(point.name, "short lists", f"{whole(short)} users got less than k items")


def by_name(remarks: Sequence[Remark]) -> dict[str, str]:
    """Name of a setting or build → its short remarks."""
    return {
        name: ", ".join(dict.fromkeys(part.short for part in remarks if part.name == name))
        for name in {remark.name for remark in remarks}
    }


def sentences(remarks: Sequence[Remark]) -> list[str]:
    """Each remark once; one about a build stands for all its settings."""
    return list(dict.fromkeys(f"{part.about or part.name}: {part.text}" for part in remarks))
