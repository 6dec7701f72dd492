# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The axes of the trade-off charts, stretched where settings that one would use differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from paddlerec_milvus.bench.report.advice import LARGEST_LOSS
from paddlerec_milvus.bench.report.results import Point, View

NEAREST = 1e-3  # index_recall below 1 from which on 1 itself is no longer far away
RECALL_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
LOSS_TICKS = (-10.0, -1.0, -0.3, -0.1, 0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
TARGET = 100 * LARGEST_LOSS  # per cent


class Axis(NamedTuple):
    """What it shows of a point and where that stands."""

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
    digits = (1, 2, 5) if max(values) > 10 * min(values) else (1, 1.5, 2, 3, 4, 5, 7)
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    ticks = [digit * 10.0**power for power in range(low, high + 1) for digit in digits]
    below = [tick for tick in ticks if tick <= min(values)]
    above = [tick for tick in ticks if tick >= max(values)]
    return [tick for tick in ticks if below[-1] <= tick <= above[0]]


def p99() -> Axis:
    """Logarithmic."""
    return Axis("p99, ms", lambda point: point.latency("p99"), math.log10, decades)


def throughput() -> Axis:
    """Logarithmic, at the best number of clients."""
    return Axis("users/s", lambda point: point.users_per_second(), math.log10, decades)


def index_recall(view: View) -> Axis:
    """Of the merged list; the logarithm of what is missed, so that 0.99 is not 0.999."""
    return Axis(
        f"index_recall{view.at_k}, list",
        lambda point: point.index_recall(),
        lambda found: -math.log10(1 - found + NEAREST),
        lambda values: _around(values, RECALL_TICKS),
    )


def lost(view: View) -> Axis:
    """recall@k lost, in per cent of it; nearly logarithmic beyond the advice's target."""
    return Axis(
        f"recall{view.at_k} lost, %",
        _per_cent_lost,
        lambda loss: math.asinh(loss / TARGET),
        lambda values: _around(values, LOSS_TICKS),
    )


def _per_cent_lost(point: Point) -> float | None:
    loss = point.loss()
    return 100 * loss.relative.mean if loss and loss.relative else None


def _around(values: Sequence[float], ticks: Sequence[float]) -> list[float]:
    """The ticks within ``values``, and one more at either side."""
    low = max((tick for tick in ticks if tick <= min(values)), default=ticks[0])
    high = min((tick for tick in ticks if tick >= max(values)), default=ticks[-1])
    return [tick for tick in ticks if low <= tick <= high]
