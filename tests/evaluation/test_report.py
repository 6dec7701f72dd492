# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Tables, words and picture of reports whose numbers are known."""

from __future__ import annotations

import copy

import pytest
from pydantic import ValidationError

from paddlerec_milvus.evaluation.plots_png import draw
from paddlerec_milvus.evaluation.report import in_words, interest_table, relevance_table, table
from paddlerec_milvus.evaluation.results import EvaluationReport, HeldOutSummary

NUMBERS = {"recall@5": 0.25, "ndcg@5": 0.2, "ndcg_hits@5": 0.5, "hitrate@5": 0.4, "users": 7}
LISTS = {"coverage": 0.3, "gini": 0.9, "popularity_rank": 0.02, "category_diversity": 0.6}
TRUTHS = {"coverage": 0.5, "gini": 0.7, "popularity_rank": 0.1, "category_diversity": 0.4}
EPOCH = {
    **NUMBERS,
    "seconds": 1.5,
    "seconds_by_stage": {"tower": 1.0},
    "interests": {
        "count": 2,
        "cosine": {"mean": 0.375, "p10": 0.1, "p50": 0.4, "p90": 0.6},
        "dead": 0.25,
        "idle": 0.25,
        "repeated": 0.0,
        "dead_for_all": 0.0,
        "share_by_index": [0.4, 0.6],
        "share_by_rank": [0.8, 0.2],
    },
    "lists": LISTS,
    "truths": TRUTHS,
    "catalogue": {"items": 1000, "popularity_from": "train clicks"},
}


HELD_OUT = {
    "split": "split by users 8:1:1",
    "users": 7,
    "truths": 1200,
    "excluded_truths": None,
    "cold_truths": 0,
    "chose_epoch": False,
}
INDEX = {"index_recall@5": 0.75, "index_recall_users": 4, "parameters_without_effect": ["ef"]}


def json_of(epoch: dict) -> dict:
    popular = {**NUMBERS, "lists": {**epoch["lists"], "coverage": 0.005}}
    return {
        **epoch,
        "format": 1,
        "epoch": 3,
        "top_n": 5,
        "retriever": "exact",
        "settings": {"file": "models/recall/mind/config.yaml"},
        "held_out": HELD_OUT,
        "epochs": {"3": epoch},
        "baselines": {"most_popular": popular},
        "versions": {},
        "machine": {},
    }


def report_of(epoch: dict) -> EvaluationReport:
    return EvaluationReport.model_validate(json_of(epoch))


def changed(**parts) -> EvaluationReport:
    epoch = copy.deepcopy(EPOCH)
    for name, values in parts.items():
        epoch[name] |= values
    return report_of(epoch)


@pytest.mark.parametrize("epoch", [EPOCH, {**EPOCH, **INDEX}])
def test_a_file_is_read_and_written_as_it_was(epoch):
    report = report_of(epoch)
    assert report.model_dump() == json_of(epoch)
    assert report.last.relevance.recall == 0.25
    assert (report.last.index is None) == (epoch is EPOCH)
    assert report.last.index is None or report.last.index.index_recall == 0.75


@pytest.mark.parametrize("change", [{"recal@5": 0.1}, {"recall@7": 0.1}, {"index_recall_users": 1}])
def test_a_field_that_a_result_does_not_have_is_refused(change):
    with pytest.raises(ValidationError):
        report_of({**EPOCH, **change})


def test_index_recall_stands_beside_relevance_and_not_for_a_baseline():
    header, _, model, popular = cells(relevance_table(report_of({**EPOCH, **INDEX})))
    assert [cell.strip() for cell in header][-2:] == ["index_recall@5", "users"]
    assert [cell.strip() for cell in model][-2:] == ["75.000", "7"]
    assert [cell.strip() for cell in popular][-2:] == ["40.000", "7"]


def cells(text: str) -> list[list[str]]:
    return [[cell for cell in line.split("  ") if cell] for line in text.splitlines()]


def test_the_second_table_has_model_baselines_and_truths():
    header, _, model, popular, truths = cells(interest_table(report_of(EPOCH)))
    assert [cell.strip() for cell in header][:4] == [
        "interests",
        "cosine",
        "dead",
        "share of list, %",
    ]
    shown = [cell.strip() for cell in model]
    assert shown == ["MIND, epoch 3", "0.38", "0.25 of 2", "80 / 20", "30.0", "90.0", "2.0", "60.0"]
    assert [cell.strip() for cell in popular] == ["MostPopular", "0.5", "90.0", "2.0", "60.0"]
    assert [c.strip() for c in truths] == ["held-out clicks", "50.0", "70.0", "10.0", "40.0"]


def test_the_first_table_is_printed_unchanged_above():
    report = report_of(EPOCH)
    heading = "split by users 8:1:1: 7 users, 1,200 truths"
    assert table(report).startswith(f"{heading}\n\n{relevance_table(report)}\n\n")
    assert [c.strip() for c in cells(relevance_table(report))[2]][:2] == ["MIND, epoch 3", "25.000"]


def test_the_heading_counts_what_no_list_can_hit_and_names_a_choice_on_the_same_users():
    known = HELD_OUT | {"excluded_truths": 0, "cold_truths": 31}
    text = HeldOutSummary.model_validate(known).words()
    assert text == (
        "split by users 8:1:1: 7 users, 1,200 truths, of which 0 in a history, which lists leave "
        "out, and 31 of items without a train click stay in the denominator"
    )
    chosen = HeldOutSummary.model_validate(HELD_OUT | {"cold_truths": None, "chose_epoch": True})
    assert chosen.words().endswith("1,200 truths; the epoch was chosen on these very users")


def test_words_say_what_the_numbers_mean():
    first, second = in_words(report_of(EPOCH)).splitlines()
    assert "Of 2 interests a user, 0.25 are dead; the largest brings 80 % of the list" in first
    assert "even share: 50 %" in first
    assert "mean cosine is 0.38" in first
    assert "30.0 % of the 1,000 items, more popular ones than users click" in second
    assert "2.0 % against 10.0 %" in second
    assert "no more popular ones" in in_words(changed(lists={"popularity_rank": 0.2}))


def test_unknown_numbers_are_left_out(tmp_path):
    epoch = copy.deepcopy(EPOCH)
    cosine = dict.fromkeys(["mean", "p10", "p50", "p90"])
    epoch["interests"] |= {"count": 1, "cosine": cosine, "share_by_rank": [None]}
    epoch["lists"] |= {"gini": None, "popularity_rank": None}
    for shown in (epoch["lists"], epoch["truths"]):
        del shown["category_diversity"]
    report = report_of(epoch)
    assert "category" not in interest_table(report)
    assert "None" not in table(report)
    assert "nan" not in table(report)
    assert "cosine" not in in_words(report)
    draw(report, tmp_path / "picture.png")


@pytest.mark.parametrize("count", [1, 8])
def test_a_picture_is_drawn_for_any_number_of_interests(tmp_path, count):
    report = changed(interests={"count": count, "share_by_rank": [1 / count] * count})
    draw(report, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
