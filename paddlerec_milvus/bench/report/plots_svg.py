# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The charts of the page; those that have nothing to show are not there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from paddlerec_milvus.bench.report.advice import best_by_type
from paddlerec_milvus.bench.report.chart import Chart, chart_of, set_decades
from paddlerec_milvus.bench.report.drawing import (
    DrawnLine,
    draw_builds,
    draw_front,
    draw_line,
    draw_target,
)
from paddlerec_milvus.bench.report.plot_style import (
    TARGET,
    Axis,
    PlotStyle,
    loss_axis,
    p99_axis,
    ranked_loss_axis,
    recall_axis,
    styles_of,
    throughput_axis,
)
from paddlerec_milvus.bench.report.plots_of_builds import build_charts, growth_charts
from paddlerec_milvus.bench.report.svg import (
    FRONT,
    SPINE,
    Mark,
    Marks,
    chart_svg,
)
from paddlerec_milvus.bench.report.tables import RANKED_NDCG, lost
from paddlerec_milvus.bench.report.view import Point, View, fraction, rounded, whole


class LegendEntry(NamedTuple):
    """A build as all charts show it."""

    number: int
    """As in the charts' ``data-build``."""
    name: str
    swatch: str


def legend_of(view: View) -> list[LegendEntry]:
    """The one legend: a line with its marker for each build."""
    return [
        LegendEntry(number, name, _swatch(number, style))
        for number, (name, style) in enumerate(styles_of(view.points).items())
    ]


def _swatch(number: int, style: PlotStyle) -> str:
    def draw(axis: Any) -> Marks:
        axis.set_axis_off()
        axis.set(xlim=(0, 1), ylim=(-1, 1))
        draw_line(axis, [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0)], style, markevery=[1])
        return {}

    none = dict.fromkeys(("left", "right", "top", "bottom"), 0)
    return chart_svg(f"swatch{number}", "", draw, (40, 14), none)


def charts(view: View) -> list[Chart]:
    """All that the rows have something for."""
    made = [*_trade_offs(view), *_of_best(view), *build_charts(view), *growth_charts(view)]
    return [chart for chart in made if chart.svg]


def _trade_offs(view: View) -> Iterator[Chart]:
    p99, rate, recall, lost_ = p99_axis(), throughput_axis(), recall_axis(view), loss_axis(view)
    target = f"The dotted line: {TARGET:g} %, the advice's target."
    title = "Relevance lost against p99"
    yield _scatter(view, title, f"Left and low is better. {target}", p99, lost_, targeted=True)
    title = "Relevance lost against throughput"
    yield _scatter(view, title, f"Right and low is better. {target}", rate, lost_, targeted=True)
    title = "index_recall against throughput"
    hint = "Right and high is better; the broad grey line is the Pareto front."
    yield _scatter(view, title, hint, recall, rate, targeted=False)
    title = "Relevance lost against index_recall"
    hint = "What a missed neighbour costs in relevance."
    yield _scatter(view, title, hint, recall, lost_, targeted=True)
    title = "Ranked relevance lost against index_recall"
    hint = f"What a missed neighbour costs in the ten best, after ranking. Dotted: {TARGET:g} %."
    yield _scatter(view, title, hint, recall, ranked_loss_axis(), targeted=True)


def _scatter(view: View, title: str, hint: str, across: Axis, up: Axis, targeted: bool) -> Chart:
    """A line with markers for each build, and the advice's target or the Pareto front."""

    def draw(axis: Any) -> Marks:
        lines = draw_builds(axis, view, across, up)
        if lines and targeted:
            draw_target(axis, up, color=SPINE)
        elif lines:
            draw_front(axis, lines, color=FRONT, linewidth=8, solid_capstyle="round")
        return marks_of(view, lines)

    return chart_of(title, hint, draw)


def marks_of(view: View, lines: Sequence[DrawnLine]) -> Marks:
    """What the page knows of drawn builds: which one a line is, and each setting's numbers."""
    numbers = {point: number for number, point in enumerate(view.points)}
    builds = list(styles_of(view.points))
    return {
        line.gid: (
            Mark({"class": "line", "data-build": builds.index(line.build)}),
            [
                Mark({"class": "point", "data-setting": numbers[point]}, words_of(view, point))
                for point in line.points
            ],
        )
        for line in lines
    }


def words_of(view: View, point: Point) -> str:
    """A setting and its numbers, a line for each."""
    shown = {
        f"index_recall@{point.k}": fraction(point.index_recall),
        f"recall@{point.k} lost, %": lost(point.loss()),
        f"{RANKED_NDCG} lost, %": lost(point.ranked_loss()),
        "p50, p99": f"{rounded(point.latency.p50)}, {rounded(point.latency.p99)} ms",
        "users/s": rounded(point.users_per_second()),
        "clients": whole(point.best_clients),
        "times FLAT": rounded(view.times_flat(point)),
        "RSS, MiB": whole(point.built(lambda build: build.rss_mib)),
    }
    return "\n".join([point.name, *(f"{name}: {text}" for name, text in shown.items() if text)])


def _of_best(view: View) -> Iterator[Chart]:
    """Percentiles and clients, of the best setting of each type."""
    best = [point for group in view.groups for point in best_by_type(group)]
    percentiles = {point: _percentiles(point) for point in best}

    def latencies(axis: Any) -> Marks:
        lines = _draw_steps(axis, view, percentiles, math.log10)
        times = [value for values in percentiles.values() for value in values.values()]
        set_decades(axis.set_yticks, times)
        axis.set(xlabel="per cent of requests", ylabel="at most, ms")
        return marks_of(view, lines)

    hint = "The best setting of each type (a point says which), one client. Low is better."
    yield chart_of("Latency percentiles", hint, latencies)

    def by_clients(axis: Any) -> Marks:
        rates = {
            point: {f"{n}": load.users_per_second for n, load in sorted(point.throughput.items())}
            for point in best
        }
        lines = _draw_steps(axis, view, rates, float)
        axis.set_ylim(bottom=0)
        axis.set(xlabel="clients", ylabel="users/s")
        axis.yaxis.set_major_formatter("{x:,.0f}")
        return marks_of(view, lines)

    yield chart_of("Throughput by clients", "The same settings. High is better.", by_clients)


def _percentiles(point: Point) -> dict[str, float]:
    """Latencies by the share of the requests below them, in per cent; those above 0."""
    latency = point.latency
    named = {"50": latency.p50, "95": latency.p95, "99": latency.p99, "99.9": latency.p99_9}
    return {share: time for share, time in named.items() if time}


def _draw_steps(
    axis: Any,
    view: View,
    values: Mapping[Point, Mapping[str, float]],
    place: Callable[[float], float],
) -> list[DrawnLine]:
    """A line for each setting through its named values, the names side by side."""
    styles = styles_of(view.points)
    names = sorted({name for shown in values.values() for name in shown}, key=float)
    lines = []
    for number, (point, shown) in enumerate(values.items()):
        places = [(float(names.index(name)), place(value)) for name, value in shown.items()]
        if places:
            gid = f"step{number}"
            draw_line(axis, places, styles[point.build_name], zorder=2 + number, gid=gid)
            lines.append(DrawnLine(gid, point.build_name, [point] * len(places), places))
    axis.set_xticks(range(len(names)), names)
    return lines
