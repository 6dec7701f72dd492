# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A report as one picture of four charts, readable in grey."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from paddlerec_milvus.bench.report.advice import best_by_type
from paddlerec_milvus.bench.report.drawing import draw_builds, draw_front, draw_target
from paddlerec_milvus.bench.report.plot_style import (
    DASHES,
    loss_axis,
    p99_axis,
    recall_axis,
    styles_of,
    throughput_axis,
)
from paddlerec_milvus.bench.report.view import BuildView, View

NOTHING = "not measured"


def as_png(view: View, title: str) -> bytes:
    """index_recall and throughput, relevance lost and p99, throughput by clients, memory."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 9), layout="constrained")
    _throughput(axes[0, 0], view)
    _latency(axes[0, 1], view)
    _clients(axes[1, 0], view)
    _memory(axes[1, 1], view.builds)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    figure.suptitle(title.replace("$", r"\$"))
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    plt.close(figure)
    return out.getvalue()


def _throughput(axis: Any, view: View) -> None:
    """With the Pareto front below the lines."""
    lines = draw_builds(axis, view, recall_axis(view), throughput_axis())
    draw_front(axis, lines, color="0.8", lw=7)
    _named(axis, "index_recall and throughput (grey: Pareto front)")


def _latency(axis: Any, view: View) -> None:
    """Relevance lost, or without held-out clicks index_recall, over p99."""
    if any(point.loss() for point in view.points):
        up = loss_axis(view)
        draw_builds(axis, view, p99_axis(), up)
        draw_target(axis, up, color="0.3")
        _named(axis, "Relevance lost and p99 (dotted: the advice's target)")
    else:
        draw_builds(axis, view, p99_axis(), recall_axis(view))
        _named(axis, "index_recall and p99")


def _clients(axis: Any, view: View) -> None:
    """The best setting of each type."""
    best = [point for group in view.groups for point in best_by_type(group)]
    styles = styles_of(view.points)
    numbers = sorted({number for point in best for number in point.throughput})
    for place, point in enumerate(best):
        style, ours = styles[point.build_name], sorted(point.throughput)
        axis.plot(
            [numbers.index(number) for number in ours],
            [point.users_per_second(number) for number in ours],
            color=style.colour,
            marker=style.marker,
            linestyle=DASHES[place % len(DASHES)],
            label=point.name,
        )
    axis.set_xticks(range(len(numbers)), list(map(str, numbers)))
    if numbers:
        axis.set_ylim(bottom=0)
        axis.legend(
            fontsize="x-small",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
            ncols=2,
            frameon=False,
        )
    axis.set_xlabel("clients")
    axis.set_ylabel("users/s")
    _named(axis, "Throughput by clients, best of each type")


def _memory(axis: Any, builds: Sequence[BuildView]) -> None:
    """Measured above the empty server, beside the estimate."""
    shown = [
        build for build in builds if build.measured.estimate_mib or build.measured.rss_added_mib
    ]
    places = range(len(shown))
    for shift, label, values, style in (
        (-0.2, "measured", [build.measured.rss_added_mib for build in shown], {"color": "0.35"}),
        (
            0.2,
            "estimate of the index",
            [build.measured.estimate_mib for build in shown],
            {"color": "white", "hatch": "///"},
        ),
    ):
        axis.barh(
            [place + shift for place in places],
            [value or 0.0 for value in values],
            height=0.38,
            edgecolor="black",
            label=label,
            **style,
        )
    axis.set_yticks(list(places), [build.name for build in shown], fontsize="x-small")
    if shown:
        axis.invert_yaxis()
        axis.margins(x=0.45)  # room for the legend beside the bars
        axis.legend(fontsize="small", loc="upper right")
    axis.set_xlabel("MiB")
    _named(axis, "Memory above the empty server")


def _named(axis: Any, title: str) -> None:
    axis.set_title(title, fontsize="medium")
    axis.grid(visible=True, color="0.9")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if not axis.has_data():
        axis.text(0.5, 0.5, NOTHING, ha="center", va="center", transform=axis.transAxes)
