# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Two configurations over the same users: numbers by hand, what is refused, and the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.evaluation.replay import (
    ListComparison,
    list_overlap,
    users_needed,
    verdict_of,
)
from paddlerec_milvus.evaluation.replay_cli import main as replay


def users_of(histories: list[list[int]], truths: list[list[int]]) -> HeldOutUsers:
    def flat(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        ends = np.cumsum([0, *map(len, rows)])
        return ends, np.array([item for row in rows for item in row], np.int64)

    return HeldOutUsers(np.arange(len(histories)), *flat(histories), *flat(truths))


def test_measures_overlap_and_groups_by_hand() -> None:
    users = users_of([[1], [1, 2], [1] * 9, [1] * 10], [[5], [6], [7], [8]])
    a = np.array([[5, 3], [3, 4], [3, 7], [3, -1]])
    b = np.array([[5, 3], [6, 3], [7, 3], [8, 9]])
    comparison = ListComparison(a, b, users, [1, 2])
    measures = comparison.measures()
    # A hits at place 1 for the first user, at 2 for the third; B at 1 for all
    assert (measures["hitrate@1"].a, measures["hitrate@1"].b) == (0.25, 1)
    assert (measures["mrr@2"].a, measures["mrr@2"].b) == ((1 + 1 / 2) / 4, 1)
    assert measures["mrr@2"].change.mean == pytest.approx(1 - 3 / 8)
    assert list(measures)[:4] == ["recall@1", "ndcg@1", "hitrate@1", "mrr@1"]
    # shares of both lists at 2: 1, 1/2, 1, 0; the third differs in order alone
    overlap = comparison.overlap()[2]
    assert (overlap.differing, overlap.overlap) == (3, 0.625)
    groups = {group.title.partition(":")[0]: group for group in comparison.groups()}
    assert {name: group.users for name, group in groups.items()} == {
        "few clicks": 2,
        "shorter histories": 2,
        "longer histories": 2,
    }
    assert groups["longer histories"].change.mean == 1
    assert groups["few clicks"].change.mean == 0.5


def test_lists_of_unequal_length_overlap_by_the_longer_one() -> None:
    a, b = np.array([[1, 2, 3], [-1, -1, -1]]), np.array([[1, -1], [-1, -1]])
    overlap = list_overlap(a, b, 3)
    assert (overlap.differing, overlap.overlap) == (1, (1 / 3 + 1) / 2)


def test_the_verdict_is_one_to_act_on() -> None:
    rng = np.random.default_rng(3)
    a = rng.uniform(0.2, 0.8, 400)
    better = "B is better in ndcg@10: B is 9.9 % above A, and"
    assert verdict_of("ndcg@10", a, a + 0.05, 1).startswith(better)
    assert verdict_of("ndcg@10", a, a - 0.05, 1).startswith("A is better in ndcg@10")
    assert verdict_of("ndcg@10", a, a.copy(), 1).startswith("no difference in ndcg@10: A and B")
    noise = np.tile([0.1, -0.1], 200)
    unclear = verdict_of("ndcg@10", a, a + noise, 1)
    needed = users_needed(a, a + noise, 1)
    assert unclear.startswith("no difference can be seen in ndcg@10")
    assert f"about {needed:,} users would be needed to see a change of 1 %" in unclear
    large = verdict_of("ndcg@10", a, a + noise, 50)
    assert large.endswith("with 400 users a change of 50 % would most likely show")


def test_users_needed_by_hand() -> None:
    # s = 0.1 (of n - 1: 0.10013), δ = 1 % of 0.5: (2.8 x 0.10013 / 0.005)² = 3,144.1
    a = np.full(400, 0.5)
    assert users_needed(a, a + np.tile([0.1, -0.1], 200), 1.0) == 3_144
    assert users_needed(np.zeros(4), np.array([0, 1, 0, 1.0]), 1.0) is None


def test_the_power_is_what_it_is_said_to_be() -> None:
    """With as many users as are needed, four of five experiments see the change."""
    rng = np.random.default_rng(5)
    a = np.full(20_000, 0.5)
    needed = users_needed(a, a + rng.normal(0, 0.3, len(a)), 10.0)
    assert needed is not None
    draws = rng.normal(0.05, 0.3, (2_000, needed))
    means, errors = draws.mean(axis=1), draws.std(axis=1, ddof=1) / np.sqrt(needed)
    assert np.mean(means - 1.96 * errors > 0) == pytest.approx(0.8, abs=0.04)


def side(trained, *options: str) -> str:
    return " ".join(
        [
            *("-m mind/config.yaml", *(one for one in options if one.startswith("--")), "-o"),
            f"runner.infer_load_path={trained.checkpoints} hyper_parameters.neg_samples=128",
            *("runner.infer_start_epoch=0 runner.infer_end_epoch=2 index.type=FLAT", trained.lite),
            *(one for one in options if not one.startswith("--")),
        ]
    )


def test_two_epochs_from_arguments_to_report(trained, tmp_path, capsys) -> None:
    """The last of the epochs answers; what the report says are numbers of tools/infer.py."""
    from paddlerec_milvus.evaluation.cli import main as infer

    a, b = side(trained, "--exact", "runner.infer_end_epoch=1"), side(trained)
    file = tmp_path / "out" / "replay.json"
    arguments = ["--a", a, "--b", b, "--data", str(trained.data), "--report", str(file)]
    assert replay([*arguments, "--top_n", "20", "5"]) == 0
    shown = capsys.readouterr().out
    report = json.loads(file.read_text())
    assert (report["a"]["epoch"], report["b"]["epoch"]) == (0, 1)
    assert report["a"]["retriever"] == "exact"
    assert report["b"]["retriever"].endswith("milvus.db")
    assert report["users"] == 60
    assert report["decides"] == "ndcg@20"
    assert list(report["measures"]) == [
        f"{name}@{n}" for n in (20, 5) for name in ("recall", "ndcg", "hitrate", "mrr")
    ]
    assert shown.rstrip().splitlines()[-1] == report["verdict"]
    assert shown.startswith("split by users 8:1:1: 60 users")
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    one = tmp_path / "one.json"
    words = trained.arguments()
    assert infer([*words[:6], "--exact", "--report", str(one), *words[6:]]) == 0
    assert report["measures"]["ndcg@20"]["a"] == json.loads(one.read_text())["ndcg@20"]


def test_a_ranker_is_compared_with_its_own_model(
    trained, tmp_path, monkeypatch, capsys, caplog
) -> None:
    """B - A are the gains of tools/infer.py --rank, where both leave the history out."""
    from paddlerec_milvus.evaluation.cli import main as infer
    from paddlerec_milvus.ranking.cli import main as rank

    copied = replace(trained, checkpoints=tmp_path / "out")
    shutil.copytree(trained.checkpoints, copied.checkpoints)
    words = copied.arguments()
    few = ["--epoch", "0", "--ranker", "trees", "--lists", "150", "--rounds", "10"]
    assert rank([*words[:4], *words[6:], *few]) == 0
    assert (
        infer([*words[:4], "--exact", "--rank", "--report", str(tmp_path / "i.json"), *words[6:]])
        == 0
    )
    ranking = json.loads((tmp_path / "i.json").read_text())["ranking"]
    epoch = "runner.infer_end_epoch=1"
    unranked = side(copied, "--exact", epoch, "retrieval.exclude_history=true")
    ranked = side(copied, "--exact", "--rank", epoch)
    file = tmp_path / "replay.json"
    arguments = ["--a", unranked, "--b", ranked, "--data", str(trained.data)]
    assert replay([*arguments, "--report", str(file)]) == 0
    report = json.loads(file.read_text())
    assert report["b"]["ranker"] == ranking["ranker"]
    assert report["a"]["ranker"] is None
    for name, measure in report["measures"].items():
        assert measure["a"] == pytest.approx(ranking["unranked"][name])
        assert measure["b"] == pytest.approx(ranking["ranked"][name])
        assert measure["change"] == ranking["gain"][name]
    assert "may hold items of the history" not in caplog.text
    arguments[1] = side(copied, "--exact", epoch)
    assert replay(arguments) == 0
    assert "lists of A may hold items of the history" in caplog.text


def fails(capsys, *arguments: str) -> str:
    assert replay(list(arguments)) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_other_users_are_refused_before_any_work(trained, tmp_path, capsys) -> None:
    from paddlerec_milvus.data.cli import main as prepare

    other = tmp_path / "other"
    size = ["--users", "300", "--items", "300", "--clicks", "4000"]
    assert prepare(["--sample", *size, "--out", str(other)]) == 0
    own = side(trained).replace(" -o ", f" --data {other} -o ", 1)
    data = ["--data", str(trained.data)]
    message = fails(capsys, "--a", side(trained), "--b", own, *data)
    assert "--a and --b answer different users: A those of" in message
    assert "(60 users, fingerprint " in message
    assert "give both the same data" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --a and --b to compare two configurations, or --shown and --clicks"),
        (["--a", "-m mind/config.yaml"], "give --a and --b"),
        (["--a", "x", "--b", "y", "--shown", "z", "--clicks", "z"], "give --a and --b"),
        (["--a", "-m 'x", "--b", "y"], "--a: No closing quotation"),
        (["--a", "x", "--b", "y", "--top_n", "0"], "--top_n 0"),
        (["--a", "x", "--b", "y", "--effect", "0"], "--effect 0.0"),
        (
            ["--a", "-m mind/config.yaml --rank", "--b", "-m mind/config.yaml", "--top_n", "300"],
            "--top_n 300: a ranked list is measured up to 200",
        ),
    ],
)
def test_what_cannot_be_compared_is_told(capsys, arguments, message) -> None:
    assert message in fails(capsys, *arguments)


def test_a_missing_checkpoint_names_its_side(trained, capsys) -> None:
    b = side(trained, "--exact", "runner.infer_end_epoch=9")
    data = ["--data", str(trained.data)]
    message = fails(capsys, "--a", side(trained, "--exact"), "--b", b, *data)
    assert message.startswith("error: --b: ")
    assert "there is no such checkpoint" in message


def test_an_unknown_option_names_its_side(capsys) -> None:
    arguments = ["--a", "-m mind/config.yaml", "--b", "-m mind/config.yaml --exct"]
    with pytest.raises(SystemExit, match="2"):
        replay(arguments)
    error = capsys.readouterr().err
    assert "--b: error: unrecognized arguments: --exct" in error


def test_a_report_that_cannot_be_written_is_told_first(tmp_path: Path, capsys) -> None:
    arguments = ["--a", "-m x", "--b", "-m y", "--report", str(tmp_path / "report.txt")]
    assert "expected a FILE.json" in fails(capsys, *arguments)
