# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""expected/quality.yaml: what was found before, with which parameters and what tolerance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from quality_table.data import DataSet
from quality_table.relevance import RECALL

FILE = Path(__file__).resolve().parents[1] / "expected" / "quality.yaml"

Expected = dict[str, dict[str, Any]]  # method → value in per cent, tolerance, parameters, trials


def read_expected(file: Path = FILE) -> dict[str, Expected]:
    """What is expected of each data set, by its fingerprint."""
    known = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return {each["fingerprint"]: each["methods"] for each in known.values()}


def known_params(
    expected: dict[str, Expected], data: DataSet, method: str, trials: int
) -> dict[str, Any] | None:
    """The parameters that were the best of as many ``trials`` on exactly this data, or None.

    What was found over another grid is not taken for what this one would find.
    """
    known = expected.get(data.fingerprint, {}).get(method, {})
    return known["parameters"] if known.get("trials") == trials else None


def differences(
    expected: dict[str, Expected], data: DataSet, rows: dict[str, dict[str, Any]]
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
        value, tolerance = 100 * rows[method][RECALL]["mean"], known["tolerance"]
        if abs(value - known[RECALL]) > tolerance:
            off.append(
                f"{data.name}, {rows[method]['title']}: {RECALL} is {value:.3f}, expected "
                f"{known[RECALL]} ± {tolerance}"
            )
    return off
