# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Results as markdown and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quality_table.results import (
    METRICS,
    RECALL,
    TOP_N,
    Comparison,
    Estimate,
    LogQuality,
    Provenance,
    QualityReport,
)

DEFINITIONS = f"""\
Over all test users, per cent, lists of {TOP_N}, the mean over users last; the items of the history
are not excluded. recall: the share of a user's truths (as a set; with a split by users 8:1:1 the
last 20 % of the clicks) that the list holds. ndcg: DCG / IDCG, IDCG over min({TOP_N}, truths).
hitrate: the share of users with a hit. ± is the standard error over seeds; "± users" that of recall
over users. Every baseline was tuned on the valid users by {RECALL}, then measured on the test
users; "s" is the training alone on one thread, of baselines its processor time, of MIND the time
on the clock, with the trainer's start and its evaluation of each epoch."""


def markdown(report: QualityReport) -> str:
    """A section for each click log, then how it was measured."""
    lines = ["# Relevance: MIND and tuned baselines", "", f"    {report.command}", ""]
    lines += [DEFINITIONS, f"History: the last {report.maxlen} clicks.", ""]
    for name, result in report.data.items():
        lines += _section(name, result)
    lines += ["## How", ""]
    lines += [f"- {line}" for line in _notes(report)]
    return "\n".join(lines) + "\n"


def _section(name: str, result: LogQuality) -> list[str]:
    about = f"{result.items:,} items, {result.test_users:,} test users"
    about += f", {result.split}" if result.split else ""
    lines = [f"## {name}: {about}", ""]
    lines.append(f"| | {' | '.join(METRICS)} | ± users | valid {RECALL} | seeds | s | parameters |")
    lines.append("| --- |" + " ---: |" * (len(METRICS) + 4) + " --- |")
    for row in result.methods.values():
        cells = [
            row.title,
            *(_value(estimate) for estimate in (row.recall, row.ndcg, row.hitrate)),
            f"{100 * row.recall.se_users:.2f}",
            f"{100 * row.valid_recall:.2f}",
            str(row.seeds),
            f"{row.seconds:.1f}",
            _params(row.params),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for metric, best in zip(METRICS, (result.best, result.best_by_ndcg), strict=False):
        if best is not None:
            lines += [_difference(result.methods[best.baseline].title, metric, best), ""]
    lines += [f"Not measured: {why}.\n" for why in result.not_measured.values()]
    return lines


def _value(estimate: Estimate) -> str:
    seeds = estimate.se_seeds
    return f"{100 * estimate.mean:.2f}" + ("" if seeds is None else f" ± {100 * seeds:.2f}")


def _params(params: dict[str, Any]) -> str:
    if "options" in params:
        return " ".join(params["options"]) or "its yaml"
    return ", ".join(f"{key} {value}" for key, value in params.items())


def _difference(title: str, metric: str, best: Comparison) -> str:
    gain = best.difference
    interval = "95 % interval" if best.paired else "95 % interval, not paired,"
    return (
        f"MIND - {title}, the best baseline on these test users: {100 * gain.mean:+.2f} points "
        f"of {metric}, {interval} {100 * gain.low:+.2f} to {100 * gain.high:+.2f}; "
        f"relative **{100 * gain.relative:+.1f} %**."
    )


def _notes(report: QualityReport) -> list[str]:
    bootstrap = report.bootstrap
    grids = [f"{name}: {_grid(grid)}" for name, grid in report.grids.items() if grid]
    return [
        "Difference: of the users' values, mean over seeds; paired bootstrap over users, "
        f"{bootstrap.resamples:,} resamples, seed {bootstrap.seed}. Not paired: of two rows "
        "of different runs, from their standard errors over users alone, which is wider.",
        f"Grids. {'. '.join(grids)}. Parameters are the best of these on valid: of this run, "
        "or of an earlier one on the same data and grid (benchmarks/expected/quality.yaml).",
        "Held-out users: item-kNN, EASE and transitions sum the rows of the history's items, "
        "weighted by gamma^age (age 0: the last click) where there is a gamma; ALS solves its "
        "least squares for the user; BPR takes scale times the mean of the items' vectors.",
        "MIND: all interests of a user, exact search, merged by the best score; the best epoch on "
        "valid. PaddleRec's: its own folder and yaml, the last step of the given budget, one seed.",
        *_origins(report),
    ]


def _origins(report: QualityReport) -> list[str]:
    """A line for each run that rows come from."""
    last = Provenance(command=report.command, machine=report.machine, versions=report.versions)
    rows: list[tuple[str, Provenance]] = [
        (f"{log} {row.title}", row.origin or last)
        for log, result in report.data.items()
        for row in result.methods.values()
    ]
    runs = dict.fromkeys(origin.model_dump_json() for _, origin in rows)
    lines = []
    for number, run in enumerate(runs):
        origin = Provenance.model_validate_json(run)
        names = [name for name, of_row in rows if of_row.model_dump_json() == run]
        which = "All rows" if len(runs) == 1 else "All others" if not number else ", ".join(names)
        lines.append(
            f"{which}: `{origin.command}`; {_pairs(origin.machine)}; versions "
            f"{_pairs(origin.versions)}."
        )
    return [*lines[1:], *lines[:1]]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _grid(grid: dict[str, list[Any]]) -> str:
    return " × ".join(f"{key} {{{', '.join(map(str, values))}}}" for key, values in grid.items())


def draw(report: QualityReport, file: Path) -> None:
    """A panel for each data set: recall with the standard error over users; MIND is hatched."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    results = report.data
    figure, axes = plt.subplots(
        1, len(results), figsize=(1 + 5.0 * len(results), 3.8), layout="constrained", squeeze=False
    )
    for axis, (name, result) in zip(axes[0], results.items(), strict=True):
        rows = list(result.methods.values())
        ours = [name.startswith("mind") for name in result.methods]
        bars = axis.bar(
            range(len(rows)),
            [100 * row.recall.mean for row in rows],
            yerr=[100 * row.recall.se_users for row in rows],
            color=["white" if mind else "0.7" for mind in ours],
            hatch=["//" if mind else "" for mind in ours],
            edgecolor="black",
            capsize=3,
        )
        axis.bar_label(bars, fmt="%.1f", padding=2)
        axis.set_xticks(range(len(rows)), [row.title for row in rows], rotation=30, ha="right")
        axis.set_title(f"{name}, {result.test_users:,} test users")
        axis.margins(y=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel(f"{RECALL}, %, ± standard error over users")
    figure.savefig(file, dpi=150)
    plt.close(figure)
