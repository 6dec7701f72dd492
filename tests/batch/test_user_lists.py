# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists equal those of the evaluation, whatever they are made from and searched in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from batch_model import SmallModel, rows_of
from support import ROOT, python

from paddlerec_milvus.batch.cli import main as batch
from paddlerec_milvus.batch.lists import ListOptions, UserLists
from paddlerec_milvus.command import settings_for
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.evaluation.evaluator import Evaluation
from paddlerec_milvus.ranking.training import train_ranking
from paddlerec_milvus.retrieval.milvus import retriever_from_settings
from paddlerec_milvus.trained_model import TrainedModel

WITHOUT_PADDLE = "from paddlerec_milvus.batch.cli import main; sys.exit(main())"
EXCLUDE = "retrieval.exclude_history=True"


@pytest.fixture(scope="session")
def histories(small: SmallModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the evaluation knows of the test users: their clicks without the later ones."""
    users = read_held_out(small.data / "test")
    frame = pl.DataFrame(
        {"user": users.user_ids, "items": [one.tolist() for one in users.history_list()]}
    )
    file = tmp_path_factory.mktemp("histories") / "users.parquet"
    frame.write_parquet(file)
    return file


@pytest.mark.parametrize("options", [(), (EXCLUDE,)])
def test_lists_are_those_of_infer(
    small: SmallModel, histories: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "lists.jsonl"
    flags = ("--best", "--exact", "-top_n", "20", "--lists", str(file))
    assert infer([*flags, *small.model, *options]) == 0
    expected = [json.loads(line) for line in file.read_text().splitlines()]
    flags = ("--exclude-history",) if options else ()
    rows = small.lists(tmp_path / "out", "--histories", str(histories), *flags)
    assert rows.select("user", "items").to_dicts() == expected
    assert set(rows["source"]) == {"model"}
    assert all(scores == sorted(scores, reverse=True) for scores in rows["scores"].to_list())
    assert rows.columns == ["user", "items", "scores", "source"]


def test_ranked_lists_are_those_of_infer(
    small: SmallModel, histories: Path, tmp_path: Path
) -> None:
    settings = settings_for("mind/config.yaml", small.model[5:], small.data)
    evaluation = Evaluation(settings, 20, exact=True, best=True, rank=True)
    evaluation.epochs()
    flags = ("--rank", "--details", "--histories", str(histories))
    rows = small.lists(tmp_path / "exact", *flags)
    assert rows["items"].to_list() == evaluation.ranked[:, :20].tolist()
    assert set(rows["source"]) == {"ranked"}
    named = {
        word.split()[0] for one in rows["channels"].to_list() for word in ", ".join(one).split(", ")
    }
    assert named == {"interests", "transitions", "neighbours", "popular"}
    assert rows["interests"].list.len().to_list() == [20] * 60
    # FLAT in Milvus is exact; its vectors are inserted, as there were none
    arguments = ("--out", str(tmp_path / "lite"), "--top_k", "20", *flags)
    assert small.run(*arguments, options=(f"milvus.uri={tmp_path / 'milvus.db'}",)) == 0
    assert rows_of(tmp_path / "lite")["items"].to_list() == rows["items"].to_list()


def test_ranked_lists_have_the_quotas_of_their_ranker(
    small: SmallModel, histories: Path, tmp_path: Path
) -> None:
    own = replace(small, checkpoints=shutil.copytree(small.checkpoints, tmp_path / "out"))
    more = ("ranking.quotas.interests=280", "ranking.quotas.popular=0")
    settings = settings_for("mind/config.yaml", [*own.model[5:], *more], own.data)
    best = TrainedModel(settings, own.checkpoints / "best")
    train_ranking(best, kind="trees", most_lists=80, rounds=2)
    evaluation = Evaluation(settings, 20, exact=True, best=True, rank=True)
    evaluation.epochs()
    flags = ("--rank", "--top_k", "200", "--histories", str(histories))
    rows = own.lists(tmp_path / "lists", *flags)
    assert rows["items"].to_list() == evaluation.ranked.tolist()


def test_all_users_have_all_of_their_clicks(small: SmallModel, tmp_path: Path) -> None:
    rows = small.lists(tmp_path / "out", "--exclude-history")
    assert rows["user"].to_list() == list(range(600))
    lists = dict(zip(rows["user"].to_list(), rows["items"].to_list(), strict=True))
    users = read_held_out(small.data / "valid")
    for user, past, later in zip(
        users.user_ids.tolist(), users.history_list(), users.truth_list(), strict=True
    ):
        assert len(lists[user]) == 20
        assert not set(lists[user]) & {*past.tolist(), *later.tolist()}


def test_without_a_known_click_a_list_is_popular_or_left_out(
    small: SmallModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "users.csv"
    file.write_text("user,items\n7,5 9 12\n8,\n9,999 0 x\n")
    rows = small.lists(tmp_path / "out", "--histories", str(file), "--details")
    assert rows["source"].to_list() == ["model", "popular", "popular"]
    assert rows["items"].to_list()[1:] == [list(range(1, 21))] * 2
    assert rows["scores"].to_list()[1:] == [[], []]
    said = capsys.readouterr().out
    assert "3 users (1 model, 2 popular), 1 parts; 3 clicks on unknown items" in said
    rows = small.lists(tmp_path / "few", "--histories", str(file), "--without-popular")
    assert rows["user"].to_list() == [7]


def test_deleted_items_are_in_no_list_nor_are_added_ones(small: SmallModel, tmp_path: Path) -> None:
    lite = f"milvus.uri={tmp_path / 'milvus.db'}"
    settings = settings_for("mind/config.yaml", [*small.model[5:], lite], small.data)
    file = tmp_path / "users.csv"
    file.write_text("user,items\n7,5 9 12\n8,\n")

    def lists(name: str, *flags: str) -> list[list[int]]:
        arguments = ("--histories", str(file), "--out", str(tmp_path / name), *flags)
        assert small.run(*arguments, options=(lite,)) == 0
        rows: list[list[int]] = rows_of(tmp_path / name)["items"].to_list()
        return rows

    before = [lists("before"), lists("ranked", "--rank")]
    gone = {before[0][0][0], before[0][1][0], *before[1][0][:3]}
    with retriever_from_settings(settings) as retriever:
        retriever.open()
        vector = retriever.vectors([before[0][0][0]])
        retriever.delete(sorted(gone))
        retriever.upsert(10 * vector, [301])
    for after in (lists("after"), lists("ranked_after", "--rank")):
        for items in after:
            assert len(items) == 50
            assert not set(items) & {*gone, 301}


@pytest.mark.slow
def test_an_export_gives_the_lists_of_its_checkpoint(
    small: SmallModel, exported: Path, histories: Path, tmp_path: Path
) -> None:
    expected = small.lists(tmp_path / "checkpoint", "--rank", "--histories", str(histories))
    flags = ["--export", str(exported), "--histories", str(histories)]
    usual = ["--exact", "--rank", "--top_k", "20", "--part-users", "100"]
    assert batch([*flags, *usual, "--out", str(tmp_path / "export")]) == 0
    rows = rows_of(tmp_path / "export")
    assert rows.drop("scores").equals(expected.drop("scores"))
    scores = (np.array(one["scores"].to_list()) for one in (rows, expected))
    assert np.allclose(*scores, atol=1e-4)
    code = "import sys; sys.modules['paddle'] = sys.modules['fastapi'] = None; " + WITHOUT_PADDLE
    words = [*flags, *usual, "--out", str(tmp_path / "without")]
    done = python("-c", code, *words, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "without").drop("scores").equals(rows.drop("scores"))
    with UserLists.load(exported, "", ListOptions(20, rank=True, exact=True)) as lists:
        known = pl.read_parquet(histories)
        users, clicks = known["user"].to_list(), known["items"].to_list()
        clicks[0] = [999, *clicks[0]]  # none of the model's
        again = lists.of(users, clicks)
        assert again.drop("scores").equals(rows.drop("scores"))
        assert lists.of([], []).is_empty()
        assert again.to_pandas()["items"][0].tolist() == rows["items"][0].to_list()
