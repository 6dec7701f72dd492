# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of two runs of benchmarks/quality.py in one file: which comparison stands then."""

from __future__ import annotations

import json

import numpy as np
import pytest
from quality_table.by_user import COMPARED, matching, read_values, write_values
from quality_table.comparisons import compared
from quality_table.merge import merged, read_report
from quality_table.render import markdown
from quality_table.results import (
    FIELDS,
    FORMAT,
    Bootstrap,
    Estimate,
    LogQuality,
    MethodQuality,
    QualityReport,
    Recommended,
    UnseenQuality,
)

from paddlerec_milvus.errors import DataError

LOG = {"fingerprint": "f", "items": 9, "train_users": 8, "train_clicks": 70, "test_users": 2}


def row(mean: float, se_users: float = 0.01, short: float | None = None) -> MethodQuality:
    estimate = Estimate(mean=mean, se_seeds=None, se_users=se_users)
    few = None if short is None else Estimate(mean=short, se_seeds=None, se_users=se_users)
    return MethodQuality(
        title="a row",
        recall=estimate,
        ndcg=estimate,
        hitrate=estimate,
        ndcg_short=few,
        valid_recall=mean,
        seeds=1,
        seconds=1.0,
        params={},
    )


def report_of(**methods: MethodQuality) -> QualityReport:
    log = LogQuality(**LOG, methods=methods, not_measured={})
    return QualityReport(
        format=FORMAT,
        command="python benchmarks/quality.py",
        recommended=Recommended(method="mind", folder="models/recall/mind", options=[]),
        top_n=50,
        maxlen=20,
        seeds=[1],
        jobs=1,
        bootstrap=Bootstrap(resamples=10, seed=1, level=0.95),
        grids={},
        data={"log": log},
        machine={},
        versions={},
    )


def comparisons_of(report: QualityReport) -> dict[tuple[str, str], tuple[str, bool]]:
    return {
        (each.metric, each.role): (each.against, each.paired)
        for each in report.data["log"].comparisons
    }


def test_rows_of_two_runs_without_values_of_users_by_hand():
    report = merged(report_of(mind=row(0.25, 0.004)), report_of(transitions=row(0.2, 0.003)))
    report = compared(report, {})
    assert comparisons_of(report) == {
        ("recall@50", "best baseline"): ("transitions", False),
        ("ndcg@50", "best baseline"): ("transitions", False),
    }  # no ndcg@10: not all rows have it
    gain = report.data["log"].comparisons[0].difference
    # standard errors of 3 and 4 thousandths make one of 5
    assert gain.mean == pytest.approx(0.05)
    assert gain.high - gain.mean == pytest.approx(1.96 * 0.005, rel=1e-4)
    assert gain.relative == pytest.approx(0.25)


def test_values_of_users_make_rows_of_any_two_runs_paired(tmp_path):
    mind, ease = np.array([[0.75, 0.25]] * 3), np.array([[0.25, 0.25]] * 3)
    report = report_of(
        mind=row(0.5, short=0.5), ease=row(0.25, short=0.25), als=row(0.1, short=0.1)
    )
    file = tmp_path / "quality.json"
    write_values({("f", "mind"): mind, ("f", "ease"): ease}, file)
    report = compared(report, read_values(file))
    assert set(comparisons_of(report).values()) == {("ease", True)}
    assert len(report.data["log"].comparisons) == len(COMPARED)
    gain = report.data["log"].comparisons[0].difference
    # of two users the draws are 00, 01, 10, 11: differences 0.5, 0.25, 0.25, 0
    assert (gain.mean, gain.low, gain.high, gain.relative) == (0.25, 0.0, 0.5, 1.0)


def test_each_metric_has_its_own_best_baseline_and_the_others_are_no_baselines():
    one, other = row(0.2, short=0.1), row(0.1, short=0.2)
    fused = row(0.9, short=0.9)
    report = report_of(mind=row(0.5, short=0.5), ease=one, als=other, fusion=fused, sasrec=fused)
    report = report.model_copy(
        update={"data": {"log": report.data["log"].model_copy(update={"methods": {
            **report.data["log"].methods, "sasrec_rectools": fused}})}}
    )  # fmt: skip
    found = comparisons_of(compared(report, {}))
    assert found["recall@50", "best baseline"][0] == "ease"
    assert found["ndcg@10", "best baseline"][0] == "als"
    assert found["ndcg@50", "fusion"][0] == "fusion"
    assert found["ndcg@50", "peer"][0] == "sasrec_rectools"


def test_a_model_is_compared_with_its_public_implementation():
    fused = row(0.9, short=0.9)
    report = report_of(mind=row(0.5), sasrec=row(0.5), sasrec_rectools=row(0.25), fusion=fused)
    found = compared(report, {}).data["log"].comparisons
    pairs = {(each.model, each.against): each for each in found if each.role == "counterpart"}
    assert list(pairs) == [("sasrec", "sasrec_rectools")]
    assert pairs["sasrec", "sasrec_rectools"].difference.mean == 0.25


def test_lists_without_the_histories_are_compared_too(tmp_path):
    half = Estimate(mean=0.5, se_seeds=None, se_users=0.0)
    whole = Estimate(mean=1.0, se_seeds=None, se_users=0.0)
    rows = {
        name: row(0.5, short=0.5).model_copy(
            update={"unseen": UnseenQuality(**dict.fromkeys(FIELDS, of))}
        )
        for name, of in (("mind", whole), ("ease", half))
    }
    same, better = np.full((3, 2), 0.5), np.full((3, 2), 1.0)
    values = {("f", "mind"): np.vstack([same, better]), ("f", "ease"): np.vstack([same, same])}
    report = compared(report_of(**rows), matching(values, report_of(**rows)))
    gains = {
        each.metric: (each.difference.mean, each.paired) for each in report.data["log"].comparisons
    }
    assert gains["recall@50"] == (0.0, True)
    assert gains["recall@50 of unseen items"] == (0.5, True)
    assert len(gains) == 2 * len(COMPARED)
    assert "| **a row** | 100.00 |" in markdown(report)
    shorter = {key: of_row[:3] for key, of_row in values.items()}  # of a run that had none of them
    assert matching(shorter, report) == {}


def test_a_paired_comparison_stays_as_long_as_its_rows_do():
    values = {("f", name): np.full((3, 2), mean) for name, mean in (("mind", 0.5), ("als", 0.2))}
    earlier = compared(report_of(mind=row(0.5), als=row(0.2)), values)
    assert comparisons_of(earlier)["recall@50", "best baseline"] == ("als", True)
    report = compared(merged(earlier, report_of(transitions=row(0.1))), {})
    assert comparisons_of(report)["recall@50", "best baseline"] == ("als", True)
    report = compared(merged(earlier, report_of(als=row(0.15))), {})
    assert comparisons_of(report)["recall@50", "best baseline"] == ("als", False)


def test_values_of_another_measurement_are_not_taken():
    report = report_of(mind=row(0.5, short=0.5), als=row(0.2))
    values = {("f", name): np.full((3, 2), 0.5) for name in ("mind", "als", "bpr")}
    values["g", "mind"] = values["f", "mind"]
    assert matching(values, report).keys() == {("f", "mind")}
    values["f", "mind"] = np.full((3, 2), 0.4)
    assert matching(values, report) == {}


def test_a_damaged_file_of_values_is_named(tmp_path):
    (tmp_path / "quality_users.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"quality_users.npz: no values of users"):
        read_values(tmp_path / "quality.json")


def test_a_file_of_format_1_is_read_as_one_of_today(tmp_path):
    content = json.loads(report_of(mind=row(0.5), als=row(0.2)).model_dump_json(by_alias=True))
    gain = {"mean": 0.3, "low": 0.2, "high": 0.4, "relative": 1.5}
    log = content["data"]["log"] | {"best_baseline": "als", "mind_minus_best": gain}
    del log["comparisons"], content["recommended"]
    by_ndcg = {"baseline": "als", "difference": gain, "paired": False}
    content |= {"format": 1, "data": {"log": log | {"best_by_ndcg": by_ndcg}}}
    file = tmp_path / "old.json"
    file.write_text(json.dumps(content))
    report = read_report(file)
    assert (report.format, report.recommended.method) == (FORMAT, "mind")
    assert comparisons_of(report) == {
        ("recall@50", "best baseline"): ("als", True),
        ("ndcg@50", "best baseline"): ("als", False),
    }
    assert report.data["log"].comparisons[0].difference.relative == 1.5
