# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the picture and the page draw alike: the settings of each build, along two axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from paddlerec_milvus.bench.report.plot_style import TARGET, Axis, PlotStyle, pareto, styles_of
from paddlerec_milvus.bench.report.view import Point, View


class DrawnLine(NamedTuple):
    """A build in a chart: its settings, and where they stand, in the order of the line."""

    gid: str
    """Of the line and its markers, in an SVG."""
    build: str
    points: Sequence[Point]
    places: Sequence[tuple[float, float]]


def draw_builds(axis: Any, view: View, across: Axis, up: Axis) -> list[DrawnLine]:
    """A line with markers for each build on a matplotlib ``axis``, with ticks and labels."""
    lines: list[DrawnLine] = []
    values: list[tuple[float, float]] = []
    for number, (name, style) in enumerate(styles_of(view.points).items()):
        ours = [
            (point, x, y)
            for point in view.points
            if point.build_name == name
            and (x := across.value(point)) is not None
            and (y := up.value(point)) is not None
        ]
        if not ours:
            continue
        places = [(across.place(x), up.place(y)) for _, x, y in ours]
        gid = f"build{number}"
        draw_line(axis, places, style, label=name, zorder=2 + number, gid=gid)
        lines.append(DrawnLine(gid, name, [point for point, _, _ in ours], places))
        values += [(x, y) for _, x, y in ours]
    if values:
        axis.set_xticks(*across.ticks_at([x for x, _ in values]))
        axis.set_yticks(*up.ticks_at([y for _, y in values]))
    axis.set_xlabel(across.label)
    axis.set_ylabel(up.label)
    return lines


def draw_line(
    axis: Any, places: Sequence[tuple[float, float]], style: PlotStyle, **options: Any
) -> None:
    """A line with markers in a build's style; ``options`` as matplotlib's ``plot`` takes them."""
    drawn = {
        "color": style.colour,
        "marker": style.marker,
        "linestyle": style.line,
        "markerfacecolor": "white" if style.is_open else style.colour,
    }
    axis.plot(*zip(*places, strict=True), **{**drawn, **options})


def draw_front(axis: Any, lines: Sequence[DrawnLine], **options: Any) -> None:
    """The Pareto front of all settings, broad and grey, below their lines."""
    front = pareto([place for line in lines for place in line.places])
    if front:
        axis.plot(*zip(*front, strict=True), zorder=0, **options)


def draw_target(axis: Any, up: Axis, **options: Any) -> None:
    """The loss that the advice allows, as a dotted line across."""
    axis.axhline(up.place(TARGET), linestyle=":", zorder=1, **options)
