# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Trees over the vector model's order: what they learn, repeat, and leave as it was."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from small_ranking import lists_of, ranker_of

from paddlerec_milvus.errors import CheckpointError, DataError
from paddlerec_milvus.ranking.features import FEATURES, GROUPS, SCORE
from paddlerec_milvus.ranking.tree_graph import graph_of
from paddlerec_milvus.ranking.tree_training import FOLDS, START, fit_trees
from paddlerec_milvus.ranking.trees import TreesRanker

SIGNAL = "popularity"


def mean_place(ranker: TreesRanker, seed: int = 9) -> float:
    """Of the clicked item among 60, from 0, in lists that were not learned from."""
    lists = lists_of(20, 60, seed, SIGNAL)
    scores = ranker.scores(lists.rows).reshape(20, 60)
    clicked = scores[lists.labels.reshape(20, 60)]
    return float((scores > clicked[:, None]).sum(axis=1).mean())


def test_trees_find_a_planted_signal() -> None:
    ranker = ranker_of(SIGNAL)
    assert mean_place(ranker) < 5  # by chance 29.5
    assert next(iter(ranker.importance)) == SIGNAL
    assert sum(ranker.importance.values()) == pytest.approx(1)


def test_the_same_seed_gives_the_same_trees_and_another_others() -> None:
    lists = lists_of(20, 60, 2, SIGNAL)
    first, again, other = (fit_trees(lists, seed).content for seed in (1, 1, 2))
    assert first == again != other


def test_trees_that_learned_nothing_keep_the_order_of_the_vector_model() -> None:
    lists = lists_of(10, 20, 3)  # too few rows for one split
    ranker = fit_trees(lists)
    score = lists.rows[:, FEATURES.index(SCORE)]
    scores = ranker.scores(lists.rows)
    assert np.argsort(scores).tolist() == np.argsort(score).tolist()
    # half a point for each standard deviation
    assert np.std(scores) == pytest.approx(START, rel=1e-4)
    assert set(ranker.importance.values()) == {0}


def test_a_start_in_the_right_order_is_left_nearly_as_it_is() -> None:
    lists = lists_of(20, 60, 4, SCORE)
    score = lists.rows[:, FEATURES.index(SCORE)]
    correlation = np.corrcoef(fit_trees(lists).scores(lists.rows), score)[0, 1]
    assert correlation > 0.7


def test_a_score_that_is_the_same_everywhere_is_no_fault() -> None:
    lists = lists_of(20, 60, 5, SIGNAL)
    lists.rows[:, FEATURES.index(SCORE)] = 0.25
    assert np.isfinite(fit_trees(lists).scores(lists.rows)).all()


def test_unknown_features_are_learned_from_and_scored() -> None:
    lists = lists_of(20, 60, 6, SIGNAL)
    unknown = [FEATURES.index(name) for name in ("interest_rank", *GROUPS["channel_ranks"])]
    lists.rows[:, unknown] = np.nan
    ranker = fit_trees(lists)
    assert np.isfinite(ranker.scores(lists.rows)).all()
    assert mean_place(ranker) < 5


def test_trees_of_some_features_read_no_others() -> None:
    lists = lists_of(20, 60, 7, SIGNAL)
    ranker = fit_trees(lists, features=[SIGNAL, "category_age"])
    changed = lists.rows.copy()
    others = [i for i, name in enumerate(FEATURES) if name not in (*ranker.features, SCORE)]
    changed[:, others] = 7.0
    assert ranker.scores(changed).tolist() == ranker.scores(lists.rows).tolist()


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_lists_are_refused(count: int) -> None:
    with pytest.raises(
        DataError, match=f"^{count} lists with a later click .*, at least 10 are needed"
    ):
        fit_trees(lists_of(count, 9, 1))


def test_the_content_gives_the_same_trees() -> None:
    ranker, rows = ranker_of(), lists_of(3, 60, 8).rows
    again = TreesRanker(ranker.content)
    assert again.scores(rows).tolist() == ranker.scores(rows).tolist()
    assert (again.trees, again.start) == (ranker.trees, ranker.start)
    assert again.importance == ranker.importance
    assert again.trees >= FOLDS


@pytest.mark.parametrize("unknown", [0.0, 0.2])  # of them no feature was unknown in training
def test_the_graph_scores_as_lightgbm(unknown: float) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(4000, 3)).astype(np.float32)
    labels = (rows[:, 0] * rows[:, 1] > rows[:, 2]).astype(np.int32)
    rows[rng.random(rows.shape) < unknown] = np.nan
    parameters = {"num_leaves": 31, "verbose": -1, "num_threads": 1}
    forests = [
        lightgbm.train({**parameters, "seed": seed}, lightgbm.Dataset(rows, labels), 20)
        for seed in (1, 2)
    ]
    columns = [5, 2, 7]  # of the ranker's features
    features = np.full((1000, len(FEATURES)), np.nan, np.float32)
    features[:, columns] = rng.normal(size=(1000, 3))
    features[::3, columns[0]], features[1::3, columns[2]] = np.nan, np.nan
    features[:, FEATURES.index(SCORE)] = rng.normal(size=1000)
    facts = {"columns": list(FEATURES), "start": 0.25, "importance": {}}
    scores = TreesRanker(graph_of(forests, columns, facts)).scores(features)
    expected = np.mean([one.predict(features[:, columns]) for one in forests], axis=0)
    expected += 0.25 * features[:, FEATURES.index(SCORE)]
    assert scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("content", [b"", b"no trees", b"\x08\x08"])
def test_what_is_no_graph_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match="the trees of a ranker cannot be read"):
        TreesRanker(content)


def test_trees_of_other_features_are_refused() -> None:
    for features in (FEATURES[:-1], (*FEATURES[1:], FEATURES[0])):
        facts = {"columns": list(features), "start": 1.0, "importance": {}}
        with pytest.raises(CheckpointError, match="of other features than ours"):
            TreesRanker(graph_of([], [], facts))
