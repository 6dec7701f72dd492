# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""expected/quality.yaml: what was found before, with which parameters and what tolerance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from paddlerec_milvus.data.files import replacing
from quality_table.baselines import METHODS
from quality_table.data import DataSet
from quality_table.results import NAMES, LogQuality, MethodQuality, QualityResult

FILE = Path(__file__).resolve().parents[1] / "expected" / "quality.yaml"
CHECKED = ("recall", "ndcg", "ndcg_short")
HEAD = """\
# What benchmarks/quality.py finds on these logs, in per cent. One command compares all of it:
#   python benchmarks/quality.py --data NAME=DIR … --check
# and with --publish in place of --check it writes this file. A log is known by its fingerprint
# (SHA-256 of its split), whatever its name. "parameters" were the best on valid of so many
# "trials", the grids of quality_table/baselines.py at that time; a run over a grid of another size
# tunes again. The tolerance covers other processors, for ALS, BPR and models other seeds, and for
# trainings that a budget of minutes cut other lengths of them.

"""
EXACT, DRAWN, ONE_SEED = 0.05, 0.5, 1.0  # tolerances, in points of a per cent


class ExpectedValue(QualityResult):
    """What an earlier run measured of a method."""

    recall: float
    """In per cent."""
    ndcg: float | None = None
    """Likewise; None where it is not compared."""
    ndcg_short: float | None = None
    tolerance: float
    """By how much a rerun may be off, in points of a per cent."""
    parameters: dict[str, Any] | None = None
    """The best of ``trials``; None where there was no choice."""
    trials: int | None = None


Expected = dict[str, ExpectedValue]  # by method


class ExpectedLog(QualityResult):
    """What is expected of one click log."""

    fingerprint: str
    methods: Expected


def read_expected(file: Path = FILE) -> dict[str, Expected]:
    """What is expected of each data set, by its fingerprint."""
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    logs = [ExpectedLog.model_validate(log) for log in content.values()]
    return {log.fingerprint: log.methods for log in logs}


def known_params(
    expected: dict[str, Expected], data: DataSet, method: str, trials: int
) -> dict[str, Any] | None:
    """The parameters that were the best of as many ``trials`` on exactly this data, or None.

    What was found over another grid is not taken for what this one would find.
    """
    known = expected.get(data.fingerprint, {}).get(method)
    return known.parameters if known is not None and known.trials == trials else None


def differences(
    expected: dict[str, Expected], data: DataSet, rows: dict[str, MethodQuality]
) -> list[str]:
    """One line for each method of ``rows`` that is off, and for data that nothing is known of."""
    if data.fingerprint not in expected:
        return [
            f"{data.name}: no values are expected of this data (fingerprint {data.fingerprint})"
        ]
    off = []
    for method, known in expected[data.fingerprint].items():
        if method not in rows:
            continue
        row = rows[method]
        for field in CHECKED:
            wanted, estimate = getattr(known, field), getattr(row, field)
            if wanted is not None and abs(100 * estimate.mean - wanted) > known.tolerance:
                off.append(
                    f"{data.name}, {row.title}: {NAMES[field]} is {100 * estimate.mean:.3f}, "
                    f"expected {wanted} ± {known.tolerance}"
                )
    return off


def write_expected(logs: Mapping[str, LogQuality], file: Path = FILE) -> None:
    """Expect what ``logs`` hold; other rows and logs of ``file`` stay as they are."""
    content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None
    content = content or {}
    names = {log["fingerprint"]: name for name, log in content.items()}
    for name, log in logs.items():
        if log.fingerprint not in names:
            content[name] = {"fingerprint": log.fingerprint, "methods": {}}
        rows = {method: _expected(method, row) for method, row in log.methods.items()}
        content[names.get(log.fingerprint, name)]["methods"] |= rows
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    with replacing(file) as fresh:
        fresh.write_text(HEAD + text, encoding="utf-8")


def _expected(method: str, row: MethodQuality) -> dict[str, Any]:
    values = {
        NAMES[field]: round(100 * getattr(row, field).mean, 3)
        for field in CHECKED
        if getattr(row, field) is not None
    }
    values["tolerance"] = tolerance_of(method, row)
    if row.chosen is not None:
        trials = int(re.search(r"\d+", row.chosen)[0])  # type: ignore[index]
        values |= {"parameters": row.params, "trials": trials}
    return values


def tolerance_of(method: str, row: MethodQuality) -> float:
    """By how much a rerun of a row may be off, in points of a per cent."""
    if row.seeds > 1:
        return DRAWN
    exact = row.chosen is not None or method in METHODS  # else it is a training of a network
    return EXACT if exact and not METHODS.get(method, METHODS["ease"]).seeded else ONE_SEED
