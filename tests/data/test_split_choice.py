# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The options of a split, through prepare.py: what is written, said and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddlerec_milvus.data.cli import main
from paddlerec_milvus.data.prepared import UNKNOWN_SPLIT, open_prepared, split_words_beside

SAMPLE = ["--sample", "--users", "60", "--items", "40", "--clicks", "700"]
BEGIN, DAY = 1_401_580_800, 86_400  # 2014-06-01


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """30 users with a click a day; item 9 appears on the eighth of ten days."""
    file = tmp_path / "clicks.csv"
    lines = [
        f"{user},{9 if day == 7 else 1 + (user + day) % 5},{BEGIN + day * DAY}"
        for user in range(30)
        for day in range(10)
    ]
    late = [f"{user},1,{BEGIN + 9 * DAY}" for user in range(40, 42) for _ in range(5)]
    file.write_text("\n".join([*lines, *late]) + "\n")
    return file


def meta_of(folder: Path) -> dict:
    return json.loads((folder / "meta.json").read_text())


def test_a_split_by_time_says_what_it_is_and_what_it_leaves_out(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--interactions", str(log), "--split", "time", "--test-from", "2014-06-08"]
    assert main([*arguments, "--valid-from", "2014-06-06T02:00:00+02:00", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    words = "split by time: valid from 2014-06-06T00:00:00Z, test from 2014-06-08T00:00:00Z"
    assert words in shown.splitlines()
    assert "without a click in train: 1 items;" in shown
    assert (
        "0 of the valid truths and 30 of the test truths are theirs and stay in the denom" in shown
    )
    assert "not measured, without a click before their truths: 2 test users" in shown
    meta = meta_of(out)
    assert (
        meta["split"]
        == meta["recipe"]["split"]
        == {
            "kind": "time",
            "test_from": "2014-06-08T00:00:00Z",
            "valid_from": "2014-06-06T00:00:00Z",
        }
    )
    assert (meta["users"], meta["clicks"], meta["cold_items"]) == (32, 310, 1)
    counts = {name: list(split.values()) for name, split in meta["splits"].items()}
    # users, clicks, history, truths, cold truths
    assert counts == {
        "train": [30, 150],
        "valid": [30, 210, 150, 60, 0],
        "test": [30, 300, 210, 90, 30],
    }
    assert open_prepared(out).split_words == words
    assert split_words_beside(out / "test") == split_words_beside(out / "test" / "part-0") == words


def test_the_moment_that_was_chosen_is_written_and_not_part_of_the_recipe(
    log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["--interactions", str(log), "--split", "time", "--test-from", "2014-06-08"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert meta_of(out)["split"]["valid_from"] == "2014-06-07T00:00:00Z"
    assert "valid_from" not in meta_of(out)["recipe"]["split"]


def test_another_split_needs_overwrite_and_a_folder_of_before_is_by_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*SAMPLE, "--out", str(out)]) == 0
    assert "split by users 8:1:1" in capsys.readouterr().out
    leave_one_out = [*SAMPLE, "--split", "leave-one-out", "--out", str(out)]
    assert main(leave_one_out) == 2
    assert "split: users there, leave-one-out asked" in capsys.readouterr().err
    meta = meta_of(out)
    del meta["split"], meta["recipe"]["split"]
    (out / "meta.json").write_text(json.dumps(meta))
    assert main([*SAMPLE, "--out", str(out)]) == 0
    assert open_prepared(out).split_words == "split by users 8:1:1"
    assert main([*leave_one_out, "--overwrite"]) == 0
    meta = meta_of(out)
    assert meta["users"] == meta["splits"]["train"]["users"] == meta["splits"]["test"]["users"]
    truths = meta["splits"]["valid"]["truths"] + meta["splits"]["test"]["truths"]
    assert meta["clicks"] == meta["splits"]["train"]["clicks"] + truths
    assert open_prepared(out).split_words == "split leave-one-out"


def test_a_folder_that_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert split_words_beside(tmp_path / "train") == UNKNOWN_SPLIT
    (tmp_path / "meta.json").write_text("{")
    assert split_words_beside(tmp_path / "train") == UNKNOWN_SPLIT


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--split", "time"], "--split time needs --test-from DATE"),
        (["--test-from", "2014-07-01"], "--test-from goes with --split time"),
        (
            ["--split", "leave-one-out", "--valid-from", "2014"],
            "--valid-from 2014: expected a date",
        ),
        (
            ["--split", "time", "--test-from", "July"],
            "--test-from July: expected a date as 2014-07",
        ),
        (["--split", "time", "--test-from", "0001-01-01T00:00:00+05:00"], "expected a date as"),
        (
            ["--split", "time", "--test-from", "2014-07-01", "--valid-from", "2014-07-01"],
            "--valid-from 2014-07-01T00:00:00Z is not before --test-from",
        ),
        (["--split", "time", "--test-from", "2014-07-01"], "only an order of clicks: --split time"),
        (["--split", "leave-one-out", "--min-count", "2"], "--min-count is 2; expected 3"),
    ],
)
def test_options_that_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main([*SAMPLE, *options, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_seed_that_draws_nothing_and_a_split_that_is_fixed(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    options = ["--split", "leave-one-out", "--seed", "3"]
    assert main(["--interactions", str(log), *options, *out]) == 2
    assert "--seed does not go with --split leave-one-out" in capsys.readouterr().err
    assert main(["--amazonbook", "--split", "users", *out]) == 2
    assert "--split do not go with --amazonbook" in capsys.readouterr().err
