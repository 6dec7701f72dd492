# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""benchmarks/quality.py over models of the zoo: which rows there are, and how long they train."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quality_table import cli, models, peer, training
from quality_table.budget import RunLength, length_in
from quality_table.models import read_models
from quality_table.relevance import relevance_of
from quality_table.results import (
    FIELDS,
    Measurement,
    RelevanceByUser,
    RelevanceMeans,
    TowerCost,
    TrainerSpeed,
    TrainingRun,
)

from paddlerec_milvus.errors import SettingsError


def zoo_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.yaml").write_text("")
    (folder / names[0] / "README.md").write_text(f"# The {names[0]}\n")
    return folder


def rows(tmp_path: Path, text: str) -> models.ModelRows:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    return read_models(file, zoo_of(tmp_path / "zoo", "one", "two"))


def test_every_folder_is_a_row_and_a_row_may_be_a_recipe_of_another_folder(tmp_path):
    text = "recommended: best\nmodels: {best: {folder: one, title: B, seeds: 3, options: [x=1]}}"
    found = rows(tmp_path, text).models
    assert list(found) == ["one", "two", "best"]
    assert [row.title for row in found.values()] == ["The one", "two", "B"]
    assert (found["best"].folder, found["best"].seeds, found["two"].seeds) == ("one", 3, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recommended: tw", r"recommended: tw: no such row \(did you mean 'two'\?\)"),
        ("recommended: one\nmodels: {x: {}}", "x: models/recall has no folder x"),
        ("recommended: one\nmodels: {ease: {folder: one}}", "ease: is the name of another row"),
        ("recommended: one\nmodels: {one: {sedes: 3}}", "no rows of models"),
        ("recommended: [", "no rows of models"),
    ],
)
def test_mistakes_in_the_file_of_models_are_named(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        rows(tmp_path, text)


def test_the_zoo_of_the_repository_has_a_row_for_every_folder():
    found = read_models()
    assert {path.parent.name for path in models.ZOO.glob("*/config.yaml")} <= found.models.keys()
    assert all(row.yaml.is_file() for row in found.models.values())
    assert found.models["mind"].title == "MIND"


def test_a_run_fits_its_budget_by_hand():
    speed = TrainerSpeed(start=7.0, batch=0.1, valid=2.0, batches=100)
    # 57 of 60 seconds are planned for, 50 after the start; an epoch takes 12
    assert length_in(1.0, speed, most_epochs=3) == RunLength(3, 0)
    assert length_in(1.0, speed, most_epochs=4) == RunLength(4, 0)
    # 5 epochs: 50 - 10 of looks at valid, 400 batches
    assert length_in(1.0, speed, most_epochs=10) == RunLength(5, 80)
    assert length_in(0.01, speed, most_epochs=4) == RunLength(1, 1)
    assert RunLength(5, 80).options == ["runner.epochs=5", "runner.batches_per_epoch=80"]


LINE = "2026-01-02 10:00:00,000 - INFO - epoch: 0, batch_id: {}, loss:1.0, avg_reader_cost: 0.1 sec, avg_batch_cost: {} sec, avg_samples: 8.0, ips: 8.0 ins/s"  # noqa: E501
LOG = "\n".join(
    [
        *(LINE.format(10 * at, cost) for at, cost in enumerate((9.0, 5.0, 0.2, 0.4))),
        "2026-01-02 10:00:20,000 - INFO - epoch: 0 done, loss:1.0, epoch time: 15.00 s",
        "2026-01-02 10:00:22,000 - INFO - epoch: 0 valid, recall@50: 0.1",
        "2026-01-02 10:00:22,500 - INFO - saved model/0",
    ]
)


def test_the_speed_of_a_trainer_is_what_its_log_says(data, tmp_path, monkeypatch):
    asked = []

    def trained(*arguments: Any) -> tuple[float, str]:
        asked.append(arguments)
        arguments[-1].mkdir()
        return 20.0, LOG

    monkeypatch.setattr(training, "_trained", trained)
    yaml = read_models().models["youtube_dnn"].yaml
    speed = training.speed(data, yaml, [], tmp_path / "run")
    assert speed.batch == pytest.approx(0.3)  # the first two lines warm up
    assert (speed.valid, speed.start) == (2.5, 2.5)
    clicks = data.log().lengths - 1
    assert speed.batches == -(-clicks.sum() // 512)
    assert "runner.batches_per_epoch=60" in asked[0][2]
    assert not (tmp_path / "run").exists()


def measured(run: TrainingRun) -> Measurement:
    users = RelevanceByUser(**{name: [0.25] * 40 for name in FIELDS})
    valid = RelevanceMeans(**dict.fromkeys(FIELDS, 0.5))
    cost = TowerCost(parameters=1234, tower_ms=0.5, vectors=4, dimensions=128)
    return Measurement(seconds=1.0, valid=valid, test=users, training=run, cost=cost)


@pytest.mark.usefixtures("in_this_process")
def test_a_model_is_as_long_in_training_as_its_budget_and_what_is_done_is_kept(
    run, tmp_path, monkeypatch
):
    lengths, speeds = [], []

    def speed(*_: object) -> TrainerSpeed:
        speeds.append(1)
        return TrainerSpeed(start=7.0, batch=0.1, valid=2.0, batches=200)

    def measure(
        data: object,
        yaml: Path,
        options: list[str],
        seed: int,
        folder: Path,
        length: Any,
        whole: Any,
    ) -> Measurement:
        lengths.append((yaml.parent.name, length, whole, seed))
        return measured(TrainingRun(epochs=2, batches=150, whole_epoch=200, ended="budget"))

    monkeypatch.setattr(training, "speed", speed)
    monkeypatch.setattr(training, "measure", measure)
    monkeypatch.setattr(
        cli, "read_models", lambda: read_models().model_copy(update={"recommended": "mind"})
    )
    methods = ["--methods", "most_popular", "sasrec", "mind"]
    assert run(*methods, "--minutes", "1")[0] == 0
    # 50 seconds after the start: two epochs leave 46, 230 batches each; three 44, 146 each
    cut = RunLength(3, 146), 200
    assert lengths == [("mind", *cut, seed) for seed in (1, 2, 3)] + [("sasrec", *cut, 1)]
    assert len(speeds) == 2
    code, found = run(*methods, "--minutes", "1")
    assert (code, len(lengths), len(speeds)) == (0, 4, 2)  # all of it was there already
    assert found["methods"]["sasrec"]["cost"]["parameters"] == 1234
    assert {each["paired"] for each in found["comparisons"]} == {True}
    page = (tmp_path / "out" / "q.md").read_text()
    assert (
        "| 1,234 | 0.50 | 4 x 128 | 2 epochs of 150 batches (of 200), cut to the budget |" in page
    )
    report = json.loads((tmp_path / "out" / "q.json").read_text())
    assert report["recommended"]["folder"] == "models/recall/mind"
    assert report["minutes"] == 1.0

    assert run(*methods, "--minutes", "0", "--seeds", "1")[0] == 0
    assert lengths[4:] == [("mind", None, None, 1), ("sasrec", None, None, 1)]
    assert len(speeds) == 2


@pytest.mark.slow
def test_a_budget_that_nothing_fits_into_leaves_one_batch_of_a_real_training(run):
    options = ["hyper_parameters.neg_samples=50", "hyper_parameters.embedding_dim=16"]
    code, found = run("--methods", "youtube_dnn", "--minutes", "0.01", "-o", *options)
    assert code == 0
    row = found["methods"]["youtube_dnn"]
    (training,) = row["training"]
    assert (training["epochs"], training["batches"], training["ended"]) == (1, 1, "budget")
    assert row["params"]["whole_epoch"] == training["whole_epoch"] > 1
    assert row["cost"]["parameters"] == 201 * 16
    assert (row["cost"]["vectors"], row["cost"]["dimensions"]) == (1, 16)


def test_rows_of_other_histories_are_not_compared(monkeypatch, run, capsys):
    row = models.ModelRow(folder="mind", title="M", options=["hyper_parameters.maxlen=10"])
    both = {"mind": models.ModelRow(folder="mind"), "short": row}
    monkeypatch.setattr(
        cli, "read_models", lambda: models.ModelRows(recommended="mind", models=both)
    )
    assert run("--methods", "mind", "short")[0] == 2
    assert "rows differ (mind 20, short 10)" in capsys.readouterr().err


@pytest.mark.usefixtures("in_this_process")
def test_a_peer_that_is_not_installed_is_named_with_its_extra(run, capsys, monkeypatch):
    monkeypatch.setattr(peer, "missing", lambda name, python: f"{python}: paddlerec-milvus[peers]")
    arguments = ["--peer_python", "somewhere"]
    assert run("--methods", "most_popular", "sasrec_rectools", *arguments)[0] == 2
    assert "somewhere: paddlerec-milvus[peers]" in capsys.readouterr().err


@pytest.mark.usefixtures("in_this_process")
def test_a_peer_without_its_checkout_is_not_measured_and_said(run, capsys, tmp_path):
    assert run("--methods", "most_popular", "--remi", str(tmp_path))[0] == 2
    assert f"--remi {tmp_path}: no checkout of REMI" in capsys.readouterr().err
    _, log = run("--methods", "most_popular", "remi_remi")
    assert log["not_measured"] == {"remi_remi": "REMI of its authors needs --remi DIR, a checkout"}


def test_what_a_python_lacks_for_the_peer(tmp_path):
    assert "No such file" in str(peer.missing(RECTOOLS, str(tmp_path / "python")))
    fake = tmp_path / "fake"
    fake.write_text("#!/bin/sh\necho \"['rectools']\"\n")
    fake.chmod(0o755)
    words = str(peer.missing(RECTOOLS, str(fake)))
    assert "['rectools']" in words
    assert "paddlerec-milvus[peers]" in words
    full = tmp_path / "full"
    full.write_text("#!/bin/sh\necho '[]'\n")
    full.chmod(0o755)
    assert peer.missing(RECTOOLS, str(full)) is None


RECTOOLS = "sasrec_rectools"
PEER = """\
import json, sys
import numpy as np
source, out, words = sys.argv[1:]
settings, data = json.loads(words), np.load(source)
users = {split: len(data[f"{split}_histories"]) for split in ("valid", "test")}
lists = {split: np.tile(np.arange(1, 51), (number, 1)) for split, number in users.items()}
lists["unseen"] = np.tile(np.arange(2, 52), (users["test"], 1))
about = {"seconds": 3.0, "batches": 30, "whole_epoch": 20, "minutes": settings["minutes"]}
np.savez(out, **lists, about=json.dumps(about))
"""


def test_a_peer_is_measured_by_its_lists(data, tmp_path, monkeypatch):
    script = tmp_path / "peer.py"
    script.write_text(PEER)
    rectools = replace(peer.TRAINED[RECTOOLS], script=script)
    monkeypatch.setattr(peer, "TRAINED", {RECTOOLS: rectools})
    params = rectools.settings_of(minutes=2.0, maxlen=20)
    found = peer.measure(data, RECTOOLS, (sys.executable,), params, 1, tmp_path / "run")
    users = data.users("test")
    expected = relevance_of(np.tile(np.arange(1, 51), (len(users), 1)), users)
    assert found.test == expected
    assert found.unseen == relevance_of(np.tile(np.arange(2, 52), (len(users), 1)), users)
    assert found.training == TrainingRun(epochs=1.5, ended="budget")
    assert found.checkpoint is not None
    assert found.checkpoint["minutes"] == 2.0
    assert not (tmp_path / "run").exists()
