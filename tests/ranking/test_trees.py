# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Trees over the vector model's order: what they learn, repeat, and leave as it was."""

from __future__ import annotations

import numpy as np
import pytest
from small_ranking import lists_of, ranker_of

from paddlerec_milvus.errors import CheckpointError, DataError
from paddlerec_milvus.ranking.features import FEATURES, GROUPS, SCORE
from paddlerec_milvus.ranking.trees import FOLDS, START, TreesRanker

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
    assert next(iter(ranker.importance())) == SIGNAL
    assert sum(ranker.importance().values()) == pytest.approx(1)


def test_the_same_seed_gives_the_same_trees_and_another_others() -> None:
    lists = lists_of(20, 60, 2, SIGNAL)
    first, again, other = (TreesRanker.fit(lists, seed).texts() for seed in (1, 1, 2))
    assert first == again != other


def test_trees_that_learned_nothing_keep_the_order_of_the_vector_model() -> None:
    lists = lists_of(10, 20, 3)  # too few rows for one split
    ranker = TreesRanker.fit(lists)
    score = lists.rows[:, FEATURES.index(SCORE)]
    scores = ranker.scores(lists.rows)
    assert np.argsort(scores).tolist() == np.argsort(score).tolist()
    # half a point for each standard deviation
    assert np.std(scores) == pytest.approx(START, rel=1e-4)
    assert set(ranker.importance().values()) == {0}


def test_a_start_in_the_right_order_is_left_nearly_as_it_is() -> None:
    lists = lists_of(20, 60, 4, SCORE)
    score = lists.rows[:, FEATURES.index(SCORE)]
    correlation = np.corrcoef(TreesRanker.fit(lists).scores(lists.rows), score)[0, 1]
    assert correlation > 0.7


def test_a_score_that_is_the_same_everywhere_is_no_fault() -> None:
    lists = lists_of(20, 60, 5, SIGNAL)
    lists.rows[:, FEATURES.index(SCORE)] = 0.25
    assert np.isfinite(TreesRanker.fit(lists).scores(lists.rows)).all()


def test_unknown_features_are_learned_from_and_scored() -> None:
    lists = lists_of(20, 60, 6, SIGNAL)
    unknown = [FEATURES.index(name) for name in ("interest_rank", *GROUPS["channel_ranks"])]
    lists.rows[:, unknown] = np.nan
    ranker = TreesRanker.fit(lists)
    assert np.isfinite(ranker.scores(lists.rows)).all()
    assert mean_place(ranker) < 5


def test_trees_of_some_features_read_no_others() -> None:
    lists = lists_of(20, 60, 7, SIGNAL)
    ranker = TreesRanker.fit(lists, features=[SIGNAL, "category_age"])
    changed = lists.rows.copy()
    others = [i for i, name in enumerate(FEATURES) if name not in (*ranker.features, SCORE)]
    changed[:, others] = 7.0
    assert ranker.scores(changed).tolist() == ranker.scores(lists.rows).tolist()


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_lists_are_refused(count: int) -> None:
    with pytest.raises(
        DataError, match=f"^{count} lists with a later click .*, at least 10 are needed"
    ):
        TreesRanker.fit(lists_of(count, 9, 1))


def test_a_text_gives_the_same_trees() -> None:
    ranker, rows = ranker_of(), lists_of(3, 60, 8).rows
    again = TreesRanker.of_texts(ranker.texts(), ranker.start, ranker.features)
    assert again.scores(rows).tolist() == ranker.scores(rows).tolist()
    assert again.trees == ranker.trees
    assert again.importance() == pytest.approx(ranker.importance())
    assert again.texts() == ranker.texts()
    assert len(again.texts()) == FOLDS


@pytest.mark.parametrize("text", ["", "no trees", "tree\nversion=v4\n"])
def test_what_is_no_text_of_trees_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="the trees of a ranker cannot be read"):
        TreesRanker.of_texts([text], 1.0, FEATURES)


def test_trees_of_other_features_are_refused() -> None:
    texts = ranker_of().texts()
    for features in (FEATURES[:-1], (*FEATURES[1:], FEATURES[0])):
        with pytest.raises(CheckpointError, match="of other features than it says"):
            TreesRanker.of_texts(texts, 1.0, features)
