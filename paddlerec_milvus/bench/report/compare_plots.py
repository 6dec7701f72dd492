# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Two runs in pictures: where the settings of the first went in the second, and what is noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from paddlerec_milvus.bench.report.chart import Chart, chart_of, set_decades
from paddlerec_milvus.bench.report.compare import BEYOND, Comparison, Pair
from paddlerec_milvus.bench.report.compare_document import (
    RunComparison,
    relative_words,
    shown_number,
)
from paddlerec_milvus.bench.report.drawing import draw_line
from paddlerec_milvus.bench.report.plot_style import (
    Axis,
    loss_axis,
    p99_axis,
    recall_axis,
    styles_of,
    throughput_axis,
)
from paddlerec_milvus.bench.report.svg import FRONT, SPINE, Mark, Marks
from paddlerec_milvus.bench.report.view import Point

SHARES = ("index_recall", "recall@k")  # compared in percentage points, not in per cent


def comparison_charts(comparison: RunComparison) -> list[Chart]:
    """Settings of both runs along two axes, then each number's differences."""
    made = [*_moves(comparison), *_differences(comparison)]
    return [chart for chart in made if chart.svg]


def _moves(comparison: RunComparison) -> Iterator[Chart]:
    view = comparison.first
    rate, recall = throughput_axis(), recall_axis(view)
    hint = "Open: the first run, filled: the second. Right and high is better."
    yield _move(comparison, "index_recall against throughput", hint, recall, rate)
    if not comparison.other_data:
        hint = "Open: the first run, filled: the second. Left and low is better."
        axes = p99_axis(), loss_axis(view)
        yield _move(comparison, "Relevance lost against p99", hint, *axes)


def _move(comparison: RunComparison, title: str, hint: str, across: Axis, up: Axis) -> Chart:
    """A line from each setting's place in the first run to that in the second."""
    styles = styles_of(comparison.first.points)
    builds = list(styles)

    def place(point: Point) -> tuple[float, float] | None:
        x, y = across.value(point), up.value(point)
        return None if x is None or y is None else (x, y)

    def draw(axis: Any) -> Marks:
        marks: dict[str, tuple[Mark, Sequence[Mark]]] = {}
        values: list[tuple[float, float]] = []
        for number, pair in enumerate(comparison.pairs):
            both = [at for point in pair.points or () if (at := place(point))]
            if pair.points is None or len(both) < 2:
                continue
            values += both
            places = [(across.place(x), up.place(y)) for x, y in both]
            style, gid = styles[pair.build_name], f"move{number}"
            draw_line(axis, places, style, marker="", linestyle="-", linewidth=1)
            words = "\n".join([pair.name, *map(_words, pair.measures)])
            for end, is_open in ((0, True), (1, False)):
                draw_line(axis, [places[end]], style._replace(is_open=is_open), gid=f"{gid}-{end}")
                mark = Mark({"class": "point", "data-setting": number}, words)
                marks[f"{gid}-{end}"] = Mark({"data-build": builds.index(pair.build_name)}), [mark]
        if values:
            axis.set_xticks(*across.ticks_at([x for x, _ in values]))
            axis.set_yticks(*up.ticks_at([y for _, y in values]))
        axis.set(xlabel=across.label, ylabel=up.label)
        return marks

    return chart_of(title, hint, draw)


def _words(measure: Comparison) -> str:
    first, second = (shown_number(measure.name, at) for at in (measure.first, measure.second))
    change = f" ({relative_words(measure)} %)" if relative_words(measure) else ""
    return f"{measure.name}: {first} \N{RIGHTWARDS ARROW} {second}{change}, {measure.verdict}"


def _differences(comparison: RunComparison) -> Iterator[Chart]:
    names = dict.fromkeys(measure.name for pair in comparison.pairs for measure in pair.measures)
    hint = "Filled: beyond noise; the grey bars: what may be chance. 0: no difference."
    for name in names:
        shown = [
            (number, pair, measure)
            for number, pair in enumerate(comparison.pairs)
            for measure in pair.measures
            if measure.name == name and measure.first > 0
        ]
        draw = _difference_drawing(comparison, shown)
        yield chart_of(f"{name}: second against first", hint, draw)


def _difference_drawing(
    comparison: RunComparison, shown: Sequence[tuple[int, Pair, Comparison]]
) -> Callable[[Any], Marks]:
    """Over the first run's value: by how much the second differs, with what may be chance."""
    styles = styles_of(comparison.first.points)
    builds = list(styles)

    def draw(axis: Any) -> Marks:
        marks: dict[str, tuple[Mark, Sequence[Mark]]] = {}
        if not shown:
            return marks
        name, values = shown[0][2].name, [measure.first for _, _, measure in shown]
        is_share, recall = name in SHARES, recall_axis(comparison.first)
        place = recall.place if name == "index_recall" else float if is_share else math.log10
        axis.axhline(0, color=SPINE, linewidth=0.8)
        for number, pair, measure in shown:
            if pair.build_name not in styles:
                continue
            scale = 100 if is_share else 100 / measure.first
            x, y = place(measure.first), scale * (measure.second - measure.first)
            gid = f"difference{number}"
            if math.isfinite(measure.noise):
                noise = scale * measure.noise
                axis.plot([x, x], [-noise, noise], color=FRONT, linewidth=4, zorder=1)
            style = styles[pair.build_name]._replace(is_open=measure.verdict != BEYOND)
            draw_line(axis, [(x, y)], style, gid=gid)
            words = f"{pair.name}\n{_words(measure)}"
            mark = Mark({"class": "point", "data-setting": number}, words)
            marks[gid] = Mark({"data-build": builds.index(pair.build_name)}), [mark]
        if name == "index_recall":
            axis.set_xticks(*recall.ticks_at(values))
        elif not is_share:
            set_decades(axis.set_xticks, values)
        unit = "percentage points" if is_share else "per cent"
        axis.set(xlabel=f"{name}, first run", ylabel=f"difference, {unit}")
        return marks

    return draw
