# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What moved an item, against a ranker whose weights are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from small_ranking import ScoreOnly

from paddlerec_milvus.ranking.contributions import group_contributions, main_groups
from paddlerec_milvus.ranking.features import FEATURES, GROUPS

ROWS = np.random.default_rng(5).normal(size=(9, len(FEATURES))).astype(np.float32)
LISTED = np.array([7, 0, 3])


def test_of_a_linear_ranker_it_is_weight_times_distance_from_the_middle() -> None:
    weights = np.random.default_rng(6).normal(size=len(FEATURES))
    found = group_contributions(lambda rows: rows @ weights, ROWS, LISTED)
    parts = weights * (ROWS[LISTED] - np.median(ROWS, axis=0))
    first = 0
    for column, names in enumerate(GROUPS.values()):
        expected = parts[:, first : first + len(names)].sum(axis=1)
        np.testing.assert_allclose(found[:, column], expected, atol=1e-5)
        first += len(names)


def test_features_that_a_ranker_does_not_use_move_nothing() -> None:
    found = group_contributions(ScoreOnly().scores, ROWS, LISTED)
    assert found[:, 0].all()
    assert not found[:, 1:].any()
    assert main_groups(found[0]) == [("interests", found[0, 0])]


def test_a_place_that_is_not_known_is_behind_all_others() -> None:
    column = FEATURES.index("transitions_rank")
    rows = ROWS[:5].copy()
    seen: list[NDArray[np.float32]] = []

    def scores_of(variants: NDArray[np.float32]) -> NDArray[np.float64]:
        seen.append(variants[:, column])
        return np.zeros(len(variants))

    group_contributions(scores_of, rows, np.array([0]))
    rows[1:3, column] = np.nan, np.nan  # of five: the third of three places is the middle
    group_contributions(scores_of, rows, np.array([0]))
    rows[3, column] = np.nan
    group_contributions(scores_of, rows, np.array([0]))
    at = 1 + list(GROUPS).index("channel_ranks")
    assert seen[0][at] == np.median(ROWS[:5, column])
    assert seen[1][at] == np.nanmax(ROWS[[0, 3, 4], column])
    assert np.isnan(seen[2][at])


def test_the_three_that_move_most_are_named_with_their_signs() -> None:
    values = dict.fromkeys(GROUPS, 0.0) | {"popularity": -3.0, "next": 1.0, "neighbours": 2.0}
    first = main_groups(np.array(list(values.values())))
    assert first == [("popularity", -3.0), ("neighbours", 2.0), ("next", 1.0)]
    four = main_groups(np.array(list((values | {"category": -1.5}).values())))
    assert [name for name, _ in four] == ["popularity", "neighbours", "category"]
    assert main_groups(np.zeros(len(GROUPS))) == []
