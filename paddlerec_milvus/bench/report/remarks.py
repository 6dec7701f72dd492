# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What looks wrong in the rows of a run, and is said rather than left for the reader to find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from paddlerec_milvus.bench.report.view import Point, View
from paddlerec_milvus.bench.report.words import fraction, whole


class Remark(NamedTuple):
    """On a setting or a build, by its name."""

    name: str
    short: str
    """For a cell."""
    text: str


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
    ]


def _without_effect(view: View) -> Iterator[Remark]:
    """Builds whose search settings all found the very same ids, one remark for each setting."""
    for group in view.groups:
        builds: dict[str, list[Point]] = {}
        for point in group:
            builds.setdefault(point.build_name, []).append(point)
        for name, points in builds.items():
            digests = {point.row.get("found") for point in points}
            settings = {str(point.row["search"]) for point in points}
            if len(settings) > 1 and len(digests) == 1 and None not in digests:
                text = _effect_words(points)
                yield from (Remark(point.name, "no effect", f"{name}: {text}") for point in points)


def _effect_words(points: Sequence[Point]) -> str:
    searches = [point.row["search"] for point in points]
    changed = [key for key in searches[0] if len({str(each.get(key)) for each in searches}) > 1]
    values = ["/".join(str(each.get(key)) for key in changed) for each in searches]
    recall = points[0].index_recall("interest")
    found = "all settings found the very same items"
    if recall == 1.0:
        found += ", all of the exact ones: the smallest is enough"
    elif recall is not None:
        found += f" (index_recall {fraction(recall)}), so the parameter does nothing here"
    return f"{'/'.join(changed)} {', '.join(values)} without effect: {found}"


def _on_point(point: Point) -> Iterator[Remark]:
    if point.failures:
        count = whole(point.failures)
        yield Remark(point.name, "failures", f"{count} failed requests; times are of the others")
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
    """Each remark once; one that names its build itself stands for all its settings."""
    lines = [
        each.text if each.short == "no effect" else f"{each.name}: {each.text}" for each in found
    ]
    return list(dict.fromkeys(lines))
