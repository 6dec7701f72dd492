# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Recommender.fit, save and load: from data frames to a folder and back."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import polars as pl
import pytest
from small_log import OPTIONS, books, clicks

from paddlerec_milvus import Recommender
from paddlerec_milvus.errors import CheckpointError, DataError, SettingsError, UserError

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Trained on frames of pandas."""
    frame = pandas.DataFrame(clicks().rename({"user": "visitor"}).to_dict(as_series=False))
    titles = pandas.DataFrame(books().to_dict(as_series=False))
    folder = tmp_path_factory.mktemp("runs") / "first"
    with Recommender.fit(
        frame, items=titles, columns={"user": "visitor"}, options=OPTIONS, folder=folder
    ) as recommender:
        yield recommender.index(folder.parent / "milvus.db")


def test_lists_come_back_in_the_library_and_the_ids_of_the_log(fitted):
    lists = fitted.recommend({"me": ["B001", "B002"]}, k=3, exclude_history=True)
    assert isinstance(lists, pandas.DataFrame)
    assert list(lists) == ["user", "item", "title", "score", "rank", "interest"]
    assert lists["user"].tolist() == ["me"] * 3
    assert lists["rank"].tolist() == [1, 2, 3]
    assert lists["score"].dtype == np.float32
    assert not {"B001", "B002"} & set(lists["item"])
    first = lists.iloc[0]
    assert first["title"] == f"The Book of {int(first['item'][1:])}"


def test_a_frame_of_histories_decides_the_library_of_its_lists(fitted):
    history = pl.DataFrame({"user": ["a", "b", "a"], "item": ["B002", "B011", "B001"]})
    lists = fitted.recommend(history.with_columns(time=pl.Series([2, 1, 1])), k=2)
    assert isinstance(lists, pl.DataFrame)
    assert lists["user"].to_list() == ["a", "a", "b", "b"]
    in_order = fitted.recommend([["B001", "B002"], ["B011"]], k=2)
    assert lists["item"].to_list() == in_order["item"].tolist()


def test_popular_items_have_no_score_and_no_interest(fitted):
    with (
        pytest.warns(UserWarning, match="left out of histories: 'X9', 'X8'$"),
        pytest.warns(UserWarning, match="popular items for users without a known item.*: 2"),
    ):
        lists = fitted.recommend([["X9"], [], ["B001", "X8"]], k=2)
    assert lists["score"].isna().tolist() == [True] * 4 + [False] * 2
    assert lists["interest"].isna().tolist() == [True] * 4 + [False] * 2
    assert lists["item"][:2].tolist() == lists["item"][2:4].tolist()


def test_save_copies_what_load_needs_and_both_give_the_same(fitted, tmp_path):
    out = tmp_path / "saved"
    fitted.save(out)
    fitted.save(out)  # in place of the one before
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoints",
        "data",
        "recommender.json",
    ]
    with Recommender.load(out) as loaded:
        assert loaded.interests([["B001"]]).tolist() == fitted.interests([["B001"]]).tolist()
        metrics = ["recall@5", "ndcg@3"]
        values = loaded.evaluate(metrics=metrics, exact=True)
        assert values == fitted.evaluate(metrics=metrics, exact=True)
        assert list(values) == metrics
        assert loaded.epoch == 0
    fitted.save(fitted.folder)  # is there already
    assert (fitted.folder / "checkpoints" / "0" / "rec.pdopt").exists()


def test_load_and_save_put_back_what_a_killed_save_moved_aside(fitted, tmp_path):
    out, aside = tmp_path / "saved", tmp_path / ".saved.replaced"
    fitted.save(out)
    out.rename(aside)
    with Recommender.load(out) as loaded:
        assert loaded.epoch == 0
    assert not aside.exists()
    (out / "notes.txt").touch()
    out.rename(aside)
    with pytest.raises(DataError, match=r"holds notes.txt, which save\(\) did not write"):
        fitted.save(out)
    assert (out / "notes.txt").exists()


def test_an_older_and_a_newer_format_are_refused_with_what_to_do(fitted, tmp_path):
    fitted.save(tmp_path / "saved")
    file = tmp_path / "saved" / "recommender.json"
    content = json.loads(file.read_text())
    for version, words in ((0, "an older version (0.0.1; format 0"), (2, "a newer version")):
        file.write_text(json.dumps({**content, "format": version, "version": "0.0.1"}))
        with pytest.raises(CheckpointError) as error:
            Recommender.load(file.parent)
        assert words in str(error.value)
        assert f"Recommender.fit('{tmp_path}/saved/data')" in str(error.value)
    file.write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Recommender.load(file.parent)


def test_what_save_did_not_write_is_left_alone(fitted, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds notes.txt, which save\(\) did not write"):
        fitted.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(DataError, match=r"notes.txt: is a file; name a folder"):
        fitted.save(tmp_path / "notes.txt")


def test_another_run_is_not_saved_over(fitted, tmp_path):
    other = shutil.copytree(fitted.folder, tmp_path / "other")
    with pytest.raises(DataError, match=r"other: is a run of fit\(\), with all its epochs"):
        fitted.save(other)
    assert (other / "checkpoints" / "0" / "rec.pdopt").exists()


def test_a_training_that_began_anew_and_did_not_end_is_said(fitted, tmp_path):
    folder = shutil.copytree(fitted.folder, tmp_path / "run")
    file = folder / "recommender.json"
    content = json.loads(file.read_text())
    assert len(content["run"]) == 16
    file.write_text(json.dumps({**content, "run": "0" * 16}))
    with pytest.raises(CheckpointError, match=r"another training began here .*resume=True"):
        Recommender.load(folder)
    shutil.move(folder / "checkpoints" / "0", folder / "earlier")
    with pytest.raises(CheckpointError, match=r"another training began here .*resume=True"):
        Recommender.load(folder)


def test_folders_that_cannot_be_written(fitted, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"folder: .*/file/run: Not a directory; name another"):
        Recommender.fit(clicks(), folder=tmp_path / "file" / "run")
    with pytest.raises(DataError, match=r"cannot write .*; nothing was kept"):
        fitted.save(tmp_path / "file" / "saved")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(DataError, match="run: cannot be written; name another one"):
        Recommender.fit(clicks(), folder=tmp_path / "run")


def test_the_same_folder_again_trains_on_the_log_that_is_there(fitted):
    with pytest.raises(DataError, match=r"was prepared otherwise \(.*\); name another folder$"):
        Recommender.fit(clicks(50), options=OPTIONS, folder=fitted.folder)
    with pytest.raises(SettingsError, match="min_count is 1; expected 2 or more: with split users"):
        Recommender.fit(clicks(), min_count=1, folder=fitted.folder.parent / "other")


def test_the_same_fit_again_keeps_the_run_that_ended(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    Recommender.fit(clicks(), options=OPTIONS, folder=folder)
    checkpoints = folder / "checkpoints"
    (checkpoints / "best" / "ranking").mkdir()
    before = {path.name for path in checkpoints.iterdir()}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("paddlerec_milvus.training.trainer.keep_best", stop)  # epoch 0 is saved
        with pytest.raises(KeyboardInterrupt):
            Recommender.fit(clicks(), options=OPTIONS, folder=folder)
    assert {path.name for path in (checkpoints / "earlier-1").iterdir()} == before
    assert (checkpoints / "earlier-1" / "best" / "ranking").is_dir()
    with pytest.raises(CheckpointError, match=r"training did not end there; .*resume=True"):
        Recommender.load(folder)


def test_folders_of_no_run(fitted, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no recommender.json and no checkpoint"):
        Recommender.load(tmp_path)
    fitted.save(tmp_path / "half")
    (tmp_path / "half" / "recommender.json").unlink()
    with pytest.raises(CheckpointError, match=r"training did not end there; .*resume=True"):
        Recommender.load(tmp_path / "half")
    shutil.copytree(fitted.folder / "checkpoints", tmp_path / "bare")
    for record in (tmp_path / "bare").glob("*/rec.json"):
        record.unlink()
    with pytest.raises(CheckpointError, match="does not say which model and data it is of"):
        Recommender.load(tmp_path / "bare")
    shutil.copytree(fitted.folder, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "data")
    with pytest.raises(DataError, match=r"the data of .*moved is not there; name it with data=…"):
        Recommender.load(tmp_path / "moved")
    data = fitted.folder / "data"
    assert Recommender.load(tmp_path / "moved", data=data).epoch == 0
    with pytest.raises(CheckpointError, match="epoch: '7' is no epoch of"):
        Recommender.load(fitted.folder, epoch=7)


def test_arguments_of_fit_that_cannot_be(tmp_path):
    def refusal(frame=None, **arguments):
        arguments = {"folder": tmp_path / "run", **arguments}
        with pytest.raises(UserError) as error:
            Recommender.fit(clicks() if frame is None else frame, **arguments)
        assert not (tmp_path / "run").exists()
        return str(error.value)

    assert "clicks is a dict; expected a data frame of pandas or polars" in refusal({"user": [1]})
    text = refusal(clicks().rename({"item": "sku"}))
    assert "no column for item among user, sku, time; name the columns" in text
    assert 'columns={"user": "…", "item": "…", "time": "…"}' in text
    text = refusal(columns={"item": "items"})
    assert "no column 'items' for item; it has user, item, time (did you mean 'item'?)" in text
    two = pandas.DataFrame({"user": [1, 2], "item": [7, "B7"]})
    text = refusal(two)
    assert "the column 'item' holds values of several types: str ('B7'), int (7)" in text
    assert "unknown key 'runner.epoch'" in refusal(options={"runner.epoch": 1})
    assert "runner.seed is said by seed" in refusal(options={"runner.seed": 1}, seed=2)
    assert "milvus.uri is said by index()" in refusal(options=["milvus.uri=a.db"])
    assert "options is the text" in refusal(options="runner.epochs=1")
    assert "options is the int 3; expected {" in refusal(options=3)
    assert "model mindd/config.yaml: no such file" in refusal(model="mindd")
    assert "split time needs test_from DATE" in refusal(split="time")
    assert "split user: is none of users, leave-one-out, time (did" in refusal(split="user")
    assert "resume: say in which folder" in refusal(folder=None, resume=True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"min_count": 1000}, "0 of 60 users are left"),
        ({"options": {"runner.epochs": 0}}, "runner.epochs: 0"),
        ({"options": {"hyper_parameters.attention": "x"}}, "attention: x"),
    ],
)
def test_a_refused_fit_leaves_nothing(tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    for folder in (None, tmp_path / "new" / "run"):
        with pytest.raises(UserError, match=text):
            Recommender.fit(clicks(), folder=folder, **arguments)
        assert list(tmp_path.iterdir()) == []


def test_a_refused_fit_leaves_what_was_there(fitted, tmp_path):
    folder = shutil.copytree(fitted.folder, tmp_path / "run")
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match="attention: x"):
        Recommender.fit(
            pandas.DataFrame(clicks().rename({"user": "visitor"}).to_dict(as_series=False)),
            items=pandas.DataFrame(books().to_dict(as_series=False)),
            columns={"user": "visitor"},
            options=OPTIONS | {"hyper_parameters.attention": "x"},
            folder=folder,
        )
    assert sorted(folder.rglob("*")) == before
    shutil.rmtree(folder / "data")
    (folder / "notes.txt").touch()
    with pytest.raises(UserError, match="0 of 60 users are left"):
        Recommender.fit(clicks(), min_count=1000, folder=folder)
    assert (folder / "notes.txt").exists()
    assert any((folder / "checkpoints").glob("*/rec.pdparams"))


def test_a_recommender_is_made_by_fit_or_load():
    with pytest.raises(UserError, match=r"Recommender.fit\(clicks\) trains one"):
        Recommender()
