# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Results as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quality_table import fusion
from quality_table.baselines import METHODS
from quality_table.results import (
    FIELDS,
    NAMES,
    RECALL,
    SHORT,
    TOP_N,
    Comparison,
    Estimate,
    LogQuality,
    MethodQuality,
    Provenance,
    QualityReport,
    TrainingRun,
)

DEFINITIONS = f"""\
Over all test users, per cent, lists of {TOP_N} and their first {SHORT}, the mean over users last;
the items of the history are not excluded. recall: the share of a user's truths (as a set; with a
split by users 8:1:1 the last 20 % of the clicks) that the list holds. ndcg@N: DCG / IDCG, IDCG over
min(N, truths). hitrate: the share of users with a hit. ± is the standard error over seeds; "±
users" that of {RECALL} over users. Every baseline was tuned on the valid users by {RECALL}, then
measured on the test users. "s" is the training alone on one thread: of baselines its processor
time, of models the time on the clock, with the start and the look at the valid users after each
epoch. "weights": of the whole model, the item table included. "tower": milliseconds of the user
tower for one user on one thread, while another training may run beside. "vectors": of a user, each
a search, and their width."""
COLUMNS = ("± users", f"valid {RECALL}", "seeds", "s", "weights", "tower", "vectors")


def markdown(report: QualityReport) -> str:
    """A section for each click log, then how it was measured."""
    lines = ["# Relevance: the models and tuned baselines", "", f"    {report.command}", ""]
    lines += [DEFINITIONS, f"History: the last {report.maxlen} clicks.", ""]
    recommended = report.recommended
    options = f", `-o {' '.join(recommended.options)}`" if recommended.options else ""
    lines += [f"Recommended: **{recommended.method}**, `{recommended.folder}`{options}.", ""]
    for name, result in report.data.items():
        lines += _section(name, result, recommended.method)
    lines += ["## How", ""]
    lines += [f"- {line}" for line in _notes(report)]
    return "\n".join(lines) + "\n"


def _section(name: str, result: LogQuality, recommended: str) -> list[str]:
    about = f"{result.items:,} items, {result.test_users:,} test users"
    about += f", {result.split}" if result.split else ""
    metrics = list(NAMES.values())
    lines = [f"## {name}: {about}", ""]
    lines.append(f"| | {' | '.join([*metrics, *COLUMNS])} | trained | parameters |")
    lines.append("| --- |" + " ---: |" * (len(metrics) + len(COLUMNS)) + " --- | --- |")
    for method, row in result.methods.items():
        title = f"**{row.title}**" if method == recommended else row.title
        lines.append(f"| {' | '.join([title, *_cells(row), params_of(method, row)])} |")
    lines.append("")
    lines += _unseen(result, recommended)
    for comparison in result.comparisons:
        lines += [_difference(result.methods, comparison), ""]
    lines += [f"Not measured: {why}.\n" for why in result.not_measured.values()]
    return lines


def _unseen(result: LogQuality, recommended: str) -> list[str]:
    """The same lists without the items of the histories, where they were measured."""
    rows = {name: row for name, row in result.methods.items() if row.unseen is not None}
    if not rows:
        return []
    metrics = list(NAMES.values())
    lines = ["Unseen items: the items of a user's history are left out of the lists.", ""]
    lines += [f"| | {' | '.join(metrics)} |", "| --- |" + " ---: |" * len(metrics)]
    for method, row in rows.items():
        title = f"**{row.title}**" if method == recommended else row.title
        values = [value_of(getattr(row.unseen, field)) for field in FIELDS]
        lines.append(f"| {' | '.join([title, *values])} |")
    return [*lines, ""]


def _cells(row: MethodQuality) -> list[str]:
    cost = row.cost
    return [
        *(value_of(getattr(row, field)) for field in FIELDS),
        f"{100 * row.recall.se_users:.2f}",
        f"{100 * row.valid_recall:.2f}",
        str(row.seeds),
        f"{row.seconds:.1f}",
        f"{cost.parameters:,}" if cost else "",
        f"{cost.tower_ms:.2f}" if cost else "",
        f"{cost.vectors} x {cost.dimensions}" if cost else "",
        "; ".join(dict.fromkeys(map(trained, row.training or []))),
    ]


def value_of(estimate: Estimate | None) -> str:
    """In per cent, with the standard error over seeds where there are several."""
    if estimate is None:
        return ""
    seeds = estimate.se_seeds
    return f"{100 * estimate.mean:.2f}" + ("" if seeds is None else f" ± {100 * seeds:.2f}")


def trained(run: TrainingRun) -> str:
    """How long a model was trained, in words."""
    words = f"{run.epochs:g} epoch{'' if run.epochs == 1 else 's'}"
    if run.batches is not None:
        words += f" of {run.batches:,} batches"
        words += "" if run.whole_epoch is None else f" (of {run.whole_epoch:,})"
    reasons = {"budget": ", cut to the budget", "patience": ", then no better for a while"}
    return words + reasons.get(run.ended, "")


def params_of(method: str, row: MethodQuality) -> str:
    """The parameters of a row, in words."""
    params = row.params
    if method == fusion.NAME:
        parts = [(params["weight"], "first"), (1 - params["weight"], "second")]
        return " + ".join(
            f"{weight:.1f} {METHODS[params[place]].title} ({_pairs(params[f'{place}_params'])})"
            for weight, place in parts
        )
    if "options" in params:
        return " ".join(params["options"]) or "its yaml"
    return _pairs(params)


def _difference(methods: Mapping[str, MethodQuality], comparison: Comparison) -> str:
    gain = comparison.difference
    interval = "95 % interval" if comparison.paired else "95 % interval, not paired,"
    title = methods[comparison.against].title
    if comparison.role == "best baseline":
        title += ", the best baseline on these test users"
    return (
        f"{methods[comparison.model].title} - {title}: {100 * gain.mean:+.2f} points of "
        f"{comparison.metric}, {interval} {100 * gain.low:+.2f} to {100 * gain.high:+.2f}; "
        f"relative **{100 * gain.relative:+.1f} %**."
    )


def _notes(report: QualityReport) -> list[str]:
    bootstrap = report.bootstrap
    grids = [f"{name}: {_grid(grid)}" for name, grid in report.grids.items() if grid]
    minutes = (
        "as long as their settings say"
        if report.minutes is None
        else f"{report.minutes:g} minutes a training at most, a thread each, {report.jobs} at a "
        "time: a short run measures the speed, then epochs and batches are set so that the "
        "learning-rate schedule ends inside them; runner.epochs of a row is the ceiling, and a row "
        "with other minutes says so"
    )
    return [
        "Difference: of the users' values, mean over seeds; paired bootstrap over users, "
        f"{bootstrap.resamples:,} resamples, seed {bootstrap.seed}. Not paired: of two rows "
        "of different runs, from their standard errors over users alone, which is wider.",
        f"Grids. {'. '.join(grids)}. Parameters are the best of these on valid: of this run, "
        "or of an earlier one on the same data and grid (benchmarks/expected/quality.yaml).",
        "Held-out users: item-kNN, EASE, transitions and GF-CF sum the rows of the history's "
        "items, weighted by gamma^age (age 0: the last click) where there is a gamma; ALS solves "
        "its least squares for the user; BPR takes scale times the mean of the items' vectors. "
        "Fusion: z-scores of two baselines over all items, weighted.",
        f"Models: one recipe for all logs (benchmarks/models.yaml), {minutes}. All vectors of a "
        "user, exact search, merged by the best score; the best epoch on valid. MIND of PaddleRec: "
        "its own folder and yaml, the last step of the given budget, one seed. Models of RecTools "
        "and of REMI's authors: trained at a constant rate as long as the minutes last, the best "
        "part on valid, one seed. SASRec of RecTools: users' clicks in windows, so that every "
        "click is a target. ComiRec and REMI of REMI's authors: their model and loss, batches "
        "drawn as their reader draws them.",
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


def _grid(grid: Mapping[str, Sequence[Any]]) -> str:
    return " × ".join(f"{key} {{{', '.join(map(str, values))}}}" for key, values in grid.items())
