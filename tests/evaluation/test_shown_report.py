# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Shown lists and clicks read back: whose a click is, the numbers by hand, and damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paddlerec_milvus.data.shown_lists import (
    LoggedClick,
    ShownList,
    ShownLists,
    read_clicks,
    read_shown,
)
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.evaluation.replay_cli import main as replay
from paddlerec_milvus.evaluation.shown_report import shown_report, shown_tables


def line(request: str, items: list[Any], minute: int = 0, **others: Any) -> dict[str, Any]:
    return {
        "time": f"2026-01-31T12:{minute:02}:00Z",
        "request_id": request,
        "model": "m1",
        "ranker": None,
        "source": "unranked",
        "items": items,
        "scores": [0.5] * len(items),
        **others,
    }


def shadow(items: list[Any]) -> dict[str, Any]:
    return {
        **{"by": "ranked", "model": "m1", "ranker": "r1", "source": "ranked"},
        **{"items": items, "scores": [None] * len(items)},
    }


def click(request: str | None, item: Any, **others: Any) -> dict[str, Any]:
    return {"request_id": request, "item": item, **others}


def report_of(lines: list[dict[str, Any]], clicks: list[dict[str, Any]], *lengths: int) -> Any:
    lists = ShownLists([ShownList.model_validate_json(json.dumps(one)) for one in lines], 0)
    read = [LoggedClick.model_validate_json(json.dumps(one)) for one in clicks]
    return shown_report(lists, read, lengths)


def test_measures_by_hand() -> None:
    lines = [line("a", [1, 2, 3]), line("b", [4, 5]), line("c", [6, 7, 8])]
    clicks = [click("a", 2), click("a", 2), click("a", 3), click("b", 4)]
    report = report_of(lines, clicks, 2, 3)
    (one,) = report.configurations
    means = {name: gain.mean for name, gain in one.measures.items()}
    assert (one.lists, one.clicks, report.elsewhere) == (3, 3, 0)  # a click twice is one
    assert means["click-through@2"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert means["click-through@3"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert means["hitrate@2"] == pytest.approx(2 / 3)
    assert means["mrr@3"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert all(gain.low <= gain.mean <= gain.high for gain in one.measures.values())


def test_configurations_are_told_apart() -> None:
    lines = [line("a", [1]), line("b", [1], ranker="r1", source="ranked"), line("c", [1])]
    report = report_of(lines, [click("b", 1)], 1)
    clicks = {(one.source, one.ranker): (one.lists, one.clicks) for one in report.configurations}
    assert clicks == {("unranked", None): (2, 0), ("ranked", "r1"): (1, 1)}
    assert "that is no A/B test" in shown_tables(report)


def test_a_click_belongs_to_the_row_of_its_request_or_to_the_latest_list_with_its_item() -> None:
    lines = [
        line("a", [1, 2], row=0),
        line("a", [1, 3], row=1),
        line("b", ["1", "2"], 10, user="u"),
        line("c", ["2", "9"], 20, user="u"),
    ]
    at = "2026-01-31T12:30:00Z"
    clicks = [
        click("a", 3, row=1),
        click("a", 3),  # not shown to the first row
        {"user": "u", "item": "2", "time": at},  # of c, the later one
        {"user": "u", "item": 1, "time": at},  # of b; ids compare as texts
        {"user": "u", "item": "9", "time": "2026-01-31T12:15:00Z"},  # before it was shown
        {"user": "u", "item": "9", "time": "2026-02-02T12:00:00Z"},  # more than a day later
        {"user": "nobody", "item": "9", "time": at},
        click("nobody", 1),
    ]
    report = report_of(lines, clicks, 2)
    assert report.elsewhere == 5
    assert sum(one.clicks for one in report.configurations) == 3


def test_a_shadow_is_paired_over_lists_with_a_click() -> None:
    lines = [
        line("a", [1, 2, 3], shadow=shadow([3, 1, 9])),
        line("b", [4, 5, 6], shadow=shadow([7, 8, 9])),
        line("c", [1, 2, 3], shadow=shadow([1, 2, 3])),  # no click
        line("d", [1, 2, 3]),  # no shadow
    ]
    report = report_of(lines, [click("a", 3), click("a", 1), click("b", 4), click("d", 1)], 1, 3)
    (one,) = report.shadows
    assert (one.lists, one.higher, one.lower, one.same) == (2, 1, 1, 0)
    assert (one.measures["hitrate@3"].a, one.measures["hitrate@3"].b) == (1, 0.5)
    assert (one.measures["mrr@3"].a, one.measures["mrr@3"].b) == (1, 0.5)
    assert one.measures["mrr@3"].change.mean == -0.5
    assert "click-through@3" not in one.measures
    shown = shown_tables(report)
    assert "shadow: ranked: ranked by m1 + ranker r1" in shown
    assert "Only what was shown can be clicked" in shown


def write(file: Path, lines: list[dict[str, Any]], end: str = "") -> Path:
    file.write_text("".join(json.dumps(one) + "\n" for one in lines) + end)
    return file


def test_files_and_folders_are_read_and_an_unfinished_last_line_is_left_out(tmp_path) -> None:
    write(tmp_path / "1.jsonl", [line("a", [1])], '{"time": "20')
    other = write(tmp_path / "2.jsonl", [line("b", [2])])
    (tmp_path / "notes.txt").write_text("not read")
    shown = read_shown([tmp_path, other])
    assert [one.request_id for one in shown.lists] == ["a", "b", "b"]
    assert shown.unfinished == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}\n", r"shown\.jsonl, line 1: model: Field required; found '\{\}'"),
        ("[1]\n", "line 1: Input should be an object"),
        ("x\n", "line 1: Invalid JSON"),
        ("", "no shown list"),
        (json.dumps(line("a", [1, 1])) + "\n", "an item stands twice in the list"),
        (json.dumps(line("a", [1], scores=[])) + "\n", "1 items and 0 scores"),
        (json.dumps(line("a", [1]) | {"time": "2026-01-31T12:00:00"}) + "\n", "line 1: time: "),
    ],
)
def test_a_damaged_file_names_the_line(tmp_path, text, message) -> None:
    file = tmp_path / "shown.jsonl"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_shown([file])


@pytest.mark.parametrize("one", [{"item": 1}, {"item": 1, "user": 7}, {"request_id": "a"}])
def test_a_click_names_its_list(tmp_path, one) -> None:
    with pytest.raises(DataError, match="line 1: "):
        read_clicks([write(tmp_path / "clicks.jsonl", [one])])


def test_the_command_reads_back(tmp_path, capsys) -> None:
    shown = write(tmp_path / "shown.jsonl", [line("a", [1, 2], shadow=shadow([2, 1]))])
    clicks = write(tmp_path / "clicks.jsonl", [click("a", 2)])
    file = tmp_path / "report.json"
    words = ["--shown", str(shown), "--clicks", str(clicks), "--report", str(file)]
    assert replay([*words, "--top_n", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("1 shown lists, 1 clicks\n")
    report = json.loads(file.read_text())
    assert report["configurations"][0]["measures"]["mrr@2"]["mean"] == 0.5
    assert report["shadows"][0]["measures"]["mrr@2"]["b"] == 1
    assert replay(["--shown", str(tmp_path / "away"), "--clicks", str(clicks)]) == 2
    assert "away: cannot be read: No such file" in capsys.readouterr().err
