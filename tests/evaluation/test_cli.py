# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""tools/infer.py from its arguments to its report, on Milvus Lite and on a real server."""

from __future__ import annotations

import json
import logging
import re
import shutil

import numpy as np
import pytest

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.evaluation.evaluator import Evaluation
from paddlerec_milvus.evaluation.predict import Search, Stopwatch
from paddlerec_milvus.retrieval.ownership import CHECKPOINT
from paddlerec_milvus.training.cli import main as train

RELEVANCE = ("recall@20", "ndcg@20", "ndcg_hits@20", "hitrate@20")


def report_of(trained, tmp_path, *options, flags=()):
    file = tmp_path / "out" / "report.json"
    arguments = trained.arguments(*options)
    assert infer([*arguments[:6], "--report", str(file), *flags, *arguments[6:]]) == 0
    return json.loads(file.read_text())


def fails(trained, capsys, *options, change=lambda arguments: arguments):
    assert infer(change(trained.arguments(*options))) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


def test_report_holds_every_number_with_what_made_it(trained, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    names = ("most_popular", "item_knn", "transitions")
    report = report_of(trained, tmp_path, "index.type=FLAT", flags=["--baselines", *names])
    assert tuple(report["baselines"]) == names
    for name in RELEVANCE:
        assert 0 <= report[name] <= 1
        for baseline in names:
            assert 0 <= report["baselines"][baseline][name] <= 1
    assert report["users"] == 60  # 10 % of 600
    assert report["index_recall@20"] == 1.0
    assert report["index_recall_users"] == 60
    assert report["seconds"] > 0
    assert set(report["seconds_by_stage"]) == {"insert", "index", "load", "tower", "search"}
    assert report["settings"]["index"]["type"] == "FLAT"
    assert {"paddlepaddle", "pymilvus", "numpy"} <= set(report["versions"])
    assert report["machine"]["cores"] >= 1
    assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert f"{100 * report['recall@20']:.3f}" in shown
    assert "MostPopular" in shown
    number = r"0\.\d{5}"
    line = f"recall@20: {number}, ndcg@20: {number}, hitrate@20: {number}"
    assert re.search(rf"epoch: 0 done, {line}, epoch time: \d+\.\d\d s", caplog.text)


def test_a_trained_mind_beats_the_most_popular(trained, tmp_path):
    report = report_of(
        trained, tmp_path, "runner.infer_end_epoch=2", flags=["--baselines", "--exact"]
    )
    assert list(report["epochs"]) == ["0", "1"]
    assert report["epoch"] == 1
    assert report["recall@20"] == report["epochs"]["1"]["recall@20"]
    assert report["recall@20"] > report["baselines"]["most_popular"]["recall@20"]


def test_flat_in_milvus_lite_equals_exact_search(trained, tmp_path):
    exact = report_of(trained, tmp_path, flags=["--exact"])
    lite = report_of(trained, tmp_path, "index.type=FLAT")
    assert "index_recall@20" not in exact
    assert {n: lite[n] for n in RELEVANCE} == {n: exact[n] for n in RELEVANCE}


def test_interests_and_lists_are_reported_and_shown(trained, tmp_path, capsys):
    report = report_of(trained, tmp_path, flags=["--exact", "--baselines"])
    use = report["interests"]
    assert use == report["epochs"]["0"]["interests"]
    assert use["count"] == 4
    assert sum(use["share_by_index"]) == pytest.approx(1)
    assert use["share_by_rank"] == sorted(use["share_by_rank"], reverse=True)
    assert max(use["idle"], use["repeated"]) <= use["dead"] <= use["idle"] + use["repeated"]
    assert use["cosine"]["p10"] <= use["cosine"]["p50"] <= use["cosine"]["p90"] <= 1

    assert report["catalogue"] == {"items": 300, "popularity_from": "train clicks"}
    for shown in (report["lists"], report["truths"], report["baselines"]["item_knn"]["lists"]):
        assert set(shown) == {"coverage", "gini", "popularity_rank", "category_diversity"}
        assert all(0 <= value <= 1 for value in shown.values())
    popular = report["baselines"]["most_popular"]["lists"]
    assert popular["coverage"] == pytest.approx(20 / 300)  # one list for all
    assert popular["gini"] == pytest.approx(1 - 20 / 300)
    # ranks are means of equals at the border, so hardly above (1 + … + 20 - 20 / 2) / 20 / 300
    assert popular["popularity_rank"] == pytest.approx(10 / 300, abs=0.002)

    heading, first, second, words = capsys.readouterr().out.split("\n\n")
    held_out = report["held_out"]
    assert held_out["excluded_truths"] is None
    assert not held_out["chose_epoch"]
    assert heading.startswith(f"split by users 8:1:1: 60 users, {held_out['truths']:,} truths")
    assert first.lstrip().startswith("per cent")
    assert second.lstrip().startswith("interests")
    assert f"{use['dead']:.2f} of 4" in second
    assert f"{100 * report['truths']['popularity_rank']:.1f}" in second.splitlines()[-1]
    assert "Of 4 interests a user" in words
    assert "by train clicks" in words


def test_one_interest_and_no_train_log_are_measured_too(trained, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    away = f"runner.train_data_dir={tmp_path / 'away'}"
    folder = tmp_path / "one"
    small = ["hyper_parameters.capsual.max_k=1", "hyper_parameters.neg_samples=128"]
    options = [*small, f"runner.model_save_path={folder}"]
    data = ["-m", "mind/config.yaml", "--data", str(trained.data)]
    assert train([*data, "-o", "runner.epochs=1", *options]) == 0
    options = [*options, f"runner.infer_load_path={folder}", away]
    report = report_of(trained, tmp_path, *options, flags=["--exact"])
    assert report["interests"]["cosine"] == dict.fromkeys(["mean", "p10", "p50", "p90"])
    assert report["interests"]["share_by_rank"] == [1.0]
    assert report["interests"]["dead"] == 0
    assert report["catalogue"]["popularity_from"] == "ids, which fall by popularity"
    assert f"{tmp_path / 'away'}" in caplog.text
    assert "the largest brings 100 % of the list" in capsys.readouterr().out


@pytest.mark.server
@pytest.mark.parametrize(
    "index",
    [
        ["index.type=FLAT"],
        pytest.param(
            ["index.type=HNSW", "index.M=16", "index.ef=128"], marks=pytest.mark.slow, id="HNSW"
        ),
    ],
)
def test_the_real_server_gives_the_same_relevance(trained, tmp_path, server, index):
    exact = report_of(trained, tmp_path, flags=["--exact"])
    served = report_of(trained, tmp_path, f"milvus.uri={server.uri}", *index)
    assert served["index_recall@20"] >= 0.98
    assert served["recall@20"] == pytest.approx(exact["recall@20"], abs=0.02)


@pytest.mark.server
def test_a_parameter_without_effect_is_said(trained, tmp_path, caplog, server):
    # a segment below 1,024 rows is never indexed by the server: every ef finds the same
    report = report_of(trained, tmp_path, f"milvus.uri={server.uri}", "index.type=HNSW")
    assert report["parameters_without_effect"] == ["ef"]
    assert "index.ef has no effect on" in caplog.text


def test_excluding_the_history_leaves_none_of_it(trained):
    settings = load_settings(
        "mind/config.yaml",
        [
            "retrieval.exclude_history=True",
            f"runner.infer_load_path={trained.checkpoints}",
            f"runner.test_data_dir={trained.data / 'test'}",
            "hyper_parameters.item_count=301",
            "hyper_parameters.neg_samples=128",
        ],
    )
    evaluation = Evaluation(settings, top_n=30)
    evaluation.encoder.load(trained.checkpoints / "0")
    table = evaluation.encoder.item_vectors()
    exact = Search.exactly(table, "IP", 30)
    found, use = evaluation._candidates(exact, evaluation.queries, Stopwatch())
    assert use.brought.sum(axis=1).tolist() == [30] * 60  # each candidate is somebody's
    users = read_held_out(sorted((trained.data / "test").iterdir()))
    for row, history in zip(found, users.history_list(), strict=True):
        assert len(row[row > 0]) == 30  # over-fetched, so that the list is still full
        assert not set(row.tolist()) & set(history.tolist())


@pytest.mark.parametrize("flags", [["--best"], []])
def test_an_epoch_chosen_on_the_users_that_are_measured_is_said(
    trained, tmp_path, capsys, caplog, flags
):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "paddlerec"
    for part in ("train", "valid"):
        shutil.copytree(trained.data / part, folder / part)
    checkpoints = shutil.copytree(trained.checkpoints, tmp_path / "out")
    for record in checkpoints.glob("*/rec.json"):
        record.unlink()  # as PaddleRec's trainer leaves them: they go with any data
    arguments = [str(folder) if a == str(trained.data) else a for a in trained.arguments()]
    arguments.append(f"runner.infer_load_path={checkpoints}")
    file = tmp_path / "report.json"
    options = ["--exact", "--report", str(file), *flags]
    assert infer([*arguments[:6], *options, *arguments[6:], "hyper_parameters.item_count=301"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("warning: --best:") == bool(flags)
    said = "; the epoch was chosen on these very users"
    assert (said in shown.out.splitlines()[0]) == bool(flags)
    assert (said in caplog.text) == bool(flags)
    held_out = json.loads(file.read_text())["held_out"]
    assert held_out["chose_epoch"] == bool(flags)
    assert held_out["split"] == "a split of its own (no meta.json)"


@pytest.mark.parametrize("top_n", ["0", "-3", "20000"])
def test_an_impossible_top_n_is_refused(trained, capsys, top_n):
    message = fails(
        trained, capsys, change=lambda a: [top_n if value == "20" else value for value in a]
    )
    assert top_n in message
    assert "16,384" in message


def test_a_list_may_be_longer_than_the_catalogue(trained, tmp_path):
    file = tmp_path / "report.json"
    arguments = ["1000" if value == "20" else value for value in trained.arguments()]
    assert infer([*arguments[:6], "--report", str(file), "--exact", *arguments[6:]]) == 0
    assert json.loads(file.read_text())["recall@1000"] == 1.0


def test_an_empty_test_folder_is_said(trained, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    arguments = [a for a in trained.arguments() if a not in ("--data", str(trained.data))]
    assert infer([*arguments, f"runner.test_data_dir={tmp_path / 'empty'}"]) == 2
    assert f"{tmp_path / 'empty'}: holds no data files" in capsys.readouterr().err


def test_histories_beyond_the_item_table_are_said_before_anything_is_loaded(trained, capsys):
    arguments = [a for a in trained.arguments() if a not in ("--data", str(trained.data))]
    test = f"runner.test_data_dir={trained.data / 'test'}"
    assert infer([*arguments, test, "hyper_parameters.item_count=50"]) == 2
    assert "item_count is 50" in capsys.readouterr().err


def test_a_checkpoint_of_another_shape_lists_what_differs(trained, capsys, tmp_path):
    narrow = ("hyper_parameters.embedding_dim=32", "hyper_parameters.hidden_size=32")
    wide = "hyper_parameters.embedding_dim=128 hyper_parameters.hidden_size=128"
    assert fails(trained, capsys, *narrow).endswith(f"it was trained with: -o {wide}")
    copied = shutil.copytree(trained.checkpoints, tmp_path / "out")
    (copied / "0" / "rec.json").unlink()  # one that says nothing of its settings
    message = fails(trained, capsys, *narrow, f"runner.infer_load_path={copied}")
    assert "item_emb.weight: [301, 128] in the file, [301, 32] here" in message


def test_a_missing_checkpoint_names_those_at_hand(trained, capsys):
    message = fails(trained, capsys, "runner.infer_start_epoch=7", "runner.infer_end_epoch=8")
    assert "holds: 0, 1" in message


def test_milvus_away_names_the_uri(trained, capsys):
    uri = "milvus.uri=http://root:a-s3cret@127.0.0.1:9"
    message = fails(trained, capsys, uri, "milvus.timeout=1.0")
    assert "http://127.0.0.1:9" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("place", ["file/report.json", "report.txt", "folder.json"])
def test_a_report_that_cannot_be_written_is_said_at_once(trained, tmp_path, capsys, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    arguments = trained.arguments()
    assert infer([*arguments[:6], "--report", str(tmp_path / place), *arguments[6:]]) == 2
    shown = capsys.readouterr()
    assert f"--report {tmp_path / place}" in shown.err
    assert shown.out == ""


def test_what_a_service_stores_while_epochs_are_evaluated_is_left_alone(trained, tmp_path):
    """The first epoch's vectors lie there, then a service inserts its own."""
    options = [*trained.arguments()[7:], f"milvus.uri={tmp_path / 'milvus.db'}"]
    settings = settings_for("mind/config.yaml", options, trained.data)
    evaluation = Evaluation(settings, 20)
    with evaluation._milvus() as milvus:
        evaluation._epoch(0, trained.checkpoints / "0", milvus)
        rows = np.eye(3, evaluation.encoder.item_vectors().shape[1], dtype=np.float32)
        milvus.versions.build(rows, np.arange(1, 4), properties={CHECKPOINT: "a service's"})
        with pytest.raises(RefusedError, match="meanwhile a service has stored its vectors in"):
            evaluation._epoch(1, trained.checkpoints / "1", milvus)
        serving = milvus.versions.serving()
    assert serving.properties[CHECKPOINT] == "a service's"


def test_another_tower_of_the_trained_parameters_is_refused(trained, capsys):
    message = fails(trained, capsys, "hyper_parameters.capsual.iters=1")
    assert "was trained with hyper_parameters.capsual.iters 3 and not 1" in message
    assert message.endswith("-o hyper_parameters.capsual.iters=3")
    assert infer(trained.arguments("hyper_parameters.neg_samples=64")) == 0  # of training alone
