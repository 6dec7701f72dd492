# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page's charts of builds, their seconds and memory, and of growth with the catalogue."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from paddlerec_milvus.bench.report.appendix_tables import title_of
from paddlerec_milvus.bench.report.chart import MOST_TICKS, Chart, chart_of, set_decades
from paddlerec_milvus.bench.report.svg import PAPER, SHADES, Mark, Marks
from paddlerec_milvus.bench.report.view import View, rounded
from paddlerec_milvus.bench.results import STAGES, StudyValues

BAR, LABEL = 14, 18  # units of height
GROWTH: dict[str, dict[str, Callable[[StudyValues], float | None]]] = {
    "seconds": {
        "insert_seconds": lambda values: values.insert_seconds,
        "index_seconds": lambda values: values.index_seconds,
    },
    "MiB": {"rss_mib": lambda values: values.rss_mib, "disk_mib": lambda values: values.disk_mib},
    "ms": {"p50": lambda values: values.p50, "p99": lambda values: values.p99},
}
Growth = tuple[int, float, bool]
"""Items, a value, and whether both are on paper."""


def build_charts(view: View) -> Iterator[Chart]:
    """Seconds and memory, a bar for each build."""
    stages: dict[str, list[float | None]] = {
        stage: [build.measured.stage_seconds(stage) for build in view.builds] for stage in STAGES
    }
    hint = "From the first insert until it is loaded."
    yield _bars(view, "Build time", hint, stages, "seconds")
    memory: dict[str, list[float | None]] = {
        "measured": [build.measured.rss_added_mib for build in view.builds],
        "estimate of the index": [build.measured.estimate_mib for build in view.builds],
    }
    hint = "What the server holds with this index loaded, above the empty server."
    yield _bars(view, "Memory", hint, memory, "MiB", stacked=False)


def _bars(
    view: View,
    title: str,
    hint: str,
    parts: Mapping[str, Sequence[float | None]],
    unit: str,
    stacked: bool = True,
) -> Chart:
    """The name of a build above its bars: of its parts one after another, or below each other."""
    shown = {part: values for part, values in parts.items() if any(values)}
    if not shown:
        return Chart(title, hint, "")
    names = [build.name for build in view.builds]
    rows = 1 if stacked else len(shown)
    pitch = LABEL + BAR * rows
    height = pitch * len(names) + 76

    def draw(axis: Any) -> Marks:
        left = [0.0] * len(names)
        marks: dict[str, tuple[Mark, Sequence[Mark]]] = {}
        for row, (part, values) in enumerate(shown.items()):
            widths = [value or 0.0 for value in values]
            tops = [pitch * n + LABEL + (0 if stacked else BAR * row) for n in range(len(names))]
            colour = SHADES[2 * row if not stacked else row]
            starts = left if stacked else None
            bars = axis.barh(
                tops, widths, BAR - 2, starts, align="edge", color=colour, edgecolor=PAPER,
                linewidth=0.5, label=part,
            )  # fmt: skip
            for bar, name, width in zip(bars, names, widths, strict=True):
                bar.set_gid(f"bar{len(marks)}")
                words = f"{name}\n{part}: {rounded(width)} {unit}"
                marks[f"bar{len(marks)}"] = Mark({"class": "bar"}, words), ()
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for number, name in enumerate(names):
            axis.text(0, pitch * number + LABEL - 4, name)
        axis.set(ylim=(pitch * len(names), 0), yticks=[], xlabel=unit)
        axis.xaxis.set_major_formatter("{x:,.10g}")
        axis.locator_params(axis="x", nbins=MOST_TICKS - 1)
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(shown), handlelength=1)
        return marks

    return chart_of(title, hint, draw, height, {"left": 12, "top": 26})


def growth_charts(view: View) -> Iterator[Chart]:
    """Curves over the size of the catalogue, where the study was made."""
    lines = sorted(
        (row.measured for row in view.studies if row.measured.study == "scale"),
        key=lambda line: line.params.items or 0,
    )
    hint = "An open marker is on paper, from a fit of the others."
    for unit, values in GROWTH.items():
        curves = {
            title_of(name): [
                (line.params.items, y, "on paper" in (line.params.vectors or ""))
                for line in lines
                if line.params.items and (y := value(line.values))
            ]
            for name, value in values.items()
        }
        title = f"Growth with the catalogue, {unit}"
        yield chart_of(title, hint, partial(_draw_growth, unit, curves))


def _draw_growth(unit: str, curves: Mapping[str, Sequence[Growth]], axis: Any) -> Marks:
    """A line for each curve, both axes logarithmic."""
    for number, (title, curve) in enumerate(curves.items()):
        if not curve:
            continue
        places = [(math.log10(x), math.log10(y)) for x, y, _ in curve]
        line, marker = ("-", "--")[number], "os"[number]
        axis.plot(*zip(*places, strict=True), color=SHADES[0], linestyle=line, label=title)
        for (x, y), (_, _, is_paper) in zip(places, curve, strict=True):
            face = PAPER if is_paper else SHADES[0]
            axis.plot(x, y, marker, color=SHADES[0], markerfacecolor=face)
    drawn = [part for curve in curves.values() for part in curve]
    set_decades(axis.set_xticks, [x for x, _, _ in drawn])
    set_decades(axis.set_yticks, [y for _, y, _ in drawn])
    axis.set(xlabel="items", ylabel=unit)
    if drawn:
        axis.legend(loc="upper left")
    return {}
