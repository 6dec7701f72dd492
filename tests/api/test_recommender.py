# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists and figures of a model that tools/trainer.py trained, against brute force and infer.py."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest

from paddlerec_milvus import Recommender
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.errors import (
    CheckpointError,
    DataError,
    RefusedError,
    SettingsError,
    UserError,
)
from paddlerec_milvus.evaluation.cli import main as infer

METRICS = ["recall@20", "ndcg@20", "ndcg_hits@20", "hitrate@20"]


@pytest.fixture(scope="module")
def recommender(trained, tmp_path_factory):
    with Recommender.load(trained.checkpoints) as loaded:
        yield loaded.index(tmp_path_factory.mktemp("milvus") / "milvus.db", type="FLAT")


def click_frames(data):
    """History and truths of the test users, as data frames."""
    users = read_held_out(data / "test")
    parts = ((users.history_indptr, users.history), (users.truth_indptr, users.truths))
    return [
        pl.DataFrame({"user": np.repeat(users.user_ids, np.diff(indptr)), "item": items})
        for indptr, items in parts
    ]


def test_figures_are_those_of_infer(recommender, trained, tmp_path, capsys):
    file = tmp_path / "report.json"
    arguments = trained.arguments()
    flags = ["--best", "--exact", "--report", str(file)]
    assert infer([*arguments[:6], *flags, *arguments[6:]]) == 0
    report = json.loads(file.read_text())
    expected = {name: report[name] for name in METRICS}
    assert recommender.evaluate(metrics=METRICS, exact=True) == expected
    history, test = click_frames(trained.data)
    assert recommender.evaluate(test, METRICS, history=history, exact=True) == expected
    by_index = recommender.evaluate(metrics=[*METRICS, "recall@5", "index_recall@20"])
    assert {name: by_index[name] for name in METRICS} == expected
    assert by_index["index_recall@20"] == 1
    assert 0 < by_index["recall@5"] < by_index["recall@20"]


def test_lists_are_those_of_brute_force(recommender):
    histories = [[5, 9, 30], [7], [5, 9, 30]]
    lists = recommender.recommend(histories, k=6, exclude_history=True)
    scores = (recommender.interests(histories) @ recommender._model.vectors.T).max(axis=1)
    for user, history in enumerate(histories):
        scores[user, np.array(history) - 1] = -np.inf
        rows = lists.filter(pl.col("user") == user)
        assert rows["rank"].to_list() == [1, 2, 3, 4, 5, 6]
        expected = np.sort(scores[user])[::-1][:6]
        np.testing.assert_allclose(rows["score"].to_numpy(), expected, rtol=1e-5)
        np.testing.assert_allclose(scores[user, rows["item"].to_numpy() - 1], expected, rtol=1e-5)
    kept = recommender.recommend([[5, 9, 30]], k=np.int64(300))
    assert kept.height == 300
    assert kept["interest"].is_between(0, 3).all()


def test_truths_of_no_item_stay_in_the_denominator(recommender):
    best = recommender.recommend([[5, 9, 30]], k=1)["item"][0]
    history = {1: [5, 9, 30], 2: [5]}

    def recall(test):
        return recommender.evaluate(test, ["recall@1"], history=history)["recall@1"]

    assert recall({1: [best]}) == 1
    assert recall({1: [best, 100_000, 100_001]}) == pytest.approx(1 / 3)
    with pytest.warns(UserWarning, match="1 of 2 users have no known click before"):
        assert recall({1: [best], 3: [best]}) == 1
    with pytest.raises(DataError, match="none of its 1 users has a known click before"):
        recall({3: [best]})


def test_the_history_is_all_that_the_log_has_of_a_user(recommender, trained):
    history, test = click_frames(trained.data)
    later = {user: [1] for user in test["user"].unique().to_list()}
    everything = pl.concat([history, test])
    metrics = ["recall@9", "ndcg@9"]
    values = recommender.evaluate(later, metrics, exact=True)
    assert values == recommender.evaluate(later, metrics, history=everything, exact=True)


def test_an_index_of_this_model_is_used_and_one_of_other_data_refused(
    recommender, trained, tmp_path, monkeypatch
):
    uri = recommender.settings.milvus.uri
    with Recommender.load(trained.checkpoints) as second:
        monkeypatch.setattr("paddlerec_milvus.api.stored_items._build", None)  # would fail
        second.index(uri, type="FLAT")
        lists = [one.recommend([[5, 9]], k=5) for one in (second, recommender)]
        assert lists[0].equals(lists[1])
        monkeypatch.setattr(
            "paddlerec_milvus.trained_model.ModelIdentity.of_properties",
            lambda properties: second_identity(),
        )
        with pytest.raises(RefusedError, match=r"holds the vectors of .*rebuild=True"):
            second.index(uri, type="FLAT")


def test_a_checkpoint_that_was_trained_on_since_is_not_mixed_with_this_model(trained, tmp_path):
    checkpoints = shutil.copytree(trained.checkpoints, tmp_path / "out")
    with Recommender.load(checkpoints, epoch="0") as mine:
        mine.index(tmp_path / "milvus.db", type="FLAT")
        lists = mine.recommend([[5, 9]])
        shutil.copyfile(checkpoints / "1" / "rec.pdparams", checkpoints / "0" / "rec.pdparams")
        calls = (
            lambda: mine.evaluate(metrics=["recall@9"]),
            lambda: mine.index(tmp_path / "milvus.db", type="FLAT", rebuild=True),
            lambda: mine.save(tmp_path / "saved"),
            lambda: mine.rank("trees", lists=50, rounds=2),
        )
        for call in calls:
            with pytest.raises(CheckpointError, match="has been trained since this model was open"):
                call()
        assert mine.recommend([[5, 9]]).equals(lists)


def test_an_item_that_a_service_added_is_seen_where_another_was_deleted(trained, tmp_path):
    uri = tmp_path / "milvus.db"
    with Recommender.load(trained.checkpoints) as mine:
        mine.index(uri, type="FLAT")
        vector = mine._retriever.vectors([5])
        mine._retriever.delete([5])
        mine._retriever.upsert(vector, [2**62])
        with pytest.raises(RefusedError, match="holds 1 items more than the model"):
            mine.index(uri, type="FLAT")


def second_identity():
    from paddlerec_milvus.trained_model import ModelIdentity

    return ModelIdentity(model="mind", data="other", data_fingerprint="0" * 16, digest="1" * 16)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda r: r.recommend([[1]], k=301), SettingsError, "k is 301; expected 1 to 300"),
        (lambda r: r.recommend([[1]], k=0), SettingsError, "k is 0; expected 1 to 300"),
        (
            lambda r: r.recommend([[1]], k="10"),
            SettingsError,
            "k is '10', of type str; expected 1 to",
        ),
        (lambda r: r.recommend([[1]], k=10.0), SettingsError, "k is 10.0, of type float; expected"),
        (lambda r: r.recommend([[1]], k=True), SettingsError, "k is True, of type bool; expected"),
        (lambda r: r.recommend([["7"]]), DataError, "integers in the log: give 7, not '7'"),
        (lambda r: r.recommend([[1.5]]), DataError, "integers in the log, not 1.5"),
        (lambda r: r.recommend([1, 2]), DataError, "1 of user 0 is no list"),
        (lambda r: r.recommend("B001"), DataError, "histories is a str; expected one list of ids"),
        (lambda r: r.recommend(pl.DataFrame({"item": [1]})), DataError, "no column for user"),
        (
            lambda r: r.recommend(pl.DataFrame({"user": [1], "item": ["B1"]})),
            DataError,
            "ids of items are integers in the log, and here such as 'B1'",
        ),
        (
            lambda r: r.recommend(pl.DataFrame({"user": [1, None], "item": [1, 2]})),
            DataError,
            "histories: an empty user id in row 1",
        ),
        (lambda r: r.evaluate([[1]], ["recall@5"]), DataError, "lists do not say whose they are"),
        (
            lambda r: r.evaluate([[1]], ["recall@5"], history={1: [2]}),
            DataError,
            "history: 1 users, test: 1; both name their users, or both are lists",
        ),
        (lambda r: r.serve(port=70_000), SettingsError, "port: 70000 is none"),
        (lambda r: r.evaluate(metrics=["recal@5"]), SettingsError, "did you mean 'recall'?"),
        (lambda r: r.evaluate(metrics=["recall"]), SettingsError, "'recall' is not known"),
        (lambda r: r.evaluate(metrics="recall@5"), SettingsError, "is no list such as"),
        (lambda r: r.evaluate(metrics=["recall@301"]), SettingsError, "there are 300 items"),
        (
            lambda r: r.evaluate(metrics=["index_recall@5", "recall@9"]),
            SettingsError,
            "of the longest lists alone: index_recall@9",
        ),
        (
            lambda r: r.evaluate(metrics=["index_recall@5"], exact=True),
            SettingsError,
            "'index_recall@5' is not known",
        ),
        (lambda r: r.index("milvus.db", type="HNWS"), SettingsError, "did you mean 'HNSW'?"),
        (lambda r: r.index("milvus.db", nprob=3), SettingsError, "no index has this parameter"),
        (
            lambda r: r.index("milvus.db", options={"runner.epochs": 2}),
            SettingsError,
            "options: runner.epochs cannot change after training; the sections milvus, index",
        ),
        (lambda r: r.index("milvus.txt"), UserError, "nor a path that ends in .db"),
    ],
)
def test_what_cannot_be_is_said(recommender, call, error, text):
    with pytest.raises(error) as raised:
        call(recommender)
    assert text in str(raised.value)


def test_without_an_index_nothing_is_searched(trained):
    with Recommender.load(trained.checkpoints) as loaded:
        for call in (loaded.serve, loaded.evaluate, lambda: loaded.recommend([[1]])):
            with pytest.raises(UserError, match="there is no index: call index"):
                call()
