# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Boosted trees that learn to order lists (LambdaMART; Burges 2010), trained by LightGBM."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np

from paddlerec_milvus.errors import DataError
from paddlerec_milvus.ranking.features import ALL_FEATURES, FEATURES, SCORE
from paddlerec_milvus.ranking.samples import ROUNDS, RankingLists
from paddlerec_milvus.ranking.tree_graph import graph_of
from paddlerec_milvus.ranking.trees import TreesRanker

PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 50,
    "metric": "ndcg",
    "eval_at": [10],
    "learning_rate": 0.06,
    "num_leaves": 15,
    "max_bin": 63,
    "min_data_in_leaf": 200,
    "lambda_l2": 5.0,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
PATIENCE = 25  # rounds without a gain
FOLDS = 5  # forests, each stopped by the fifth of the lists that it did not learn from
START = 0.5  # standard deviations of the interests' scores that one point of the start is worth


def fit_trees(
    lists: RankingLists,
    seed: int = 1,
    threads: int = 1,
    features: Sequence[str] = FEATURES,
    rounds: int = ROUNDS,
) -> TreesRanker:
    """The mean of ``FOLDS`` forests for ``lists``, which start from the interests' score.

    A forest has at most ``rounds`` trees, which use ``features`` alone. The same lists and seed
    give the same trees. DataError: too few lists.
    """
    count = len(lists.sizes)
    if count < 2 * FOLDS:
        raise DataError(
            f"{count} lists with a later click among their candidates, at least {2 * FOLDS} "
            "are needed to train a ranker: prepare more valid users"
        )
    spread = float(np.std(lists.rows[:, FEATURES.index(SCORE)])) or 1.0
    start, ends = START / spread, np.linspace(0, count, FOLDS + 1).astype(int).tolist()
    parameters = {**PARAMETERS, "seed": seed, "num_threads": threads}
    forests = []
    for first, last in itertools.pairwise(ends):
        held, learned = lists.split(first, last)
        data = _dataset(learned, start, features)
        watched = _dataset(held, start, features, data)
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        forests.append(
            lightgbm.train(parameters, data, rounds, valid_sets=[watched], callbacks=[stop])
        )
    gains = np.sum([one.feature_importance("gain") for one in forests], axis=0)
    shares = zip(features, (gains / (float(gains.sum()) or 1.0)).tolist(), strict=True)
    facts = {
        "columns": list(ALL_FEATURES[: lists.rows.shape[1]]),
        "start": start,
        "trees": sum(one.num_trees() for one in forests),
        "importance": dict(sorted(shares, key=lambda share: -share[1])),
    }
    return TreesRanker(graph_of(forests, [ALL_FEATURES.index(name) for name in features], facts))


def _dataset(
    lists: RankingLists,
    start: float,
    features: Sequence[str],
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        lists.rows[:, [ALL_FEATURES.index(name) for name in features]],
        (lists.labels == 1).astype(np.int32),
        group=lists.sizes,
        init_score=start * lists.rows[:, FEATURES.index(SCORE)].astype(np.float64),
        reference=reference,
    )
