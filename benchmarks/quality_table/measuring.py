# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From a plan to results: tune on valid, measure on test, fuse the best baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paddlerec_milvus.evaluation.statistics import standard_error
from quality_table import fusion
from quality_table.baselines import CODE, METHODS, Params
from quality_table.by_user import UserValues, values_of
from quality_table.data import DataSet
from quality_table.expected import known_params
from quality_table.models import OTHERS, order_of
from quality_table.pieces import Piece, measurements_in, run_pieces, speed_in, trials_in
from quality_table.plan import Plan, trials_of
from quality_table.results import (
    FIELDS,
    Estimate,
    LogQuality,
    Measurement,
    MethodQuality,
    PieceResult,
    RelevanceByUser,
    UnseenQuality,
    ValidTrial,
)

Pieces = dict[tuple[str, str], list[Piece]]  # by log and method


class Choice(NamedTuple):
    """Parameters of a method, and how they were chosen; None where there was no choice."""

    params: Params
    how: str | None = None
    trials: list[ValidTrial] | None = None


class MeasuredMethod(NamedTuple):
    """A method with its parameters, and a measurement for each seed."""

    title: str
    choice: Choice
    measurements: list[Measurement]


Measured = dict[tuple[str, str], MeasuredMethod]  # by log and method


def run_plan(plan: Plan, work: Path, jobs: int) -> tuple[dict[str, LogQuality], UserValues]:
    """Results of each data set, by its name, and values of its test users."""
    pairs = [(data, name) for data in plan.data for name in plan.baselines(data)]
    first: Pieces = {(data.name, name): plan.tunings(data, name) for data, name in pairs}
    speeds = {data.name: plan.speeds(data) for data in plan.data}
    first |= {
        (log, f"speed {name}"): [one] for log, of in speeds.items() for name, one in of.items()
    }
    done = _by_key(first, work, jobs)
    choices = {
        (data.name, name): _choice(plan, data, name, trials_in(done[data.name, name]))
        for data, name in pairs
    }
    second: Pieces = {
        (data.name, name): plan.measures(data, name, choices[data.name, name].params)
        for data, name in pairs
    }
    for data in plan.data:
        known = {name: speed_in(done[data.name, f"speed {name}"]) for name in speeds[data.name]}
        for piece in [*plan.peers(data), *plan.trainings(data, known)]:
            second.setdefault((data.name, piece.method), []).append(piece)
    measured: Measured = {}
    for (log, name), results in _by_key(second, work, jobs).items():
        choice = choices.get((log, name), Choice(second[log, name][0].params))
        measured[log, name] = MeasuredMethod(_title(plan, name), choice, measurements_in(results))
    measured |= _fused(plan, measured, work, jobs)
    return _summaries(plan, measured)


def _by_key(pieces: Pieces, work: Path, jobs: int) -> dict[tuple[str, str], list[PieceResult]]:
    """Results by data set and method, all done as one lot."""
    results = iter(run_pieces([piece for lot in pieces.values() for piece in lot], work, jobs))
    return {key: [next(results) for _ in lot] for key, lot in pieces.items()}


def _title(plan: Plan, name: str) -> str:
    if name in METHODS:
        return METHODS[name].title
    return OTHERS[name] if name in OTHERS else plan.models[name].title


def _choice(plan: Plan, data: DataSet, name: str, trials: list[ValidTrial]) -> Choice:
    """The parameters with the best recall on valid; of equals the first of the grid."""
    if not METHODS[name].tuned:
        return Choice({})
    if not trials:
        params = plan.known(data, name)
        assert params is not None  # else there were trials
        return Choice(params, _recorded(trials_of(METHODS[name])))
    return _best(trials)


def _recorded(trials: int) -> str:
    return f"best of {trials} on valid, recorded"


def _best(trials: list[ValidTrial]) -> Choice:
    best = max(trials, key=lambda trial: trial.valid.recall)
    return Choice(best.params, f"best of {len(trials)} on valid", trials)


def _fused(plan: Plan, measured: Measured, work: Path, jobs: int) -> Measured:
    """The fusion of two on each log: the best pair of the best baselines, all by valid."""
    logs = [data for data in plan.data if fusion.NAME in plan.methods]
    logs = [data for data in logs if fusion.NAME not in plan.refused(data)]
    best = {data.name: _best_baselines(data.name, measured) for data in logs}
    known = {data.name: _known_fusion(plan, data, best[data.name]) for data in logs}
    tunings: Pieces = {}
    for data in logs:
        code = f"{CODE} {fusion.WEIGHTS}"
        piece = Piece(data, fusion.NAME, "tune", best[data.name], 1, plan.maxlen, code)
        tunings[data.name, fusion.NAME] = [] if known[data.name] else [piece]
    tried = _by_key(tunings, work, jobs)
    choices = {
        data.name: known[data.name] or _best(trials_in(tried[data.name, fusion.NAME]))
        for data in logs
    }
    measures: Pieces = {
        (data.name, fusion.NAME): [
            Piece(data, fusion.NAME, "measure", choices[data.name].params, 1, plan.maxlen)
        ]
        for data in logs
    }
    return {
        key: MeasuredMethod(_title(plan, fusion.NAME), choices[key[0]], measurements_in(results))
        for key, results in _by_key(measures, work, jobs).items()
    }


def _best_baselines(log: str, measured: Measured) -> dict[str, Params]:
    """Parameters of the baselines with the best recall on valid, the best first."""
    valid = {
        name: float(np.mean([one.valid.recall for one in method.measurements]))
        for (of_log, name), method in measured.items()
        if of_log == log and name in METHODS
    }
    names = sorted(valid, key=lambda name: -valid[name])[: fusion.CANDIDATES]
    return {name: measured[log, name].choice.params for name in names}


def _known_fusion(plan: Plan, data: DataSet, best: Mapping[str, Params]) -> Choice | None:
    """What an earlier run chose of as many mixes, where its two are as they are now."""
    trials = len(fusion.mixes_of(list(best)))
    params = None if plan.retune else known_params(plan.expected, data, fusion.NAME, trials)
    if params is None or any(
        best.get(params[place]) != params[f"{place}_params"] for place in ("first", "second")
    ):
        return None
    return Choice(params, _recorded(trials))


def _summaries(plan: Plan, measured: Measured) -> tuple[dict[str, LogQuality], UserValues]:
    logs, values = {}, {}
    for data in plan.data:
        methods = {name: method for (log, name), method in measured.items() if log == data.name}
        logs[data.name] = _summary(data, methods, plan.refused(data))
        for name, method in methods.items():
            values[data.fingerprint, name] = values_of(method.measurements)
    return logs, values


def _summary(
    data: DataSet, methods: Mapping[str, MeasuredMethod], refused: dict[str, str]
) -> LogQuality:
    log = data.log()
    first = next(iter(methods.values()), None)
    return LogQuality(
        fingerprint=data.fingerprint,
        split=data.split,
        items=data.item_count - 1,
        train_users=len(log.user_ids),
        train_clicks=len(log.items),
        test_users=len(first.measurements[0].test.recall) if first else 0,
        methods={name: _row(methods[name]) for name in order_of(methods)},
        not_measured=refused,
    )


def _row(method: MeasuredMethod) -> MethodQuality:
    results = method.measurements
    checkpoints = [result.checkpoint for result in results if result.checkpoint is not None]
    training = [result.training for result in results if result.training is not None]
    unseen = [result.unseen for result in results if result.unseen is not None]
    estimates = _estimates([result.test for result in results])
    return MethodQuality(
        **estimates,
        title=method.title,
        valid_recall=float(np.mean([result.valid.recall for result in results])),
        seeds=len(results),
        seconds=float(np.mean([result.seconds for result in results])),
        params=method.choice.params,
        chosen=method.choice.how,
        trials=method.choice.trials,
        checkpoints=checkpoints or None,
        training=training or None,
        cost=results[0].cost,
        unseen=UnseenQuality(**_estimates(unseen)) if unseen else None,
    )


def _estimates(by_seed: Sequence[RelevanceByUser]) -> dict[str, Any]:
    return {name: _estimate([getattr(values, name) for values in by_seed]) for name in FIELDS}


def _estimate(by_seed: Sequence[Sequence[float]]) -> Estimate:
    """Mean of ``by_seed`` [S, U], its standard error over seeds (None of one) and over users."""
    values = np.array(by_seed)
    return Estimate(
        mean=float(values.mean()),
        se_seeds=standard_error(values.mean(axis=1)) if len(values) > 1 else None,
        se_users=standard_error(values.mean(axis=0)),
    )
