# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The kept results of benchmarks/quality.py, and the tables that are made of results."""

from __future__ import annotations

import json
from math import ceil

import pytest
import yaml
from pydantic import ValidationError
from quality_table import cli, readme
from quality_table.expected import read_expected, tolerance_of, write_expected
from quality_table.merge import read_report
from quality_table.render import markdown, params_of, trained
from quality_table.results import Difference, Estimate, MethodQuality, QualityReport, TrainingRun
from support import ROOT

from paddlerec_milvus.errors import DataError

KEPT = ROOT / "benchmarks" / "results" / "quality.json"


@pytest.fixture(scope="module")
def kept() -> QualityReport:
    return read_report(KEPT)


def row(**changed: object) -> MethodQuality:
    estimate = Estimate(mean=0.25, se_seeds=None, se_users=0.01)
    plain = {
        **dict.fromkeys(("recall", "ndcg", "hitrate"), estimate),
        "title": "a row",
        "valid_recall": 0.2,
        "seeds": 1,
        "seconds": 1.0,
        "params": {},
    }
    return MethodQuality.model_validate(plain | changed)


def test_the_kept_results_are_what_is_written_today(kept):
    content = json.loads(KEPT.read_text(encoding="utf-8"))
    assert kept.model_dump(by_alias=True) == content
    assert markdown(kept) == KEPT.with_suffix(".md").read_text(encoding="utf-8")
    with pytest.raises(ValidationError):
        QualityReport.model_validate(content | {"sedes": [1]})


def test_the_kept_results_name_the_recommended_model_and_its_folder(kept):
    assert (ROOT / kept.recommended.folder / "dygraph_model.py").is_file()
    assert all(kept.recommended.method in log.methods for log in kept.data.values())


def test_the_pages_show_the_kept_rows(kept):
    for page, table in readme.all_tables(kept).items():
        assert f"{readme.BEGIN}\n{table}\n{readme.END}" in (ROOT / page).read_text("utf-8"), page


def test_every_row_is_in_the_docs_and_five_at_most_in_the_readme(kept):
    tables = readme.all_tables(kept)
    shown = tables["docs/results/quality.md"].partition("\n\n")[0].splitlines()
    assert len(shown) == 2 + sum(len(log.methods) for log in kept.data.values())
    lead = tables["README.md"].splitlines()[2:]
    assert 0 < len(lead) <= 5
    recall = 100 * kept.data["goodbooks_mix"].methods[kept.recommended.method].recall.mean
    assert lead[0].startswith(f"| goodbooks_mix | MIND for unseen items (≤ 20 min) {recall:.2f} ")


@pytest.mark.parametrize("page", ["README.md", "README_CN.md"])
def test_the_readmes_sentences_on_the_recommended_model(kept, page):
    text = (ROOT / page).read_text("utf-8")
    rows = [log.methods[kept.recommended.method] for log in kept.data.values()]
    minutes = [row.seconds / 60 for row in rows]
    span = f"{round(min(minutes))} {'to' if page == 'README.md' else '到'} {ceil(max(minutes))} "
    assert span in text

    def points(role: str, *metrics: str) -> dict[tuple[str, str], Difference]:
        return {
            (name, row.metric): row.difference
            for name, log in kept.data.items()
            for row in log.comparisons
            if row.model == kept.recommended.method and row.role == role and row.metric in metrics
        }

    ahead = points("best baseline", "recall@50", "ndcg@50") | points("fusion", "recall@50")
    assert min(interval.low for interval in ahead.values()) > 0
    unseen = [f"{metric}@50 of unseen items" for metric in ("recall", "ndcg")]
    open_ones = {key: i for key, i in points("best baseline", *unseen).items() if i.low <= 0}
    ((where, metric), interval), *others = open_ones.items()
    assert (where, metric, others) == ("goodbooks_mix", unseen[0], [])
    mean, low, high = (f"{100 * v:+.2f}" for v in (interval.mean, interval.low, interval.high))
    assert f"{mean}, {low} … {high}" in text or f"{mean}，{low} … {high}" in text


def test_the_pages_percentages_of_the_recommended_model(kept):
    texts = [(ROOT / f"docs/results/quality{kind}.md").read_text("utf-8") for kind in ("", ".zh")]
    for metric in ("recall@50", "ndcg@50", "ndcg@10"):
        gains = [
            next(
                row.difference
                for row in log.comparisons
                if row.role == "best baseline" and row.metric == metric
            )
            for log in kept.data.values()
        ]
        assert min(gain.low for gain in gains) > 0
        first, second, third = (f"{100 * gain.relative:.0f}" for gain in gains)
        assert f"{metric} by {first}, {second} and {third} %" in texts[0]
        assert f"{metric} 高 {first} %、{second} %、{third} %" in texts[1]


def test_a_page_without_the_marks_is_named_and_nothing_is_written(tmp_path, kept):
    pages = [tmp_path / name for name in readme.all_tables(kept)]
    for page in pages:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    readme.write_readmes(kept, tmp_path)
    text = pages[0].read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    pages[-1].write_text("none\n")
    pages[0].write_text("as it was\n")
    with pytest.raises(DataError, match=r"has no <!-- quality -->"):
        readme.write_readmes(kept, tmp_path)
    assert pages[0].read_text() == "as it was\n"


def test_expected_values_are_written_beside_those_that_stay(kept, tmp_path):
    file = tmp_path / "expected.yaml"
    old = {"old": {"fingerprint": "0", "methods": {"ease": {"recall@50": 1.0, "tolerance": 0.1}}}}
    file.write_text(yaml.safe_dump(old))
    log = kept.data["s3rec_beauty"]
    write_expected({"beauty": log}, file)
    write_expected({"other_name": log}, file)  # known by its fingerprint
    assert list(yaml.safe_load(file.read_text())) == ["old", "beauty"]
    known = read_expected(file)[log.fingerprint]
    assert known.keys() == log.methods.keys()
    assert known["ease"].recall == pytest.approx(100 * log.methods["ease"].recall.mean, abs=1e-3)
    assert known["ease"].parameters == log.methods["ease"].params
    assert known["ease"].trials == 5
    assert known["mind"].parameters is None
    assert read_expected(file)["0"]["ease"].tolerance == 0.1


@pytest.mark.usefixtures("in_this_process")
def test_what_is_published_is_what_a_check_expects(run, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(cli, "write_readmes", lambda report, root: shown.append((report, root)))
    methods = ["--methods", "most_popular", "transitions"]
    assert run(*methods, "--publish")[0] == 0
    known = yaml.safe_load((tmp_path / "expected.yaml").read_text())["tiny"]["methods"]
    assert known.keys() == {"most_popular", "transitions"}
    code, again = run(*methods, "--check", known=known)
    assert code == 0
    assert again["methods"]["transitions"]["chosen"].endswith("on valid, recorded")
    ((report, root),) = shown
    assert root == ROOT
    assert report.data["tiny"].methods.keys() == known.keys()


def test_tolerances_by_what_a_rerun_may_change():
    assert tolerance_of("most_popular", row()) == 0.05
    assert tolerance_of("ease", row(chosen="best of 5 on valid")) == 0.05
    assert tolerance_of("als", row(chosen="best of 5 on valid", seeds=3)) == 0.5
    assert tolerance_of("als", row(chosen="best of 5 on valid")) == 1.0
    assert tolerance_of("mind", row(params={"options": []}, seeds=3)) == 0.5
    assert tolerance_of("mind", row(params={"options": []})) == 1.0


def test_how_long_a_model_was_trained_is_said():
    assert trained(TrainingRun(epochs=1, ended="epochs")) == "1 epoch"
    assert (
        trained(TrainingRun(epochs=3, ended="patience")) == "3 epochs, then no better for a while"
    )
    cut = TrainingRun(epochs=4, batches=812, whole_epoch=1000, ended="budget")
    assert trained(cut) == "4 epochs of 812 batches (of 1,000), cut to the budget"
    assert trained(TrainingRun(epochs=1.75, ended="budget")) == "1.75 epochs, cut to the budget"


def test_the_row_of_a_fusion_says_which_two_and_their_weights():
    params = {
        **{"first": "ease_gamma", "second": "transitions", "weight": 0.7},
        "first_params": {"l2": 300},
        "second_params": {"gamma": 0.8},
    }
    words = params_of("fusion", row(params=params))
    assert words == "0.7 EASE γ (l2 300) + 0.3 transitions (gamma 0.8)"
