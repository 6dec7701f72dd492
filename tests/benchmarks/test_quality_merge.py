# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of two runs of benchmarks/quality.py in one file: which comparison stands then."""

from __future__ import annotations

import pytest
from quality_table import render
from quality_table.merge import merged
from quality_table.results import Estimate, LogQuality, MethodQuality, QualityReport
from support import ROOT

KEPT = ROOT / "benchmarks" / "results" / "quality.json"


def report_of(methods: dict[str, MethodQuality], **log: object) -> QualityReport:
    """The kept results with one log of these rows."""
    report = QualityReport.model_validate_json(KEPT.read_text(encoding="utf-8"))
    beauty: LogQuality = report.data["s3rec_beauty"].model_copy(update={"methods": methods, **log})
    return report.model_copy(update={"data": {"log": beauty}})


def rows() -> dict[str, MethodQuality]:
    report = QualityReport.model_validate_json(KEPT.read_text(encoding="utf-8"))
    methods = report.data["s3rec_beauty"].methods
    return {name: methods[name] for name in ("als", "mind")}


def row(recall: float, se_users: float) -> MethodQuality:
    estimate = Estimate(mean=recall, se_seeds=None, se_users=se_users)
    return rows()["als"].model_copy(update={"recall": estimate, "ndcg": estimate})


def test_mind_of_an_earlier_run_against_a_baseline_of_this_one_by_hand():
    nothing = {"best_baseline": None, "mind_minus_best": None, "best_by_ndcg": None}
    earlier = report_of({"mind": row(0.25, 0.004)}, **nothing)
    fresh = report_of({"transitions": row(0.2, 0.003)}, **nothing)
    log = merged(earlier, fresh).data["log"]
    assert (log.best_baseline, log.paired) == ("transitions", False)
    gain = log.mind_minus_best
    assert gain is not None
    # standard errors of 3 and 4 thousandths make one of 5
    assert gain.mean == pytest.approx(0.05)
    assert gain.high - gain.mean == pytest.approx(1.96 * 0.005, rel=1e-4)
    assert gain.relative == pytest.approx(0.25)
    assert log.best_by_ndcg is not None
    assert log.best_by_ndcg.baseline == "transitions"


def test_a_paired_comparison_stays_as_long_as_its_rows_do():
    paired = {"best_baseline": "als", "paired": True, "best_by_ndcg": None}
    earlier = report_of(rows(), **paired)
    alone = {"best_baseline": None, "mind_minus_best": None, "best_by_ndcg": None}
    log = merged(earlier, report_of({"transitions": row(0.01, 0.001)}, **alone)).data["log"]
    assert log.best == earlier.data["log"].best
    log = merged(earlier, report_of({"als": row(0.15, 0.001)}, **alone)).data["log"]
    assert log.best is not None
    assert not log.best.paired


@pytest.mark.parametrize("page", ["README.md", "README_CN.md"])
def test_the_readme_shows_the_kept_rows(page):
    report = QualityReport.model_validate_json(KEPT.read_text(encoding="utf-8"))
    text = (ROOT / page).read_text(encoding="utf-8")
    for log in report.data.values():
        for method in log.methods.values():
            values = map(render._value, (method.recall, method.ndcg, method.hitrate))
            assert f"| {' | '.join(values)} | {method.seconds:.0f} s |" in text
