# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The charts of the page, as plotly figures; those that have nothing to show are not there."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from paddlerec_milvus.bench.load_results import LatencySummary
from paddlerec_milvus.bench.report.advice import best_by_type
from paddlerec_milvus.bench.report.appendix_tables import title_of
from paddlerec_milvus.bench.report.plot_style import (
    COLOURS,
    DASHES,
    MARKERS,
    TARGET,
    Axis,
    decades,
    loss_axis,
    p99_axis,
    pareto,
    recall_axis,
    styles_of,
    throughput_axis,
)
from paddlerec_milvus.bench.report.tables import lost
from paddlerec_milvus.bench.report.view import Point, View, fraction, rounded, whole
from paddlerec_milvus.bench.results import STAGES, StudyMeasurement, StudyValues
from paddlerec_milvus.errors import UserError

PATTERNS = ("", "/", "x", ".")
GREYS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
GROWTH: dict[str, dict[str, Callable[[StudyValues], float | None]]] = {
    "seconds": {
        "insert_seconds": lambda values: values.insert_seconds,
        "index_seconds": lambda values: values.index_seconds,
    },
    "MiB": {"rss_mib": lambda values: values.rss_mib, "disk_mib": lambda values: values.disk_mib},
    "ms": {"p50": lambda values: values.p50, "p99": lambda values: values.p99},
}


class Chart(NamedTuple):
    """A figure with what stands above it."""

    title: str
    hint: str
    figure: Any
    height: int
    """Pixels."""


def plotly(part: str = "plotly.graph_objects") -> Any:
    """A module of plotly. UserError where it is not installed."""
    try:
        return importlib.import_module(part)
    except ImportError as error:
        raise UserError(
            "the page of a report needs plotly: pip install 'paddlerec-milvus[bench]'"
        ) from error


def charts(view: View) -> list[Chart]:
    """All that the rows have something for."""
    made = [*_trade_offs(view), *_of_best(view), *_of_builds(view), *_growth(view)]
    return [chart for chart in made if chart.figure.data]


def _trade_offs(view: View) -> Iterator[Chart]:
    p99, rate, recall, lost_ = p99_axis(), throughput_axis(), recall_axis(view), loss_axis(view)
    target = f"The dotted line: {TARGET:g} %, the advice's target."
    yield _with_target(
        _scatter(
            view, "Relevance lost against p99", f"Left and low is better. {target}", p99, lost_
        )
    )
    yield _with_target(
        _scatter(
            view,
            "Relevance lost against throughput",
            f"Right and low is better. {target}",
            rate,
            lost_,
        )
    )
    hint = "Right and high is better; the broad grey line is the Pareto front."
    yield _with_front(_scatter(view, "index_recall against throughput", hint, recall, rate))
    hint = "What a missed neighbour costs in relevance."
    yield _with_target(_scatter(view, "Relevance lost against index_recall", hint, recall, lost_))


def _scatter(view: View, title: str, hint: str, across: Axis, up: Axis) -> Chart:
    """A line with markers for each build."""
    figure = plotly().Figure()
    all_x: list[float] = []
    all_y: list[float] = []
    for name, style in styles_of(view.points).items():
        ours = [
            (x, y, point)
            for point in view.points
            if point.build_name == name
            and (x := across.value(point)) is not None
            and (y := up.value(point)) is not None
        ]
        if not ours:
            continue
        all_x += [x for x, _, _ in ours]
        all_y += [y for _, y, _ in ours]
        figure.add_scatter(
            x=[across.place(x) for x, _, _ in ours],
            y=[up.place(y) for _, y, _ in ours],
            text=[hover(view, point) for _, _, point in ours],
            hovertemplate="%{text}<extra></extra>",
            name=escape(name),
            mode="lines+markers" if len(ours) > 1 else "markers",
            marker={"symbol": style.symbol, "size": 9, "line": {"width": 1.5}},
            line={"dash": style.dash, "color": style.colour, "width": 1.5},
        )
    for layout, axis, values in (("xaxis", across, all_x), ("yaxis", up, all_y)):
        if values:
            places, words = axis.ticks_at(values)
            ticks = {"tickvals": places, "ticktext": words, "title": {"text": axis.label}}
            figure.update_layout({layout: ticks})
    return _finished(title, hint, figure)


def _with_target(chart: Chart) -> Chart:
    """The loss that the advice allows, as a line across."""
    if chart.figure.data:
        place = math.asinh(1.0)
        chart.figure.add_hline(y=place, line={"dash": "dot", "color": "#444444", "width": 1})
    return chart


def hover(view: View, point: Point) -> str:
    """A setting and its numbers."""
    lines = [f"<b>{escape(point.name)}</b>"]
    shown = {
        f"index_recall@{point.k}": fraction(point.index_recall),
        f"recall@{point.k} lost, %": lost(point.loss()),
        "p50, p99": f"{rounded(point.latency.p50)}, {rounded(point.latency.p99)} ms",
        "users/s": rounded(point.users_per_second()),
        "clients": whole(point.best_clients),
        "times FLAT": rounded(view.times_flat(point)),
        "RSS, MiB": whole(point.built(lambda build: build.rss_mib)),
    }
    return "<br>".join([*lines, *(f"{name}: {text}" for name, text in shown.items() if text)])


def _with_front(chart: Chart) -> Chart:
    """The Pareto front of all its points, below them."""
    figure = chart.figure
    front = pareto([pair for trace in figure.data for pair in zip(trace.x, trace.y, strict=True)])
    if len(front) > 1:
        figure.add_scatter(
            x=[x for x, _ in front],
            y=[y for _, y in front],
            name="Pareto front",
            mode="lines",
            line={"color": "#BBBBBB", "width": 8},
            hoverinfo="skip",
            zorder=-1,
        )
    return chart


def _of_best(view: View) -> Iterator[Chart]:
    """Percentiles and clients, of the best setting of each type."""
    best = [point for group in view.groups for point in best_by_type(group)]
    yield _finished(
        "Latency percentiles",
        "The best setting of each type, one client. Low and level is better.",
        _lines(
            view,
            {point: _percentiles(point.latency) for point in best},
            ("per cent of requests", {"title": {"text": "at most, ms"}, "type": "log"}),
        ),
    )
    yield _finished(
        "Throughput by clients",
        "The best setting of each type.",
        _lines(
            view,
            {
                point: {f"{n}": point.users_per_second(n) for n in sorted(point.throughput)}
                for point in best
            },
            ("clients", {"title": {"text": "users/s"}, "rangemode": "tozero"}),
        ),
    )


def _percentiles(latency: LatencySummary) -> dict[str, float | None]:
    """Latencies by the share of the requests below them, in per cent."""
    return {"50": latency.p50, "95": latency.p95, "99": latency.p99, "99.9": latency.p99_9}


def _lines(
    view: View, shown: Mapping[Point, Mapping[str, float | None]], axes: tuple[str, dict[str, Any]]
) -> Any:
    """A line for each point, through what is known of it, each with a dash of its own."""
    figure, styles = plotly().Figure(), styles_of(view.points)
    for number, (point, values) in enumerate(shown.items()):
        known = {name: value for name, value in values.items() if value is not None}
        style = styles[point.build_name]
        if known:
            figure.add_scatter(
                x=list(known),
                y=list(known.values()),
                name=escape(point.name),
                mode="lines+markers",
                marker={"symbol": style.symbol, "size": 9, "line": {"width": 1.5}},
                line={"dash": DASHES[number % len(DASHES)][0], "color": style.colour},
            )
    figure.update_layout(xaxis={"title": {"text": axes[0]}, "type": "category"}, yaxis=axes[1])
    return _ticked(figure, "y")


def _of_builds(view: View) -> Iterator[Chart]:
    """Seconds and memory, a bar for each build."""
    names = [escape(build.name) for build in view.builds]
    stages = {
        stage: [build.measured.stage_seconds(stage) for build in view.builds] for stage in STAGES
    }
    figure = _bars(names, stages, "stack", "seconds")
    yield _finished("Build time", "From the first insert until it is loaded.", figure, len(names))
    memory: dict[str, list[float | None]] = {
        "measured, above the empty server": [build.measured.rss_added_mib for build in view.builds],
        "estimate of the index": [build.measured.estimate_mib for build in view.builds],
    }
    figure = _bars(names, memory, "group", "MiB")
    hint = "What the server holds with this index loaded."
    yield _finished("Memory", hint, figure, 2 * len(names))


def _bars(
    names: Sequence[str], parts: Mapping[Any, Sequence[float | None]], mode: str, unit: str
) -> Any:
    figure = plotly().Figure()
    for number, (part, values) in enumerate(parts.items()):
        if any(values):
            figure.add_bar(
                y=names,
                x=values,
                name=part,
                orientation="h",
                marker={
                    "color": GREYS[number],
                    "pattern": {"shape": PATTERNS[number], "bgcolor": "#FFFFFF", "solidity": 0.4},
                    "line": {"color": "#000000", "width": 0.5},
                },
                hovertemplate="%{y}<br>" + part + ": %{x:,.4g} " + unit + "<extra></extra>",
            )
    figure.update_layout(
        barmode=mode,
        xaxis={"title": {"text": unit}},
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return figure


def _growth(view: View) -> Iterator[Chart]:
    """Curves over the size of the catalogue, where the study was made."""
    lines = sorted(
        (row.measured for row in view.studies if row.measured.study == "scale"),
        key=lambda line: line.params.items or 0,
    )
    for unit, values in GROWTH.items():
        figure = plotly().Figure()
        for number, (name, value) in enumerate(values.items()):
            _grow(figure, lines, name, value, number)
        figure.update_layout(
            xaxis={"title": {"text": "items"}, "type": "log"},
            yaxis={"title": {"text": unit}, "type": "log"},
        )
        title = f"Growth with the catalogue, {unit}"
        hint = "An open marker is on paper, from a fit of the others."
        yield _finished(title, hint, _ticked(_ticked(figure, "x"), "y"))


def _grow(
    figure: Any,
    lines: Sequence[StudyMeasurement],
    name: str,
    value: Callable[[StudyValues], float | None],
    number: int,
) -> None:
    shown = [line for line in lines if value(line.values) is not None]
    if not shown:
        return
    symbol = MARKERS[number + 1][0]
    paper = ["on paper" in (line.params.vectors or "") for line in shown]
    figure.add_scatter(
        x=[line.params.items for line in shown],
        y=[value(line.values) for line in shown],
        name=title_of(name),
        mode="lines+markers",
        marker={"symbol": [symbol + "-open" * open_ for open_ in paper], "size": 10},
        line={"dash": DASHES[number][0], "color": COLOURS[number + 1]},
    )


def _ticked(figure: Any, letter: str) -> Any:
    """Ticks of a logarithmic axis at 1, 2, 5 … (1, 10 … over many decades)."""
    values = [value for trace in figure.data for value in trace[letter]]
    axis = figure.layout[f"{letter}axis"]
    if values and axis.type == "log":
        ticks = decades(values)
        ticks = ticks if len(ticks) < 7 else [tick for tick in ticks if f"{tick:e}"[0] == "1"]
        axis.update(tickvals=ticks, ticktext=[f"{tick:,.10g}" for tick in ticks])
    return figure


def _finished(title: str, hint: str, figure: Any, bars: int = 0) -> Chart:
    """Its legend below, as high as it needs."""
    plot = 40 + 26 * bars if bars else 270
    height = plot + 130 + 20 * len(figure.data)
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 58, "r": 12, "t": 28, "b": 70},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#111111"},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -62 / plot, "yanchor": "top"},
        showlegend=True,
        hoverlabel={"align": "left"},
        paper_bgcolor="#FFFFFF",
        plot_bgcolor="#FFFFFF",
    )
    figure.update_xaxes(
        gridcolor="#DDDDDD", linecolor="#444444", zeroline=False, title={"standoff": 8}
    )
    figure.update_yaxes(gridcolor="#DDDDDD", linecolor="#444444", zerolinecolor="#999999")
    return Chart(title, hint, figure, height)
