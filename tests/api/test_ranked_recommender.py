# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Recommender.rank: ranked lists, why items stand there, before and after; saved and opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from paddlerec_milvus import Recommender
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.errors import CheckpointError, SettingsError, UserError
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.evaluation.ranking_report import LONGEST
from paddlerec_milvus.ranking.channels import CHANNELS
from paddlerec_milvus.ranking.features import GROUPS
from paddlerec_milvus.ranking.files import FOLDER, MANIFEST
from paddlerec_milvus.ranking.samples import held_out_moments, searched_users
from paddlerec_milvus.retrieval.exact import ExactRetriever

HISTORIES = [[5, 9, 30], [], [7]]
COLUMNS = ["user", "item", "title", "score", "rank", "interest"]


@pytest.fixture(scope="module")
def recommender(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recommender]:
    """The trained MIND's best epoch with a small ranker beside it."""
    folder = tmp_path_factory.mktemp("ranked")
    shutil.copytree(trained.checkpoints, folder / "out")
    with Recommender.load(folder / "out") as loaded:
        assert loaded.rank("trees", lists=150, rounds=10) is loaded
        yield loaded.index(folder / "milvus.db", type="FLAT")


@pytest.fixture
def lists(recommender: Recommender) -> pl.DataFrame:
    with pytest.warns(UserWarning, match="popular items for users without a known item.*: 1") as w:
        frame = recommender.recommend(HISTORIES, k=60, explain=True)
    assert w[0].filename == __file__
    assert isinstance(frame, pl.DataFrame)
    return frame


def test_lists_are_those_of_the_ranker(recommender: Recommender, trained: Any) -> None:
    users = read_held_out(trained.data / "test")
    moments = held_out_moments(users)[:5]
    encoder = recommender._model.encoder
    vectors = encoder.item_vectors()
    retriever = ExactRetriever(vectors[1:], np.arange(1, len(vectors)))
    ranking = recommender._model.ranking(recommender.settings)
    lists = recommender.recommend([one.history.tolist() for one in moments])
    assert lists.columns == COLUMNS
    searched = searched_users(moments, encoder.interests, encoder.maxlen, retriever, 200)
    for user, one in enumerate(searched):
        excluded = set(one.moment.history.tolist())
        best = ranking.rank(one.clicks, one.interests, one.hits, excluded, 10)
        rows = lists.filter(pl.col("user") == user)
        assert rows["item"].to_list() == best.items.tolist()
        assert rows["interest"].to_list() == best.interests.tolist()
        np.testing.assert_allclose(rows["score"], best.scores, rtol=1e-5)


def test_items_say_why_they_stand_there(recommender: Recommender, lists: pl.DataFrame) -> None:
    assert lists.columns == [*COLUMNS, "unranked", "channels", "follows", "why"]
    popular = lists.filter(pl.col("user") == 1)
    assert popular["item"].to_list() == list(range(1, 61))
    assert popular.select("score", "channels", "follows", "why").null_count().row(0) == (60,) * 4
    rows = lists.filter(pl.col("user") == 0)
    assert set(rows["follows"].drop_nulls()) <= {5, 9, 30}
    assert rows["why"].is_null().to_list() == [False] * 50 + [True] * 10
    for names, known in (("channels", CHANNELS), ("why", tuple(GROUPS))):
        parts = rows[names].drop_nulls().str.split(", ").explode().str.split(" ").list.first()
        assert set(parts) <= set(known)
    own = recommender.recommend(HISTORIES[:1], 300, ranked=False, exclude_history=True)["item"]
    places = {item: place for place, item in enumerate(own.to_list()[:200], 1)}
    assert rows["unranked"].to_list() == [places.get(item) for item in rows["item"].to_list()]


def test_an_item_that_a_service_deleted_comes_from_no_channel(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recommender.recommend([[5, 9, 30]], 200, explain=True)
    by_others = before.filter(pl.col("unranked").is_null())["item"]
    first = by_others[0]
    retriever: Any = recommender._retriever
    stored = set(range(1, 301)) - {first}
    # as many as the model has: a service has added one, with a number beyond the model's
    monkeypatch.setattr(retriever, "count", lambda filter="": len(stored) + (filter == ""))
    monkeypatch.setattr(
        retriever, "categories_of", lambda ids: dict.fromkeys(stored & set(ids), "")
    )
    after = recommender.recommend([[5, 9, 30]], 200, explain=True)
    assert after.height == 200
    expected = [item for item in before["item"].to_list() if item != first]
    assert after["item"].to_list()[:199] == expected
    stored -= set(by_others)  # more than are looked at beyond a list's length
    after = recommender.recommend([[5, 9, 30]], 100)
    assert after["item"].to_list() == [item for item in expected if item in stored][:100]


def test_before_and_after_are_those_of_infer(
    recommender: Recommender, trained: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    place = f"runner.infer_load_path={recommender.folder}"
    arguments = ["-m", "mind/config.yaml", "--data", str(trained.data), "--exact", "--best"]
    assert infer([*arguments, "--rank", "--report", str(file), "-o", place]) == 0
    report = json.loads(file.read_text())["ranking"]
    metrics = ["recall@10", "ndcg@50"]
    values = recommender.evaluate(metrics=metrics, ranked=True)
    assert list(values) == [*metrics, *(f"ranked_{name}" for name in metrics)]
    for name in metrics:
        assert values[name] == pytest.approx(report["unranked"][name])
        assert values[f"ranked_{name}"] == pytest.approx(report["ranked"][name])
    assert recommender.evaluate(metrics=metrics, ranked=True, exact=True) == pytest.approx(values)
    with_index = recommender.evaluate(metrics=["index_recall@9", "recall@9"], ranked=True)
    assert list(with_index) == ["index_recall@9", "recall@9", "ranked_recall@9"]


def test_a_ranker_is_saved_with_its_model_and_refused_where_it_does_not_fit(
    recommender: Recommender, tmp_path: Any
) -> None:
    out = tmp_path / "saved"
    recommender.save(out)
    uri = recommender.settings.milvus.uri
    (manifest,) = out.glob(f"checkpoints/*/{FOLDER}/{MANIFEST}")
    with Recommender.load(out) as loaded:
        loaded.index(uri, type="FLAT")
        again, before = (one.recommend([[5, 9, 30]], explain=True) for one in (loaded, recommender))
        assert again.equals(before)
    manifest.write_text(manifest.read_text().replace('"model": "', '"model": "0'))
    with Recommender.load(out) as loaded:
        loaded.index(uri, type="FLAT")
        with pytest.raises(CheckpointError, match="trained with another model"):
            loaded.recommend([[5, 9, 30]])
        assert loaded.recommend([[5, 9, 30]], ranked=False).height == 10


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda r: r.recommend([[5]], exclude_history=False), "have the model's own order with ra"),
        (
            lambda r: r.evaluate(ranked=True, exclude_history=False),
            "a ranked list never holds",
        ),
        (lambda r: r.recommend([[5]], ranked=False, explain=True), "explain is of ranked lists"),
        (
            lambda r: r.evaluate(metrics=["recall@201"], ranked=True),
            f"recall@201: of ranked lists at most {LONGEST} items are measured",
        ),
    ],
)
def test_what_cannot_be_is_said(recommender: Recommender, call: Any, text: str) -> None:
    with pytest.raises(SettingsError) as error:
        call(recommender)
    assert text in str(error.value)


def test_without_a_ranker_rank_is_named(trained: Any, tmp_path: Any) -> None:
    with Recommender.load(trained.checkpoints) as loaded:
        loaded.index(tmp_path / "milvus.db", type="FLAT")
        calls = (
            lambda: loaded.recommend([[5]], ranked=True),
            lambda: loaded.recommend([[5]], explain=True),
            lambda: loaded.evaluate(ranked=True),
        )
        for call in calls:
            with pytest.raises(UserError, match=r"there is no ranker: call rank\(\) first"):
                call()
        assert loaded.recommend([[5]])["item"].to_list()


def test_without_valid_users_there_is_nothing_to_learn_from(trained: Any) -> None:
    with Recommender.load(trained.checkpoints) as loaded:
        settings = loaded.settings
        runner = settings.runner.model_copy(update={"valid_data_dir": None})
        without = settings.model_copy(update={"runner": runner})
        loaded._model.trained = loaded._model.trained._replace(settings=without)
        with pytest.raises(SettingsError, match="a ranker learns from valid users"):
            loaded.rank()
    assert not list(trained.checkpoints.glob(f"*/{FOLDER}"))
