# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of an earlier results file beside those of this run, each with the run it comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import ValidationError

from paddlerec_milvus.errors import DataError, nearest
from paddlerec_milvus.evaluation.statistics import Difference
from quality_table import mind
from quality_table.baselines import METHODS
from quality_table.results import (
    Comparison,
    Estimate,
    LogQuality,
    MethodQuality,
    Provenance,
    QualityReport,
)

NORMAL_95 = 1.959964  # standard errors


def read_report(file: Path) -> QualityReport:
    """The content of a quality.json; DataError where it is none."""
    try:
        return QualityReport.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: no results of benchmarks/quality.py: {error}") from error


def with_provenance(
    methods: Mapping[str, MethodQuality], origin: Provenance
) -> dict[str, MethodQuality]:
    """``methods``, those that say nothing of their origin with ``origin``."""
    return {
        name: row if row.origin is not None else row.model_copy(update={"origin": origin})
        for name, row in methods.items()
    }


def merged(earlier: QualityReport, fresh: QualityReport) -> QualityReport:
    """``fresh``, and what ``earlier`` measured and it did not: rows of its logs, and other logs.

    Raises DataError where the two are no results of the same lists or the same clicks.
    """
    for name in ("top_n", "maxlen"):
        theirs, ours = getattr(earlier, name), getattr(fresh, name)
        if theirs != ours:
            raise DataError(f"--keep: its {name} is {theirs}, this run's is {ours}: measure again")
    origin = Provenance(command=earlier.command, machine=earlier.machine, versions=earlier.versions)
    old_logs = {
        name: log.model_copy(update={"methods": with_provenance(log.methods, origin)})
        for name, log in earlier.data.items()
    }
    for name in fresh.data.keys() - old_logs.keys():
        raise DataError(f"--keep: has no log {name}{nearest(name, list(old_logs))}")
    logs = {
        name: _merged_log(name, old, fresh.data[name]) if name in fresh.data else old
        for name, old in old_logs.items()
    }
    grids = earlier.grids | fresh.grids
    seeds = max(earlier.seeds, fresh.seeds, key=len)
    return fresh.model_copy(update={"data": logs, "grids": grids, "seeds": seeds})


def _merged_log(name: str, old: LogQuality, fresh: LogQuality) -> LogQuality:
    if old.fingerprint != fresh.fingerprint:
        raise DataError(
            f"--keep: its {name} has the fingerprint {old.fingerprint}, the data that of this run "
            f"{fresh.fingerprint}: other clicks or another split"
        )
    rows = old.methods | fresh.methods
    methods = {key: rows[key] for key in [*METHODS, *mind.TITLES] if key in rows}
    refused = {
        key: why
        for key, why in (old.not_measured | fresh.not_measured).items()
        if key not in methods
    }
    update = {"methods": methods, "not_measured": refused, "test_users": old.test_users}
    measured = fresh.methods.keys()
    best = _comparison(methods, "recall", [fresh.best, _of_rows(old.best, measured)])
    if best is not None:
        update |= {"best_baseline": best.baseline, "mind_minus_best": best.difference}
        update["paired"] = best.paired
    by_ndcg = [fresh.best_by_ndcg, _of_rows(old.best_by_ndcg, measured)]
    update["best_by_ndcg"] = _comparison(methods, "ndcg", by_ndcg)
    return fresh.model_copy(update=update)


def _of_rows(comparison: Comparison | None, measured: Collection[str]) -> Comparison | None:
    """An earlier ``comparison``, None where one of its two rows was measured again."""
    if comparison is None or {comparison.baseline, "mind"} & set(measured):
        return None
    return comparison


def _comparison(
    methods: Mapping[str, MethodQuality], metric: str, known: list[Comparison | None]
) -> Comparison | None:
    """MIND and the best baseline of ``methods``; that of ``known`` where it is of the same two.

    Rows hold no values of single users, so that this cannot be paired.
    """
    values: dict[str, Estimate] = {name: getattr(row, metric) for name, row in methods.items()}
    baselines = [name for name in methods if name in METHODS]
    if not baselines or "mind" not in methods:
        return None
    best = max(baselines, key=lambda name: values[name].mean)
    for comparison in known:
        if comparison is not None and comparison.baseline == best:
            return comparison
    ours, theirs = values["mind"], values[best]
    mean = ours.mean - theirs.mean
    spread = NORMAL_95 * float((ours.se_users**2 + theirs.se_users**2) ** 0.5)
    relative = mean / theirs.mean if theirs.mean else float("nan")
    difference = Difference(mean, mean - spread, mean + spread, relative)
    return Comparison(baseline=best, difference=difference, paired=False)
