# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Results as a picture: recall of every row on every log."""

from __future__ import annotations

from pathlib import Path

from quality_table.baselines import METHODS
from quality_table.models import OTHERS
from quality_table.results import RECALL, QualityReport


def draw(report: QualityReport, file: Path) -> None:
    """A panel for each data set: recall, with the standard error over users, the best row on top.

    Models of the zoo are hatched, the recommended one is black.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    results = report.data
    most = max(len(result.methods) for result in results.values())
    figure, axes = plt.subplots(
        1,
        len(results),
        figsize=(1 + 4.5 * len(results), 1.2 + 0.28 * most),
        layout="constrained",
        squeeze=False,
    )
    for axis, (name, result) in zip(axes[0], results.items(), strict=True):
        rows = sorted(result.methods.items(), key=lambda pair: pair[1].recall.mean)
        ours = [method not in METHODS and method not in OTHERS for method, _ in rows]
        best = [method == report.recommended.method for method, _ in rows]
        bars = axis.barh(
            range(len(rows)),
            [100 * row.recall.mean for _, row in rows],
            xerr=[100 * row.recall.se_users for _, row in rows],
            color=[
                "black" if top else "white" if mine else "0.7"
                for top, mine in zip(best, ours, strict=True)
            ],
            hatch=["//" if mine and not top else "" for top, mine in zip(best, ours, strict=True)],
            edgecolor="black",
            capsize=2,
        )
        axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.set_yticks(range(len(rows)), [row.title for _, row in rows])
        axis.set_title(f"{name}, {result.test_users:,} test users")
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel(f"{RECALL}, %, ± standard error over users")
    figure.savefig(file, dpi=120)
    plt.close(figure)
