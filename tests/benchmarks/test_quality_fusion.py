# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The fusion of two baselines in benchmarks/quality.py, by hand and in a run."""

from __future__ import annotations

import numpy as np
import pytest
from quality_table import fusion
from quality_table.baselines import METHODS, Method
from quality_table.fusion import Mix, fused_lists, mixes_of, z_scores
from support import held_out, log_of

from paddlerec_milvus.evaluation.baselines import ItemKNNGamma, Transitions
from paddlerec_milvus.evaluation.baselines.base import history_matrix

USERS = [[1, 2, 3], [2, 3, 4], [3, 1, 5], [4, 2], [5, 1, 2, 3]]
HISTORIES = [[1, 2], [4], [3, 5, 1]]
ITEMS = 7  # 6 is never clicked


def z_by_hand(baseline, history):
    scores = baseline.scores(history_matrix(np.array([history]), ITEMS, baseline.gamma))[0]
    scores = np.where(np.isfinite(scores), scores, 0.0)[1:6].astype(np.float64)
    return (scores - scores.mean()) / scores.std()


def test_a_mix_is_the_weighted_sum_of_z_scores_each_history_with_its_own_gamma():
    log = log_of(USERS)
    built = {
        "transitions": Transitions(log, ITEMS, gamma=0.5),
        "item_knn_gamma": ItemKNNGamma(log, ITEMS, gamma=0.9),
    }
    mixes = mixes_of(list(built))
    assert mixes[0] == Mix("transitions", "item_knn_gamma", 0.1)
    lists = fused_lists(built, held_out(HISTORIES), 20, mixes)
    for mix, of_mix in zip(mixes, lists, strict=True):
        for row, history in zip(of_mix, HISTORIES, strict=True):
            first, second = (z_by_hand(built[name], history) for name in mix[:2])
            fused = mix.weight * first + (1 - mix.weight) * second
            assert (row[5:] == -1).all()  # five items were clicked
            assert fused[row[:5] - 1] == pytest.approx(np.sort(fused)[::-1], abs=1e-5)


def test_a_user_whose_scores_are_all_equal_has_no_say():
    baseline = Transitions(log_of([[1, 2], [3, 4]]), 5)
    scores = z_scores(baseline, np.array([[2, 0], [1, 0]]))  # nothing follows 2
    assert scores[0, 1:].tolist() == [0.0] * 4
    assert scores[1].argmax() == 2
    assert np.isneginf(scores[:, 0]).all()


@pytest.mark.usefixtures("in_this_process")
def test_the_best_pair_and_weight_on_valid_are_measured_on_test(data, run, monkeypatch):
    for name, build, grid in (
        ("transitions", Transitions, {"gamma": [0.5, 0.9]}),
        ("item_knn_gamma", ItemKNNGamma, {"gamma": [0.8]}),
    ):
        monkeypatch.setitem(METHODS, name, Method(name, build, grid))
    methods = ["--methods", "most_popular", "transitions", "item_knn_gamma", "fusion"]
    code, found = run(*methods)
    assert code == 0
    row = found["methods"]["fusion"]
    assert row["chosen"] == "best of 27 on valid"  # 3 pairs, 9 weights
    best = max(row["trials"], key=lambda trial: trial["valid"]["recall@50"])
    assert row["params"] == best["params"]
    assert row["valid recall@50"] == pytest.approx(best["valid"]["recall@50"])
    for place in ("first", "second"):
        one = found["methods"][row["params"][place]]
        assert row["params"][f"{place}_params"] == one["params"]
        assert row["valid recall@50"] >= one["valid recall@50"] - 0.02

    known = {"recall@50": 0.0, "tolerance": 100, "parameters": row["params"], "trials": 27}
    monkeypatch.setattr(fusion, "tune", None)  # is not called with known parameters
    code, again = run(*methods, "--work", str(data.folder.parent / "w"), known={"fusion": known})
    assert again["methods"]["fusion"]["chosen"] == "best of 27 on valid, recorded"
    assert again["methods"]["fusion"]["recall@50"] == row["recall@50"]


@pytest.mark.usefixtures("in_this_process")
def test_without_two_baselines_there_is_a_note_and_no_row(run):
    _, found = run("--methods", "most_popular", "fusion")
    assert list(found["methods"]) == ["most_popular"]
    assert "needs two baselines" in found["not_measured"]["fusion"]
