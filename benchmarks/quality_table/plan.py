# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From data sets to results: tune on valid, measure on test, compare with the best baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.baselines.ease import check_size
from paddlerec_milvus.evaluation.statistics import paired_bootstrap, standard_error
from quality_table import mind
from quality_table.baselines import METHODS, Method, combinations
from quality_table.data import DataSet
from quality_table.expected import Expected, known_params
from quality_table.pieces import Piece, run_pieces
from quality_table.relevance import METRICS, RECALL

RESAMPLES, BOOTSTRAP_SEED = 10_000, 1


def mind_piece(data: DataSet, name: str, yaml: Path, options: Sequence[str], maxlen: int) -> Piece:
    """A training of the MIND of ``yaml`` with the first seed."""
    params, code = {"options": list(options)}, mind.code_of(yaml)
    return Piece(data, name, "measure", params, 1, maxlen, code, str(yaml))


@dataclass(frozen=True)
class Plan:
    """What the command line asked for."""

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
        if not METHODS[method].grid:
            return []
        if not self.retune and self.known(data, method) is not None:
            return []
        trainings = METHODS[method].trainings()
        return [Piece(data, method, "tune", params, 1, self.maxlen) for params in trainings]

    def known(self, data: DataSet, method: str) -> dict[str, Any] | None:
        """Parameters that an earlier run chose from the same grid."""
        return known_params(self.expected, data, method, trials_of(METHODS[method]))

    def refused(self, data: DataSet) -> dict[str, str]:
        """Methods that were asked for and cannot be measured, and why."""
        refused = {}
        if "ease" in self.methods:
            try:
                check_size(data.item_count)
            except SettingsError as error:
                refused["ease"] = str(error)
        if "mind_paddlerec" in self.methods and self.paddlerec is None:
            refused["mind_paddlerec"] = "MIND of PaddleRec needs --paddlerec DIR, a checkout"
        return refused


def trials_of(method: Method) -> int:
    """How many settings its grid holds."""
    return len(method.trainings()) * len(combinations(method.after))


def run_plan(plan: Plan, work: Path, jobs: int) -> dict[str, dict[str, Any]]:
    """Results of each data set, by its name."""
    pairs = [
        (data, name)
        for data in plan.data
        for name in METHODS
        if name in plan.methods and name not in plan.refused(data)
    ]
    minds = {data.name: plan.minds(data) for data in plan.data}
    trials = {(data.name, name): plan.trials(data, name) for data, name in pairs}
    tried = _by_key(trials | minds, work, jobs)
    chosen = {
        (data.name, name): _chosen(plan, data, name, tried[data.name, name]) for data, name in pairs
    }
    measures = {
        (data.name, name): [
            Piece(data, name, "measure", chosen[data.name, name]["params"], seed, plan.maxlen)
            for seed in range(1, (plan.seeds if METHODS[name].seeded else 1) + 1)
        ]
        for data, name in pairs
    }
    measured = _by_key(measures, work, jobs)
    results = {}
    for data in plan.data:
        found = {
            name: (METHODS[name].title, chosen[where, name], results_of)
            for (where, name), results_of in measured.items()
            if where == data.name
        }
        for piece, result in zip(minds[data.name], tried[data.name], strict=True):
            about = {"params": piece.params}
            title = mind.TITLES[piece.method]
            found.setdefault(piece.method, (title, about, []))[2].append(result)
        results[data.name] = _summary(data, found) | {"not_measured": plan.refused(data)}
    return results


def _by_key(pieces: dict[Any, list[Piece]], work: Path, jobs: int) -> dict[Any, list[Any]]:
    found = iter(run_pieces([piece for each in pieces.values() for piece in each], work, jobs))
    return {key: [next(found) for _ in each] for key, each in pieces.items()}


def _chosen(plan: Plan, data: DataSet, name: str, tried: list[Any]) -> dict[str, Any]:
    """The parameters with the best recall on valid; of equals the first of the grid."""
    if not METHODS[name].grid:
        return {"params": {}}
    trials = [trial for each in tried for trial in each]
    if not trials:
        count = trials_of(METHODS[name])
        return {"params": plan.known(data, name), "chosen": f"best of {count} on valid, recorded"}
    best = max(trials, key=lambda trial: trial["valid"][RECALL])
    return {"params": best["params"], "chosen": f"best of {len(trials)} on valid", "trials": trials}


def _summary(data: DataSet, found: dict[str, tuple[str, dict[str, Any], list[Any]]]) -> Any:
    """Rows of the table, and MIND against the baseline that is best on *test*: the strictest."""
    rows, recalls = {}, {}
    for name, (title, about, results) in found.items():
        users = {m: np.array([result["test"][m] for result in results]) for m in METRICS}  # [S, U]
        recalls[name] = users[RECALL].mean(axis=0)
        rows[name] = {
            "title": title,
            **{m: _estimate(values) for m, values in users.items()},
            f"valid {RECALL}": float(np.mean([result["valid"][RECALL] for result in results])),
            "seeds": len(results),
            "seconds": float(np.mean([result["seconds"] for result in results])),
            **about,
            **_checkpoints(results),
        }
    log = data.log()
    summary = {
        "fingerprint": data.fingerprint,
        "items": data.item_count - 1,
        "train_users": len(log.user_ids),
        "train_clicks": len(log.items),
        "test_users": len(next(iter(recalls.values()), [])),
        "methods": rows,
    }
    baselines = [name for name in rows if name in METHODS]
    if baselines and "mind" in rows:
        best = max(baselines, key=lambda name: rows[name][RECALL]["mean"])
        found_difference = paired_bootstrap(
            recalls["mind"], recalls[best], RESAMPLES, seed=BOOTSTRAP_SEED
        )
        summary |= {"best_baseline": best, "mind_minus_best": asdict(found_difference)}
    return summary


def _estimate(values: np.ndarray) -> dict[str, float | None]:
    """Mean of [S, U], its standard error over seeds (None of one) and over users."""
    one = len(values) < 2
    return {
        "mean": float(values.mean()),
        "se_seeds": None if one else standard_error(values.mean(axis=1)),
        "se_users": standard_error(values.mean(axis=0)),
    }


def _checkpoints(results: list[Any]) -> dict[str, Any]:
    known = [result["checkpoint"] for result in results if "checkpoint" in result]
    return {"checkpoints": known} if known else {}
