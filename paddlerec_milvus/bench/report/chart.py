# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A chart of a page: its drawing with what stands above it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from paddlerec_milvus.bench.report.plot_style import decades
from paddlerec_milvus.bench.report.svg import HEIGHT, WIDTH, Marks, chart_svg

MOST_TICKS = 6


class Chart(NamedTuple):
    """A drawing with what stands above it."""

    title: str
    hint: str
    svg: str


def chart_of(
    title: str,
    hint: str,
    draw: Callable[[Any], Marks],
    height: float = HEIGHT,
    margins: Mapping[str, float] = {},
) -> Chart:
    """A chart of the page by what draws it; without a drawing where that draws nothing."""
    name = "".join(letter for letter in title if letter.isalnum())
    return Chart(title, hint, chart_svg(name, title, draw, (WIDTH, height), margins))


def set_decades(
    set_ticks: Callable[[list[float], list[str]], Any], values: Sequence[float]
) -> None:
    """Ticks of a logarithmic axis, fewer of them the more decades there are."""
    if values:
        ticks = decades(values)
        for digits in (("1", "2", "5"), ("1",)):
            if len(ticks) > MOST_TICKS:
                ticks = [tick for tick in ticks if f"{tick:.9f}".strip("0.") in digits]
        set_ticks([math.log10(tick) for tick in ticks], [f"{tick:,.10g}" for tick in ticks])
