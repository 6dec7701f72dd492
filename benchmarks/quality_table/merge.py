# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of an earlier results file beside those of this run, each with the run it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from paddlerec_milvus.errors import DataError, nearest
from quality_table.models import order_of
from quality_table.results import LogQuality, MethodQuality, Provenance, QualityReport


def read_report(file: Path) -> QualityReport:
    """The content of a quality.json, of format 1 too; DataError where it is none."""
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

    Earlier comparisons stay where both of their rows do. Raises DataError where the two are no
    results of the same lists or the same clicks.
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
    refused = {
        key: why for key, why in (old.not_measured | fresh.not_measured).items() if key not in rows
    }
    comparisons = [
        known for known in old.comparisons if not {known.model, known.against} & set(fresh.methods)
    ]
    return fresh.model_copy(
        update={
            "methods": {key: rows[key] for key in order_of(rows)},
            "not_measured": refused,
            "test_users": old.test_users,
            "comparisons": comparisons,
        }
    )
