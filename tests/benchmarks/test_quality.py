# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""benchmarks/quality.py on a small log: what it measures, keeps, writes and checks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quality_table import baselines, cli, expected, fusion, measuring, plan
from quality_table.baselines import METHODS, Method
from quality_table.data import DataSet, open_data
from quality_table.measuring import Choice, MeasuredMethod
from quality_table.models import read_models
from quality_table.pieces import Piece, run_pieces
from quality_table.results import (
    FIELDS,
    METRICS,
    Measurement,
    RelevanceByUser,
    RelevanceMeans,
    ValidTrial,
)
from support import ROOT, python, write_log

from paddlerec_milvus.errors import UserError
from paddlerec_milvus.evaluation.baselines import ItemKNN, MostPopular
from paddlerec_milvus.evaluation.baselines.base import Baseline
from paddlerec_milvus.evaluation.baselines.ease import check_size
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.evaluation.metrics import relevance
from paddlerec_milvus.training.cli import main as train

SMALL = ["runner.epochs=2", "hyper_parameters.neg_samples=50", "hyper_parameters.embedding_dim=16"]
SMALL += ["hyper_parameters.hidden_size=16"]


def recall_of(data: DataSet, baseline: Baseline, split: str) -> float:
    users = data.users(split)
    found = baseline.recommend(users, 20, 50)
    return relevance(found, users.truth_indptr, users.truths, 50)["recall@50"]


def piece(data: DataSet, **changed: Any) -> Piece:
    knn = Piece(data, "item_knn", "tune", {"shrink": 10, "alpha": 0.5, "neighbours": 0}, 1, 20)
    return replace(knn, **changed)


def test_tunes_on_valid_and_measures_the_best_on_test(data, run, monkeypatch, tmp_path):
    grid = {"shrink": [0, 50], "alpha": [0.2, 0.8]}
    monkeypatch.setitem(METHODS, "item_knn", Method("item-kNN", ItemKNN, grid))
    code, found = run("--methods", "most_popular", "item_knn")
    assert code == 0
    log = data.log()
    tried = {
        (shrink, alpha): recall_of(data, ItemKNN(log, data.item_count, shrink, alpha), "valid")
        for shrink in grid["shrink"]
        for alpha in grid["alpha"]
    }
    best = max(tried, key=lambda params: tried[params])
    knn = found["methods"]["item_knn"]
    assert (knn["params"]["shrink"], knn["params"]["alpha"]) == best
    assert [t["valid"]["recall@50"] for t in knn["trials"]] == pytest.approx(list(tried.values()))
    assert knn["valid recall@50"] == pytest.approx(tried[best])
    on_test = recall_of(data, ItemKNN(log, data.item_count, *best), "test")
    assert knn["recall@50"]["mean"] == pytest.approx(on_test)
    popular = recall_of(data, MostPopular(log, data.item_count), "test")
    assert found["methods"]["most_popular"]["recall@50"]["mean"] == pytest.approx(popular)
    assert (tmp_path / "out" / "q.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "out" / "q.md").read_text()
    assert f"| item-kNN | {100 * on_test:.2f} |" in text
    assert found["split"] == "split by users 8:1:1"
    assert "## tiny: 200 items, 40 test users, split by users 8:1:1" in text


@pytest.mark.slow
def test_mind_is_measured_as_infer_measures_its_best_epoch(data, run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        cli, "read_models", lambda: read_models().model_copy(update={"recommended": "mind"})
    )
    methods = ["--methods", "most_popular", "mind", "--seeds", "2", "--minutes", "0"]
    code, found = run(*methods, "-o", *SMALL)
    assert code == 0
    mind = found["methods"]["mind"]
    recalls = []
    for seed in (1, 2):
        place = tmp_path / f"model{seed}"
        common = ["-m", "mind/config.yaml", "--data", str(data.folder)]
        options = ["-o", *SMALL, f"runner.seed={seed}"]
        assert train([*common, *options, f"runner.model_save_path={place}"]) == 0
        report = tmp_path / f"{seed}.json"
        options.append(f"runner.infer_load_path={place}")
        assert infer([*common, "--exact", "--best", "--report", str(report), *options]) == 0
        recalls.append(json.loads(report.read_text())["recall@50"])
    assert mind["recall@50"]["mean"] == pytest.approx(np.mean(recalls))
    assert mind["recall@50"]["se_seeds"] == pytest.approx(abs(recalls[0] - recalls[1]) / 2)
    gain = mind["recall@50"]["mean"] - found["methods"]["most_popular"]["recall@50"]["mean"]
    by_recall = found["comparisons"][0]
    assert (by_recall["against"], by_recall["paired"]) == ("most_popular", True)
    assert by_recall["difference"]["mean"] == pytest.approx(gain, abs=1e-6)
    assert not list((tmp_path / "work" / "models").iterdir())


@pytest.mark.slow
def test_a_failing_training_shows_what_the_trainer_said(run, capfd):
    code, _ = run(
        *("--methods", "mind", "--seeds", "1", "--minutes", "0"),
        *("-o", *SMALL, "hyper_parameters.neg_samples=9999"),
    )
    assert code == 2
    assert "neg_samples: 9999" in capfd.readouterr().err.splitlines()[-2]


@pytest.mark.usefixtures("in_this_process")
def test_parameters_are_remembered_for_the_same_grid_unless_tuning_is_asked_for(run, monkeypatch):
    monkeypatch.setitem(METHODS, "item_knn", Method("item-kNN", ItemKNN, {"shrink": [0]}))
    knn = {"recall@50": 0.0, "tolerance": 100, "parameters": {"shrink": 77}, "trials": 1}
    _, found = run("--methods", "item_knn", known={"item_knn": knn})
    assert found["methods"]["item_knn"]["params"] == {"shrink": 77}
    _, found = run("--methods", "item_knn", "--retune", known={"item_knn": knn})
    assert found["methods"]["item_knn"]["params"] == {"shrink": 0}
    _, found = run("--methods", "item_knn", known={"item_knn": {**knn, "trials": 2}})
    assert found["methods"]["item_knn"]["params"] == {"shrink": 0}


@pytest.mark.usefixtures("in_this_process")
def test_check_compares_ndcg_where_it_is_expected(data, run, capsys):
    popular = 100 * recall_of(data, MostPopular(data.log(), data.item_count), "test")
    known = {"recall@50": popular, "ndcg@50": 99.0, "tolerance": 0.1}
    assert run("--methods", "most_popular", "--check", known={"most_popular": known})[0] == 1
    assert "off: tiny, MostPopular: ndcg@50 is" in capsys.readouterr().err


@pytest.mark.usefixtures("in_this_process")
def test_check_names_each_one_that_is_off(data, run, capsys):
    popular = 100 * recall_of(data, MostPopular(data.log(), data.item_count), "test")
    fits = {"recall@50": round(popular + 0.09, 3), "tolerance": 0.1}
    known = {"most_popular": fits, "ease": {"recall@50": 1.0, "tolerance": 0.1}}
    arguments = ["--methods", "most_popular", "--check"]  # EASE is not asked for: not off
    assert run(*arguments, known=known)[0] == 0
    assert run(*arguments, known={"most_popular": {**fits, "tolerance": 0.08}})[0] == 1
    said = capsys.readouterr().err
    assert f"off: tiny, MostPopular: recall@50 is {popular:.3f}, expected" in said


def test_data_of_which_nothing_is_known_is_off(data):
    (line,) = expected.differences({"0": {}}, data, {})
    assert line.startswith("tiny: no values are expected of this data")


def test_every_expected_value_has_what_the_check_and_a_rerun_need():
    for methods in expected.read_expected().values():
        for name, known in methods.items():
            assert known.tolerance > 0
            assert (
                (known.parameters is not None)
                == (known.trials is not None)
                == (name == fusion.NAME or (name in METHODS and METHODS[name].tuned))
            )


@pytest.mark.usefixtures("in_this_process")
def test_what_is_done_is_kept_and_what_decides_a_result_makes_another_piece(data, tmp_path):
    pieces = [piece(data), piece(data, params={"shrink": 0, "alpha": 0.5, "neighbours": 3})]
    first = run_pieces(pieces, tmp_path, jobs=1)
    kept = tmp_path / "pieces" / f"{pieces[0].name}.json"
    stored = {"params": {"shrink": 1}, "valid": dict.fromkeys(METRICS, 0.5)}
    kept.write_text(json.dumps({"result": [stored]}))
    (tmp_path / "pieces" / f"{pieces[1].name}.json").unlink()
    assert run_pieces(pieces, tmp_path, jobs=1) == [
        [ValidTrial.model_validate(stored)],
        first[1],
    ]
    other = [
        piece(data, method="ease"),
        piece(data, stage="measure"),
        piece(data, seed=2),
        piece(data, maxlen=10),
        piece(data, code="other"),
        piece(replace(data, fingerprint="0")),
    ]
    assert len({each.name for each in [*pieces, *other]}) == 8
    assert piece(replace(data, folder=Path("elsewhere"))).name == pieces[0].name


def test_bpr_is_tried_after_several_epochs_of_one_training(data):
    method = replace(METHODS["bpr"], after={"epochs": [2, 4], "scale": [1, 8]})
    params = {"factors": 4, "learning_rate": 0.05, "l2": 0.01}
    ways = baselines._ways(method, data.log(), data.item_count, params)
    values = [(used, recall_of(data, bpr, "valid")) for used, bpr in ways]
    assert [used for used, _ in values] == baselines.combinations(method.after)
    for used, value in values:
        alone = method.build(data.log(), data.item_count, **params, **used)
        assert recall_of(data, alone, "valid") == value


def test_summary_by_hand(data):
    # two seeds, two users: 1 and 0, then 0.5 and 0.5
    def result(*values: float) -> Measurement:
        users = RelevanceByUser(**{name: list(values) for name in FIELDS})
        valid = RelevanceMeans(**dict.fromkeys(FIELDS, 0.5))
        return Measurement(seconds=2.0, valid=valid, test=users)

    found = {
        "mind": MeasuredMethod("MIND", Choice({}), [result(1.0, 0.0), result(0.5, 0.5)]),
        "ease": MeasuredMethod("EASE", Choice({}), [result(0.25, 0.25)]),
    }
    summary = measuring._summary(data, found, {}).model_dump(by_alias=True)
    assert list(summary["methods"]) == ["ease", "mind"]
    # seeds have the means 0.5 and 0.5; users 0.75 and 0.25: s² = 0.125, / 2 users, root 0.25
    for metric in ("recall@50", "ndcg@10"):
        assert summary["methods"]["mind"][metric] == {
            "mean": 0.5,
            "se_seeds": 0.0,
            "se_users": pytest.approx(0.25),
        }
    assert summary["methods"]["ease"]["recall@50"]["se_seeds"] is None


@pytest.mark.usefixtures("in_this_process")
def test_rows_of_an_earlier_run_stay_and_say_where_they_come_from(data, run, tmp_path, capsys):
    assert run("--methods", "most_popular")[0] == 0
    earlier = tmp_path / "earlier.json"
    content = json.loads((tmp_path / "out" / "q.json").read_text())
    content["data"]["other"] = content["data"]["tiny"] | {"fingerprint": "0"}
    earlier.write_text(json.dumps(content))
    code, found = run("--methods", "transitions", "--keep", str(earlier))
    assert code == 0
    assert list(found["methods"]) == ["most_popular", "transitions"]
    first, second = (row["origin"]["command"] for row in found["methods"].values())
    assert ("--keep" in first, "--keep" in second) == (False, True)
    written = json.loads((tmp_path / "out" / "q.json").read_text())
    assert written["data"]["other"]["methods"] == content["data"]["other"]["methods"]
    assert written["grids"].keys() == {"MostPopular", "transitions"}
    page = (tmp_path / "out" / "q.md").read_text()
    assert "- tiny transitions: `python benchmarks/quality.py" in page

    content["data"]["tiny"]["fingerprint"] = "1"
    earlier.write_text(json.dumps(content))
    assert run("--methods", "transitions", "--keep", str(earlier))[0] == 2
    assert "--keep: its tiny has the fingerprint 1, the data" in capsys.readouterr().err
    earlier.write_text("{}")
    assert run("--methods", "transitions", "--keep", str(earlier))[0] == 2
    assert "no results of benchmarks/quality.py" in capsys.readouterr().err


@pytest.mark.usefixtures("in_this_process")
def test_ease_beyond_its_size_is_a_note_and_no_row(data, run, monkeypatch):
    monkeypatch.setattr(plan, "check_size", lambda items: check_size(items, largest=100))
    _, found = run("--methods", "most_popular", "ease")
    assert list(found["methods"]) == ["most_popular"]
    assert "201 items need" in found["not_measured"]["ease"]


def test_a_raw_log_is_prepared_and_gives_the_same_data_again(tmp_path):
    raw = write_log(tmp_path / "raw", users=100)
    (raw / "part-0.csv").rename(raw / "interactions.csv")
    first = open_data(f"raw={raw}", tmp_path / "work")
    assert first.folder == tmp_path / "work" / "data" / "raw"
    assert open_data(f"other={first.folder}", tmp_path).fingerprint == first.fingerprint
    assert open_data(f"raw={raw}", tmp_path / "work") == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "here"], "--data here: expected NAME=DIR"),
        (["--data", "x=nowhere"], "nowhere: no such folder"),
        (["--methods", "eas"], "--methods eas: no such method (did you mean 'ease'?)"),
        (["--seeds", "0"], "--seeds 0: expected 1 or more"),
        (["--minutes", "nan"], "--minutes nan: expected 0 or more"),
        (["--peer_minutes", "0"], "--peer_minutes 0.0: expected more than 0"),
        (["--paddlerec", "nowhere"], "--paddlerec nowhere: no checkout of PaddleRec"),
        (["-o", "runner.epoch=3"], "-o: unknown key 'runner.epoch' (did you mean 'epochs'?)"),
    ],
)
def test_mistakes_end_the_run_before_it_begins(run, capsys, arguments, message):
    assert run(*arguments) == (2, None)
    assert message in capsys.readouterr().err


def test_valid_users_never_stand_in_for_test_users(tmp_path, data):
    for part in ("train", "valid"):
        (tmp_path / part).symlink_to(data.folder / part)
    with pytest.raises(UserError, match="has no test/"):
        open_data(f"old={tmp_path}", tmp_path)


def test_the_script_explains_itself_from_anywhere(tmp_path):
    script = str(ROOT / "benchmarks" / "quality.py")
    done = python(script, "--help", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0
    assert "--data NAME=DIR" in done.stdout
