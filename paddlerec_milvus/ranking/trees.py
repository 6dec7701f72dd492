# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Boosted trees that correct the order of a vector model (LambdaMART; Burges 2010, LightGBM)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from paddlerec_milvus.errors import CheckpointError, DataError
from paddlerec_milvus.ranking.features import FEATURES, SCORE
from paddlerec_milvus.ranking.samples import RankingLists

FloatArray = npt.NDArray[np.float32]

PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 20,
    "metric": "ndcg",
    "eval_at": [10],
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 200,
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
ROUNDS, PATIENCE = 600, 40
WATCHED = 0.15  # of the lists, that say when to stop
START = 0.5  # standard deviations of the interests' scores that one point of the start is worth


class TreesRanker:
    """Scores candidates by ``start`` times the interests' score and trees over all features.

    With no tree the order is that of the vector model: trees learn what to change in it.
    """

    def __init__(self, booster: lightgbm.Booster, start: float, features: Sequence[str]) -> None:
        self._booster, self.start = booster, start
        self.features = tuple(features)
        """Those that the trees use, of FEATURES."""
        self._columns = [FEATURES.index(name) for name in self.features]
        self._score = FEATURES.index(SCORE)

    @classmethod
    def fit(
        cls,
        lists: RankingLists,
        seed: int = 1,
        threads: int = 1,
        features: Sequence[str] = FEATURES,
    ) -> TreesRanker:
        """Trees for ``lists``, whose last lists say when to stop; the same seed, the same trees.

        DataError: too few lists.
        """
        watched = math.ceil(WATCHED * len(lists.sizes))
        if len(lists.sizes) - watched < 2:
            raise DataError(
                f"{len(lists.sizes)} lists with a later click among their candidates: too few to "
                "train a ranker on"
            )
        score = lists.rows[:, FEATURES.index(SCORE)]
        spread = float(np.std(score)) or 1.0
        start = START / spread
        learned = lists.part(0, len(lists.sizes) - watched)
        held = lists.part(len(learned.sizes), len(lists.sizes))
        columns = [FEATURES.index(name) for name in features]
        data = _dataset(learned, start, columns, features)
        booster = lightgbm.train(
            {**PARAMETERS, "seed": seed, "num_threads": threads},
            data,
            ROUNDS,
            valid_sets=[_dataset(held, start, columns, features, data)],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        return cls(booster, start, features)

    def scores(self, rows: FloatArray) -> npt.NDArray[np.float64]:
        """[n] for ``rows`` [n, F], the higher the better."""
        base = self.start * rows[:, self._score].astype(np.float64)
        trees = self._booster.predict(rows[:, self._columns], raw_score=True, num_threads=1)
        scores: npt.NDArray[np.float64] = base + np.asarray(trees, np.float64)
        return scores

    def importance(self) -> dict[str, float]:
        """The share of all gain that each feature brought, the largest first."""
        gains = self._booster.feature_importance("gain")
        whole = float(gains.sum()) or 1.0
        pairs = zip(self.features, (gains / whole).tolist(), strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    @property
    def trees(self) -> int:
        """How many trees there are."""
        return self._booster.num_trees()

    def text(self) -> str:
        """The trees in LightGBM's text format, which holds data alone."""
        return self._booster.model_to_string()

    @classmethod
    def of_text(cls, text: str, start: float, features: Sequence[str]) -> TreesRanker:
        """From :meth:`text`; CheckpointError: it is none."""
        try:
            booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise CheckpointError(f"the trees of a ranker cannot be read: {error}") from None
        if booster.feature_name() != list(features):
            raise CheckpointError("the trees of a ranker are of other features than it says")
        return cls(booster, start, features)


def _dataset(
    lists: RankingLists,
    start: float,
    columns: list[int],
    names: Sequence[str],
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        lists.rows[:, columns],
        lists.labels.astype(np.int32),
        group=lists.sizes,
        init_score=start * lists.rows[:, FEATURES.index(SCORE)].astype(np.float64),
        feature_name=list(names),
        reference=reference,
    )
