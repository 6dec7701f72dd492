# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``retrieval.exclude_history`` by one rule for a model and for baselines, against plain numpy.

Plain numpy reads the files of the prepared folder by itself: a list is the best 20 items that are
nowhere in the user's history, and recall counts every truth, those in the history too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.training.cli import main as train
from paddlerec_milvus.zoo import ModelFolder

TOP_N, MAXLEN = 20, 20


def lines_of(file: Path) -> list[tuple[list[int], set[int]]]:
    """History and truths of each test user."""
    users = []
    for line in file.read_text().split("\n")[:-1]:
        pairs = [token.split(":") for token in line.split()]
        history = [int(value) for key, value in pairs if key == "hist_item"]
        users.append((history, {int(value) for key, value in pairs if key == "eval_item"}))
    return users


def recall_of(
    users: list[tuple[list[int], set[int]]], scores_of: Callable[[list[int]], np.ndarray]
) -> float:
    """Recall in per cent of lists by falling score, the smaller id first among equals."""
    recalls = []
    for history, truths in users:
        scores = scores_of(history[-MAXLEN:]).astype(np.float64)
        scores[0] = scores[history] = -np.inf
        best = np.argsort(-scores, kind="stable")[:TOP_N]
        hits = {int(item) for item in best if scores[item] > -np.inf} & truths
        recalls.append(len(hits) / len(truths))
    return 100 * float(np.mean(recalls))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample of 1,500 users, and a MIND that saw a little of it."""
    folder = tmp_path_factory.mktemp("sample")
    size = ["--users", "1500", "--items", "500", "--clicks", "30000"]
    assert prepare(["--sample", *size, "--out", str(folder / "data")]) == 0
    options = ["runner.epochs=1", "runner.batches_per_epoch=20", "hyper_parameters.neg_samples=99"]
    common = ["-m", "mind/config.yaml", "--data", str(folder / "data")]
    assert train([*common, "-o", f"runner.model_save_path={folder / 'out'}", *options]) == 0
    return folder


def test_one_rule_for_the_model_and_the_baselines(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clicks = np.loadtxt(folder / "data/train/clicks.csv", delimiter=",", dtype=int)
    users = lines_of(folder / "data/test/part-0")
    assert max(len(history) for history, _ in users) > MAXLEN
    options = ["retrieval.exclude_history=True", "hyper_parameters.neg_samples=99"]
    options += [f"runner.infer_load_path={folder / 'out'}"]
    options += ["runner.infer_start_epoch=0", "runner.infer_end_epoch=1"]
    file = folder / "report.json"
    shared = ["-m", "mind/config.yaml", "--data", str(folder / "data")]
    flags = ["-top_n", "20", "--exact", "--baselines", "--report", str(file)]
    assert infer([*shared, *flags, "-o", *options]) == 0
    report = json.loads(file.read_text())

    counts = np.bincount(clicks[:, 1], minlength=501)
    ranks = np.where(counts > 0, counts + np.arange(501) / 501, -np.inf)  # of equals the larger id
    popular = recall_of(users, lambda history: ranks.copy())
    assert popular == pytest.approx(21.382, abs=0.0005)
    assert 100 * report["baselines"]["most_popular"]["recall@20"] == pytest.approx(popular)

    matrix = np.zeros((1500, 501))
    matrix[clicks[:, 0], clicks[:, 1]] = 1
    both, each = matrix.T @ matrix, matrix.sum(axis=0)
    similar = both / (np.sqrt(np.outer(each, each)) + 30)
    np.fill_diagonal(similar, 0)

    def neighbours(history: list[int]) -> np.ndarray:
        scores = similar[sorted(set(history))].sum(axis=0)
        return np.where(scores > 0, scores, -np.inf)

    knn = recall_of(users, neighbours)
    assert knn == pytest.approx(32.464, abs=0.0005)
    assert 100 * report["baselines"]["item_knn"]["recall@20"] == pytest.approx(knn)

    settings = settings_for("mind/config.yaml", options, folder / "data")
    encoder = Encoder(settings, ModelFolder(settings.model_dir))
    encoder.load(folder / "out" / "0")
    table = encoder.item_vectors()

    def interests(history: list[int]) -> np.ndarray:
        padded = np.zeros((1, MAXLEN), np.int64)
        padded[0, : len(history)] = history
        (vectors,) = encoder.interests(padded, np.array([len(history)]))
        return (table @ vectors.T).max(axis=1)

    assert 100 * report["recall@20"] == pytest.approx(recall_of(users, interests))

    lost = sum(len(truths & set(history)) for history, truths in users)
    assert lost > 0
    held_out = report["held_out"]
    assert held_out["excluded_truths"] == lost
    assert held_out["truths"] == sum(len(truths) for _, truths in users)
    assert held_out["cold_truths"] == sum(counts[item] == 0 for _, t in users for item in t)
    said = f"{held_out['truths']:,} truths, of which {lost:,} in a history, which lists leave out,"
    assert said in capsys.readouterr().out.splitlines()[0]
    assert said in caplog.text
