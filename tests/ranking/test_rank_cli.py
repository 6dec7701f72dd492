# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""tools/rank.py and tools/infer.py --rank on a trained model: files, tables and errors."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlerec_milvus.command import model_parser, read_settings
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.encoder import loaded_encoder
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.evaluation.evaluator import Evaluation
from paddlerec_milvus.ranking import training
from paddlerec_milvus.ranking.channels import QUOTAS
from paddlerec_milvus.ranking.cli import main as rank
from paddlerec_milvus.ranking.features import FEATURES, GROUPS
from paddlerec_milvus.ranking.files import DIN, FOLDER, MANIFEST, TABLES, TREES
from paddlerec_milvus.ranking.training import ranking_beside
from paddlerec_milvus.trained_model import PARAMETERS, TrainedModel


@dataclass(frozen=True)
class Copied:
    """A trained model, copied to have rankers of its own."""

    data: Path
    checkpoints: Path

    def arguments(self, *flags: str, options: tuple[str, ...] = ()) -> list[str]:
        place = f"runner.infer_load_path={self.checkpoints}"
        start = ["-m", "mind/config.yaml", "--data", str(self.data)]
        return [*start, *flags, "-o", place, *options]

    def infer(self, *flags: str, options: tuple[str, ...] = ()) -> int:
        return infer(self.arguments("--exact", "--best", "--rank", *flags, options=options))

    def rank(self, *flags: str, options: tuple[str, ...] = ()) -> int:
        """With few trees."""
        return rank(self.arguments("--ranker", "trees", "--rounds", "5", *flags, options=options))

    def model(self, epoch: str) -> TrainedModel:
        arguments = self.arguments()
        settings = read_settings(model_parser("", "").parse_args(arguments))
        return TrainedModel(settings, self.checkpoints / epoch)


@pytest.fixture
def copied(trained, tmp_path: Path) -> Copied:
    return Copied(trained.data, shutil.copytree(trained.checkpoints, tmp_path / "out"))


@pytest.fixture(scope="module")
def ranked(trained, tmp_path_factory: pytest.TempPathFactory) -> Copied:
    """With a ranker of few trees beside the best epoch."""
    place = tmp_path_factory.mktemp("ranked") / "out"
    copied = Copied(trained.data, shutil.copytree(trained.checkpoints, place))
    assert copied.rank() == 0
    return copied


def fails(code: int, capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in shown.err
    message = shown.err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


def test_a_ranker_is_trained_beside_the_best_epoch_and_measured(
    ranked: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((ranked.checkpoints / "best" / FOLDER / MANIFEST).read_text())
    assert manifest["item_count"] == 301
    report = tmp_path / "report.json"
    assert ranked.infer("--report", str(report)) == 0
    shown = capsys.readouterr().out
    for words in ("interests, unranked", "all channels, ranked", "its 95 % interval"):
        assert words in shown
    measured = json.loads(report.read_text())["ranking"]
    assert measured["users"] == 60
    assert list(measured["channels"]) == list(measured["without"]) == list(QUOTAS)
    assert set(measured["ranked"]) == set(measured["unranked"]) == set(measured["gain"])
    for name, value in measured["ranked"].items():
        assert f"{100 * value:.2f}" in shown
        assert 0 <= value <= 1, name
    hits = {name: one["relevant"] for name, one in measured["channels"].items()}
    alone = {name: one["relevant_only"] for name, one in measured["channels"].items()}
    assert all(0 <= alone[name] <= hits[name] for name in QUOTAS)
    assert hits["interests"] > 0


def test_what_is_saved_has_the_clicks_of_valid_users_too(ranked: Copied) -> None:
    log, users = read_click_log(ranked.data / "train"), read_held_out(ranked.data / "valid")
    clicked = [set(one.tolist()) for one in np.split(log.items, log.indptr[1:-1])]
    own = zip(users.history_list(), users.truth_list(), strict=True)
    clicked += [set(np.concatenate(pair).tolist()) for pair in own]
    expected = [sum(item in items for items in clicked) for item in range(301)]
    with np.load(ranked.checkpoints / "best" / FOLDER / TABLES) as tables:
        assert tables["clicks"].tolist() == expected


def test_the_unranked_lists_are_those_of_infer_without_the_history(
    ranked: Copied, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    options = ("retrieval.exclude_history=True",)
    assert ranked.infer("-top_n", "50", "--report", str(report), options=options) == 0
    numbers = json.loads(report.read_text())
    for name in ("recall@50", "ndcg@50", "hitrate@50"):
        assert numbers["ranking"]["unranked"][name] == pytest.approx(numbers[name])


def test_it_says_what_came_of_it_and_what_comes_next(
    copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copied.rank("--epoch", "0", "--show", "2") == 0
    assert (copied.checkpoints / "0" / FOLDER / TREES).exists()
    assert not (copied.checkpoints / "best" / FOLDER).exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["feature", "share", "of", "gain,", "%"]
    (summary,) = [line for line in lines if " trees from " in line]
    assert summary.endswith(str(copied.checkpoints / "0" / FOLDER))
    heads = [line for line in lines if "the model's own order" in line]
    assert [head.split()[:2] for head in heads] == [["ranked", "before"]] * 2
    assert sum(line.startswith("10  ") for line in lines) == 2
    assert any("interests +" in line or "interests -" in line for line in lines)
    assert lines[-1].startswith("next: python -u tools/infer.py -m mind/config.yaml --data ")


def test_din_ranks_in_place_of_trees(
    ranked: Copied, copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    place = copied.checkpoints / "best" / FOLDER
    shutil.copytree(ranked.checkpoints / "best" / FOLDER, place)
    words = ("--ranker", "din", "--lists", "60", "--rounds", "2", "--without", "category")
    assert rank(copied.arguments(*words)) == 0
    assert {file.name for file in place.iterdir()} == {MANIFEST, TABLES, DIN}
    manifest = json.loads((place / MANIFEST).read_text())
    assert manifest["ranker"] == "din"
    assert not set(manifest["used"]) & set(GROUPS["category"])
    assert "DIN with " in capsys.readouterr().out
    assert copied.infer() == 0
    assert "all channels, ranked" in capsys.readouterr().out
    (place / DIN).write_bytes(b"")
    assert f"{place / DIN}: is not the file that was saved" in fails(copied.infer(), capsys)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files(ranked: Copied, copied: Copied) -> None:
    def files() -> dict[str, bytes]:
        folder = copied.checkpoints / "best" / FOLDER
        return {name: (folder / name).read_bytes() for name in (TREES, MANIFEST, TABLES)}

    assert copied.rank("--seed", "2") == 0
    other = files()
    assert copied.rank("--seed", "1") == 0
    first = ranked.checkpoints / "best" / FOLDER
    assert {name: (first / name).read_bytes() for name in files()} == files()
    assert files()[TREES] != other[TREES]


def test_features_may_be_left_out_but_not_all(
    copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copied.rank("--without", "interests", "category") == 0
    manifest = json.loads((copied.checkpoints / "best" / FOLDER / MANIFEST).read_text())
    left_out = {*GROUPS["interests"], *GROUPS["category"]}
    assert manifest["used"] == [name for name in FEATURES if name not in left_out]
    assert manifest["features"] == list(FEATURES)
    assert copied.infer() == 0
    capsys.readouterr()
    message = fails(copied.rank("--without", *GROUPS), capsys)
    assert "--without: names all features" in message


def test_it_may_learn_from_less_and_from_other_quotas(
    copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    quotas = ("ranking.quotas.popular=7", "ranking.quotas.neighbours=0")
    assert copied.rank("--lists", "40", options=quotas) == 0
    assert " trees from " in capsys.readouterr().out
    manifest = json.loads((copied.checkpoints / "best" / FOLDER / MANIFEST).read_text())
    assert 10 <= manifest["lists"] <= 40
    assert manifest["quotas"] == {"interests": 200, "transitions": 200, "popular": 7}
    assert manifest["channels"] == list(manifest["quotas"])
    for flag in ("--lists", "--rounds"):
        assert f"{flag[2:]}: 0: nothing is learned so; at least 1" in fails(
            copied.rank(flag, "0"), capsys
        )


def test_a_ranker_does_not_go_with_another_epoch(ranked: Copied, copied: Copied) -> None:
    best = shutil.copytree(ranked.checkpoints / "best" / FOLDER, copied.checkpoints / "0" / FOLDER)
    assert best.exists()
    trained = copied.model("0")
    vectors = loaded_encoder(*trained).item_vectors()
    with pytest.raises(CheckpointError, match="trained with another model: "):
        ranking_beside(trained, vectors)


@pytest.fixture
def _nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a ranker is told before the users are searched for."""
    monkeypatch.setattr(Evaluation, "_epoch", None)


@pytest.mark.usefixtures("_nothing_is_measured")
def test_infer_without_a_ranker_names_the_command(
    copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(copied.infer(), capsys)
    assert (
        "best/ranking: no ranker was trained for this checkpoint: python tools/rank.py" in message
    )


@pytest.mark.usefixtures("_nothing_is_measured")
def test_infer_with_a_ranker_of_another_epoch(
    ranked: Copied, copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ranked.checkpoints / "best" / FOLDER, copied.checkpoints / "best" / FOLDER)
    parameters = copied.checkpoints / "best" / PARAMETERS
    parameters.write_bytes(parameters.read_bytes() + b"more")
    assert "trained with another model: " in fails(copied.infer(), capsys)


@pytest.mark.usefixtures("_nothing_is_measured")
def test_a_damaged_ranker_is_no_traceback(
    ranked: Copied, copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    place = copied.checkpoints / "best" / FOLDER
    shutil.copytree(ranked.checkpoints / "best" / FOLDER, place)
    (place / TREES).write_text("[]")
    assert f"{place / TREES}: is not the file that was saved" in fails(copied.infer(), capsys)


def test_without_a_checkpoint_training_one_is_proposed(
    copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copied.checkpoints)
    message = fails(copied.rank(), capsys)
    assert "holds no checkpoint; train one: python -u tools/trainer.py" in message


def test_an_epoch_that_is_not_there(copied: Copied, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--epoch '7' is no epoch of " in fails(copied.rank("--epoch", "7"), capsys)


@pytest.mark.parametrize("metric", ["L2", "COSINE"])
def test_another_metric_is_refused_by_both(
    ranked: Copied, metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (f"retrieval.metric={metric}",)
    for run in (
        lambda: ranked.rank(options=options),
        lambda: ranked.infer(options=options),
    ):
        message = fails(run(), capsys)
        assert f"retrieval.metric is {metric}: ranking wants IP" in message


def test_without_valid_users_there_is_nothing_to_learn_from(
    copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(copied.rank(options=("runner.valid_data_dir=", "runner.patience=0")), capsys)
    assert "runner.valid_data_dir: a ranker learns from valid users" in message


def test_labels_that_the_model_has_seen_are_refused(
    copied: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user, item = (copied.data / "train" / "clicks.csv").read_text().split("\n")[0].split(",")[:2]
    leak = f"user_id:{user} target_item:0 hist_item:{1 + int(item)} eval_item:{item}\n"
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "users.txt").write_text(leak)
    options = (f"runner.valid_data_dir={tmp_path / 'valid'}",)
    message = fails(copied.rank(options=options), capsys)
    assert f"are in the training log, the first of user {user}: " in message
    assert not list(copied.checkpoints.glob(f"*/{FOLDER}"))


@pytest.mark.parametrize(
    ("clicks", "words"),
    [
        ("hist_item:999 eval_item:5", "a history holds item 999, but the model has items up to"),
        ("hist_item:5 eval_item:999", "0 lists with a later click among their candidates"),
    ],
)
def test_valid_users_of_other_items_are_refused(
    copied: Copied, tmp_path: Path, clicks: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    users = "".join(f"user_id:{user} target_item:0 {clicks}\n" for user in range(9000, 9020))
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "users.txt").write_text(users)
    options = (f"runner.valid_data_dir={tmp_path / 'valid'}",)
    assert words in fails(copied.rank(options=options), capsys)


def test_the_data_may_be_put_elsewhere_and_another_data_is_refused(
    ranked: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Copied(shutil.copytree(ranked.data, tmp_path / "data"), ranked.checkpoints)
    assert moved.infer() == 0
    capsys.readouterr()
    clicks = moved.data / "train" / "clicks.csv"
    clicks.write_text(clicks.read_text().replace("\n", "\n1,1,0\n", 1))
    assert "fingerprint" in fails(moved.rank(), capsys)


def test_what_taught_the_ranker_does_not_measure_it(
    ranked: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    valid = f"runner.test_data_dir={ranked.data / 'valid'}"
    message = fails(ranked.infer(options=(valid,)), capsys)
    assert "the ranker learned from these very users" in message
    assert infer(ranked.arguments("--exact", "--best", options=(valid,))) == 0


def test_a_checkpoint_that_is_written_meanwhile_gets_no_ranker(
    copied: Copied, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def channels(trained: TrainedModel, *others: object) -> object:
        shutil.copyfile(copied.checkpoints / "0" / PARAMETERS, trained.checkpoint / PARAMETERS)
        return count(trained, *others)

    count: Any = training._channels
    monkeypatch.setattr(training, "_channels", channels)
    assert "was written while it was read: try again" in fails(copied.rank(), capsys)
    assert not (copied.checkpoints / "best" / FOLDER).exists()
