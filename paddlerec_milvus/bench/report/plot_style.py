# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Colours, markers and lines: one type of index, one colour and one marker, readable in grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from paddlerec_milvus.bench.report.results import Point


class Look(NamedTuple):
    """Of one build in all charts."""

    colour: str
    symbol: str
    """For plotly."""
    marker: str
    """The same for matplotlib."""
    dash: str
    """For plotly."""
    line: Any
    """The same for matplotlib."""


# Okabe and Ito's palette, safe for colour-blind readers; yellow is left out on white
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = (
    ("star", "*"),
    ("circle", "o"),
    ("square", "s"),
    ("triangle-up", "^"),
    ("diamond", "D"),
    ("cross", "P"),
    ("x", "X"),
    ("triangle-down", "v"),
    ("pentagon", "p"),
    ("hexagon", "h"),
)
DASHES: tuple[tuple[str, Any], ...] = (
    ("solid", "-"),
    ("dash", "--"),
    ("dot", ":"),
    ("dashdot", "-."),
    ("longdash", (0, (9, 3))),
    ("longdashdot", (0, (9, 3, 2, 3))),
)


def looks(points: Sequence[Point]) -> dict[str, Look]:
    """Name of a build → its look: colour and marker by its type, line by its place in it.

    Without the colours twice as many builds of a type differ as there are lines: the second round
    has the markers filled that were open.
    """
    types = list(dict.fromkeys(point.type for point in points))
    found: dict[str, Look] = {}
    seen = dict.fromkeys(types, 0)
    for point in points:
        if point.build_name not in found:
            number, place = types.index(point.type), seen[point.type]
            seen[point.type] += 1
            symbol, marker = MARKERS[number % len(MARKERS)]
            dash, line = DASHES[place % len(DASHES)]
            symbol += "-open" if (place + place // len(DASHES)) % 2 else ""
            colour = COLOURS[number % len(COLOURS)]
            found[point.build_name] = Look(colour, symbol, marker, dash, line)
    return found


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other one beats in both numbers (more is better), by the first number."""
    front: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front[::-1]
