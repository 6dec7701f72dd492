# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From data sets to results: tune on valid, measure on test, compare with the best baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.baselines.ease import check_size
from paddlerec_milvus.evaluation.statistics import paired_bootstrap, standard_error
from quality_table import mind
from quality_table.baselines import CODE, METHODS, Method, combinations
from quality_table.data import DataSet
from quality_table.expected import Expected, known_params
from quality_table.pieces import Piece, measurements_in, run_pieces, trials_in
from quality_table.results import (
    Comparison,
    Estimate,
    LogQuality,
    Measurement,
    MethodQuality,
    PieceResult,
    ValidTrial,
)

RESAMPLES, BOOTSTRAP_SEED = 10_000, 1


def mind_piece(data: DataSet, name: str, yaml: Path, options: Sequence[str], maxlen: int) -> Piece:
    """A training of the MIND of ``yaml`` with the first seed."""
    params, code = {"options": list(options)}, mind.code_of(yaml)
    return Piece(data, name, "measure", params, 1, maxlen, code, str(yaml))


@dataclass(frozen=True)
class Plan:
    """What to measure on which data."""

    data: Sequence[DataSet]
    methods: Sequence[str]
    seeds: int
    maxlen: int
    options: Sequence[str]  # of our MIND
    paddlerec: Path | None
    paddlerec_batches: int
    retune: bool
    expected: dict[str, Expected]

    def minds(self, data: DataSet) -> list[Piece]:
        """Trainings of MIND: ours with each seed, PaddleRec's with one."""
        pieces = []
        if "mind" in self.methods:
            base = mind_piece(data, "mind", mind.OURS, self.options, self.maxlen)
            pieces += [replace(base, seed=seed) for seed in range(1, self.seeds + 1)]
        if "mind_paddlerec" in self.methods and self.paddlerec is not None:
            yaml = self.paddlerec / "models" / "recall" / "mind" / "config.yaml"
            options = mind.paddlerec_options(self.paddlerec_batches)
            pieces.append(mind_piece(data, "mind_paddlerec", yaml, options, self.maxlen))
        return pieces

    def trials(self, data: DataSet, method: str) -> list[Piece]:
        """Trainings to choose parameters from; none where they are known, or there is no choice."""
        if not METHODS[method].tuned:
            return []
        if not self.retune and self.known(data, method) is not None:
            return []
        trainings, after = METHODS[method].trainings(), METHODS[method].after
        code = f"{CODE} {after}" if after else CODE  # what is tried on a training decides, too
        return [Piece(data, method, "tune", params, 1, self.maxlen, code) for params in trainings]

    def known(self, data: DataSet, method: str) -> dict[str, Any] | None:
        """Parameters that an earlier run chose from the same grid."""
        return known_params(self.expected, data, method, trials_of(METHODS[method]))

    def refused(self, data: DataSet) -> dict[str, str]:
        """Methods that were asked for and cannot be measured, and why."""
        refused = {}
        for name in {"ease", "ease_gamma"} & set(self.methods):
            try:
                check_size(data.item_count)
            except SettingsError as error:
                refused[name] = str(error)
        if "mind_paddlerec" in self.methods and self.paddlerec is None:
            refused["mind_paddlerec"] = "MIND of PaddleRec needs --paddlerec DIR, a checkout"
        return refused


def trials_of(method: Method) -> int:
    """How many settings its grid holds."""
    return len(method.trainings()) * len(combinations(method.after))


class Choice(NamedTuple):
    """Parameters of a method, and how they were chosen; None where there was no choice."""

    params: dict[str, Any]
    how: str | None = None
    trials: list[ValidTrial] | None = None


class MeasuredMethod(NamedTuple):
    """A method with its parameters, and a measurement for each seed."""

    title: str
    choice: Choice
    measurements: list[Measurement]


def run_plan(plan: Plan, work: Path, jobs: int) -> dict[str, LogQuality]:
    """Results of each data set, by its name."""
    pairs = [
        (data, name)
        for data in plan.data
        for name in METHODS
        if name in plan.methods and name not in plan.refused(data)
    ]
    minds = {(data.name, ""): plan.minds(data) for data in plan.data}
    trials = {(data.name, name): plan.trials(data, name) for data, name in pairs}
    tried = _by_key(trials | minds, work, jobs)
    choices = {
        (data.name, name): _choice(plan, data, name, trials_in(tried[data.name, name]))
        for data, name in pairs
    }
    measures = {
        (data.name, name): [
            Piece(data, name, "measure", choices[data.name, name].params, seed, plan.maxlen)
            for seed in range(1, (plan.seeds if METHODS[name].seeded else 1) + 1)
        ]
        for data, name in pairs
    }
    measured = _by_key(measures, work, jobs)
    summaries = {}
    for data in plan.data:
        methods = {
            name: MeasuredMethod(METHODS[name].title, choices[log, name], measurements_in(results))
            for (log, name), results in measured.items()
            if log == data.name
        }
        results = measurements_in(tried[data.name, ""])
        for piece, result in zip(minds[data.name, ""], results, strict=True):
            mind_method = MeasuredMethod(mind.TITLES[piece.method], Choice(piece.params), [])
            methods.setdefault(piece.method, mind_method).measurements.append(result)
        summaries[data.name] = _summary(data, methods, plan.refused(data))
    return summaries


def _by_key(
    pieces: dict[tuple[str, str], list[Piece]], work: Path, jobs: int
) -> dict[tuple[str, str], list[PieceResult]]:
    """Results by data set and method, all done as one lot; MIND's under no method."""
    results = iter(run_pieces([piece for lot in pieces.values() for piece in lot], work, jobs))
    return {key: [next(results) for _ in lot] for key, lot in pieces.items()}


def _choice(plan: Plan, data: DataSet, name: str, trials: list[ValidTrial]) -> Choice:
    """The parameters with the best recall on valid; of equals the first of the grid."""
    if not METHODS[name].tuned:
        return Choice({})
    if not trials:
        params = plan.known(data, name)
        assert params is not None  # else there were trials
        return Choice(params, f"best of {trials_of(METHODS[name])} on valid, recorded")
    best = max(trials, key=lambda trial: trial.valid.recall)
    return Choice(best.params, f"best of {len(trials)} on valid", trials)


def _summary(
    data: DataSet, methods: dict[str, MeasuredMethod], refused: dict[str, str]
) -> LogQuality:
    """Rows of the table, and MIND against the baseline that is best on *test*: the strictest."""
    log = data.log()
    best = _against_best(methods, "recall")
    first = next(iter(methods.values()), None)
    return LogQuality(
        fingerprint=data.fingerprint,
        split=data.split,
        items=data.item_count - 1,
        train_users=len(log.user_ids),
        train_clicks=len(log.items),
        test_users=len(first.measurements[0].test.recall) if first else 0,
        methods={name: _row(method) for name, method in methods.items()},
        best_baseline=best.baseline if best else None,
        mind_minus_best=best.difference if best else None,
        best_by_ndcg=_against_best(methods, "ndcg"),
        not_measured=refused,
    )


def _against_best(methods: dict[str, MeasuredMethod], metric: str) -> Comparison | None:
    values = {
        name: np.mean([getattr(result.test, metric) for result in method.measurements], axis=0)
        for name, method in methods.items()
    }  # [U], means over seeds
    baselines = [name for name in methods if name in METHODS]
    if not baselines or "mind" not in methods:
        return None
    best = max(baselines, key=lambda name: values[name].mean())
    gain = paired_bootstrap(values["mind"], values[best], RESAMPLES, seed=BOOTSTRAP_SEED)
    return Comparison(baseline=best, difference=gain, paired=True)


def _row(method: MeasuredMethod) -> MethodQuality:
    results = method.measurements
    checkpoints = [result.checkpoint for result in results if result.checkpoint is not None]
    return MethodQuality(
        title=method.title,
        recall=_estimate([result.test.recall for result in results]),
        ndcg=_estimate([result.test.ndcg for result in results]),
        hitrate=_estimate([result.test.hitrate for result in results]),
        valid_recall=float(np.mean([result.valid.recall for result in results])),
        seeds=len(results),
        seconds=float(np.mean([result.seconds for result in results])),
        params=method.choice.params,
        chosen=method.choice.how,
        trials=method.choice.trials,
        checkpoints=checkpoints or None,
    )


def _estimate(by_seed: list[list[float]]) -> Estimate:
    """Mean of ``by_seed`` [S, U], its standard error over seeds (None of one) and over users."""
    values = np.array(by_seed)
    return Estimate(
        mean=float(values.mean()),
        se_seeds=standard_error(values.mean(axis=1)) if len(values) > 1 else None,
        se_users=standard_error(values.mean(axis=0)),
    )
