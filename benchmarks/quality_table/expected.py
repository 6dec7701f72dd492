# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""expected/quality.yaml: what was found before, with which parameters and what tolerance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from quality_table.data import DataSet
from quality_table.results import METRICS, MethodQuality, QualityResult

FILE = Path(__file__).resolve().parents[1] / "expected" / "quality.yaml"


class ExpectedValue(QualityResult):
    """What an earlier run measured of a method."""

    recall: float
    """In per cent."""
    ndcg: float | None = None
    """Likewise; None where it is not compared."""
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
        for metric, value, wanted in zip(
            METRICS, (row.recall.mean, row.ndcg.mean), (known.recall, known.ndcg), strict=False
        ):
            if wanted is not None and abs(100 * value - wanted) > known.tolerance:
                off.append(
                    f"{data.name}, {row.title}: {metric} is {100 * value:.3f}, expected "
                    f"{wanted} ± {known.tolerance}"
                )
    return off
