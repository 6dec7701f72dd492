# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How all charts look: a colour and a marker for each type of index, and the axes.

Readable in grey. The axes are stretched where settings that one would use differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from paddlerec_milvus.bench.report.advice import LARGEST_LOSS
from paddlerec_milvus.bench.report.view import Loss, Point, View


class PlotStyle(NamedTuple):
    """How a build is drawn, the same in all charts; marker and line in matplotlib's words."""

    colour: str
    marker: str
    is_open: bool
    """Whether the marker is not filled."""
    line: Any


NEAREST = 1e-3  # index_recall below 1 from which on 1 itself is no longer far away
RECALL_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
NEAR = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 8, 9)
LOSS_TICKS = (-10.0, -1.0, -0.3, -0.1, 0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
TARGET = 100 * LARGEST_LOSS  # per cent

# Okabe and Ito's palette, safe for colour-blind readers; yellow is left out on white
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("*", "o", "s", "^", "D", "P", "X", "v", "p", "h")
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (9, 3)), (0, (9, 3, 2, 3)))


def styles_of(points: Sequence[Point]) -> dict[str, PlotStyle]:
    """Name of a build → its style: colour and marker by its type, line by its place in it.

    Without the colours twice as many builds of a type differ as there are lines: the second round
    has the markers filled that were open.
    """
    types = list(dict.fromkeys(point.type for point in points))
    styles: dict[str, PlotStyle] = {}
    seen = dict.fromkeys(types, 0)
    for point in points:
        if point.build_name not in styles:
            number, place = types.index(point.type), seen[point.type]
            seen[point.type] += 1
            styles[point.build_name] = PlotStyle(
                COLOURS[number % len(COLOURS)],
                MARKERS[number % len(MARKERS)],
                bool((place + place // len(DASHES)) % 2),
                DASHES[place % len(DASHES)],
            )
    return styles


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other one beats in both numbers (more is better), by the first number."""
    front: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front[::-1]


class Axis(NamedTuple):
    """What an axis shows of a point and where that stands."""

    label: str
    value: Callable[[Point], float | None]
    place: Callable[[float], float]
    ticks: Callable[[Sequence[float]], Sequence[float]]
    """Values, among which those within the given ones are shown."""

    def ticks_at(self, values: Sequence[float]) -> tuple[list[float], list[str]]:
        """Places and words of the ticks for ``values``."""
        shown = self.ticks(values)
        return [self.place(tick) for tick in shown], [f"{tick:,.10g}" for tick in shown]


def decades(values: Sequence[float]) -> list[float]:
    """1, 2, 5, 10 … that lie around positive ``values``; more of them within one decade."""
    span = max(values) / min(values)
    digits = (1, 2, 5) if span > 10 else (1, 1.5, 2, 3, 4, 5, 7) if span > 2 else NEAR
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    ticks = [digit * 10.0**power for power in range(low, high + 1) for digit in digits]
    below = [tick for tick in ticks if tick <= min(values)]
    above = [tick for tick in ticks if tick >= max(values)]
    return [tick for tick in ticks if below[-1] <= tick <= above[0]]


def p99_axis() -> Axis:
    """Latency below which 99 of 100 requests stay; logarithmic."""
    return Axis("p99, ms", lambda point: point.latency.p99, math.log10, decades)


def throughput_axis() -> Axis:
    """Logarithmic, at the best number of clients."""
    return Axis("users/s", lambda point: point.users_per_second(), math.log10, decades)


def recall_axis(view: View) -> Axis:
    """Of the merged list; the logarithm of what is missed, so that 0.99 is not 0.999."""
    return Axis(
        f"index_recall{view.at_k}, list",
        lambda point: point.index_recall,
        lambda recall: -math.log10(1 - recall + NEAREST),
        lambda values: _around(values, RECALL_TICKS),
    )


def loss_axis(view: View) -> Axis:
    """recall@k lost, in per cent of it; nearly logarithmic beyond the advice's target."""
    return _loss_axis(f"recall{view.at_k} lost, %", lambda point: point.loss())


def ranked_loss_axis() -> Axis:
    """ndcg@10 lost after ranking, as :func:`loss_axis`."""
    return _loss_axis("ranked ndcg@10 lost, %", lambda point: point.ranked_loss())


def _loss_axis(label: str, loss_of: Callable[[Point], Loss | None]) -> Axis:
    return Axis(
        label,
        lambda point: _per_cent(loss_of(point)),
        lambda loss: math.asinh(loss / TARGET),
        lambda values: _around(values, LOSS_TICKS),
    )


def _per_cent(loss: Loss | None) -> float | None:
    return 100 * loss.relative.mean if loss and loss.relative else None


def _around(values: Sequence[float], ticks: Sequence[float]) -> list[float]:
    """The ticks within ``values``, and one more at either side."""
    low = max((tick for tick in ticks if tick <= min(values)), default=ticks[0])
    high = min((tick for tick in ticks if tick >= max(values)), default=ticks[-1])
    return [tick for tick in ticks if low <= tick <= high]
