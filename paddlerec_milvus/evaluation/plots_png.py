# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A report as a picture, readable in grey."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.evaluation.replay import ReplayReport
from paddlerec_milvus.evaluation.report import rows_of
from paddlerec_milvus.evaluation.results import EvaluationReport

TRUTHS = "held-out clicks"


def draw(report: EvaluationReport, file: Path) -> None:
    """Recall, NDCG and HitRate of each line of the table; below, interests, coverage, popularity.

    The interests are those of the last epoch.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(9.6, 6.8), layout="constrained")
    rows = rows_of(report)
    last = report.last
    for axis, name in zip(axes[0], ("recall", "ndcg", "hitrate"), strict=True):
        name = f"{name}@{report.top_n}"
        _bars(axis, f"{name}, %", list(rows), [row.relevance.flat()[name] for row in rows.values()])
    shares = last.interests.share_by_rank
    _bars(axes[1, 0], "a user's interests: share of the list, %", _ranks(len(shares)), shares)
    summaries = [row.lists for row in rows.values()] + [last.truths]
    for axis, title, heights in (
        (axes[1, 1], "coverage, % of all items", [lists.coverage for lists in summaries]),
        (
            axes[1, 2],
            "popularity rank, % (0: most popular)",
            [lists.popularity_rank for lists in summaries],
        ),
    ):
        _bars(axis, title, [*rows, TRUTHS], heights, last_hatched=True)
    figure.suptitle(f"{last.users:,} test users, clicks held out; {report.held_out.split}")
    with replacing(file) as fresh:
        figure.savefig(fresh, dpi=150, format="png")
    plt.close(figure)


def draw_replay(report: ReplayReport, file: Path) -> None:
    """B - A of each measure, and of the deciding one in groups of users, with 95 % intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    changes = {name: one.change for name, one in report.measures.items()}
    changes |= {f"{report.decides}, {one.title}": one.change for one in report.groups}
    figure, axis = plt.subplots(figsize=(9.6, 1.2 + 0.35 * len(changes)), layout="constrained")
    means = [100 * gain.mean for gain in changes.values()]
    sides = [
        [100 * (gain.mean - gain.low) for gain in changes.values()],
        [100 * (gain.high - gain.mean) for gain in changes.values()],
    ]
    axis.errorbar(means, range(len(means)), xerr=sides, fmt="o", color="black", capsize=3)
    axis.axvline(0, color="0.6", linewidth=1)
    axis.set_yticks(range(len(means)), list(changes))
    axis.invert_yaxis()
    axis.set_xlabel("B - A, points of a per cent")
    axis.set_title(f"{report.users:,} test users", fontsize="medium")
    axis.spines[["top", "right"]].set_visible(False)
    with replacing(file) as fresh:
        figure.savefig(fresh, dpi=150, format="png")
    plt.close(figure)


def _ranks(count: int) -> list[str]:
    return ["largest", *(f"{rank}." for rank in range(2, count + 1))]


def _bars(
    axis: Any,
    title: str,
    labels: Sequence[str],
    shares: Sequence[float | None],
    last_hatched: bool = False,
) -> None:
    """Bars of ``shares`` in per cent, dark to light, none for None; the last one may be hatched."""
    greyed = len(labels) - last_hatched
    greys = [str(0.25 + 0.6 * i / max(greyed - 1, 1)) for i in range(greyed)]
    greys += ["white"] * last_hatched
    heights = [float("nan") if share is None else 100 * share for share in shares]
    bars = axis.bar(range(len(labels)), heights, color=greys, edgecolor="black")
    if last_hatched:
        bars[-1].set_hatch("//")
    axis.bar_label(bars, fmt="%.1f", padding=2)
    axis.set_title(title, fontsize="medium")
    axis.set_xticks(range(len(labels)), labels, rotation=25, ha="right")
    axis.margins(y=0.15)
    axis.spines[["top", "right"]].set_visible(False)
