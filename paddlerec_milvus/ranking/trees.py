# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Boosted trees that correct the order of a vector model (LambdaMART; Burges 2010, LightGBM)."""

from __future__ import annotations

import itertools
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
ROUNDS, PATIENCE = 200, 25
FOLDS = 5  # forests, each stopped by the fifth of the lists that it did not learn from
START = 0.5  # standard deviations of the interests' scores that one point of the start is worth


class TreesRanker:
    """Scores candidates by ``start`` times the interests' score and trees over all features.

    The trees are the mean of ``FOLDS`` forests. With no tree the order is that of the vector model:
    trees learn what to change in it.
    """

    def __init__(
        self, forests: Sequence[lightgbm.Booster], start: float, features: Sequence[str]
    ) -> None:
        self._forests, self.start = list(forests), start
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
        """Forests for ``lists``; the same lists and seed give the same trees.

        DataError: too few lists.
        """
        count = len(lists.sizes)
        if count < 2 * FOLDS:
            raise DataError(
                f"{count} lists with a later click among their candidates, at least {2 * FOLDS} "
                "are needed to train a ranker: prepare more valid users"
            )
        spread = float(np.std(lists.rows[:, FEATURES.index(SCORE)])) or 1.0
        start, ends = START / spread, np.linspace(0, count, FOLDS + 1).astype(int).tolist()
        columns = [FEATURES.index(name) for name in features]
        parameters = {**PARAMETERS, "seed": seed, "num_threads": threads}
        forests = []
        for first, last in itertools.pairwise(ends):
            held, learned = lists.split(first, last)
            data = _dataset(learned, start, columns, features)
            watched = _dataset(held, start, columns, features, data)
            stop = lightgbm.early_stopping(PATIENCE, verbose=False)
            forests.append(
                lightgbm.train(parameters, data, ROUNDS, valid_sets=[watched], callbacks=[stop])
            )
        return cls(forests, start, features)

    def scores(self, rows: FloatArray) -> npt.NDArray[np.float64]:
        """[n] for ``rows`` [n, F], the higher the better."""
        used = rows[:, self._columns]
        scores: npt.NDArray[np.float64] = self.start * rows[:, self._score].astype(np.float64)
        for forest in self._forests:
            trees = forest.predict(used, raw_score=True, num_threads=1)
            scores += np.asarray(trees, np.float64) / len(self._forests)
        return scores

    def importance(self) -> dict[str, float]:
        """The share of all gain that each feature brought, the largest first."""
        gains = np.sum([one.feature_importance("gain") for one in self._forests], axis=0)
        whole = float(gains.sum()) or 1.0
        pairs = zip(self.features, (gains / whole).tolist(), strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    @property
    def trees(self) -> int:
        """How many trees there are in all forests."""
        return sum(one.num_trees() for one in self._forests)

    def texts(self) -> list[str]:
        """The forests in LightGBM's text format, which holds data alone."""
        return [one.model_to_string() for one in self._forests]

    @classmethod
    def of_texts(cls, texts: Sequence[str], start: float, features: Sequence[str]) -> TreesRanker:
        """From :meth:`texts`; CheckpointError: one is none."""
        forests = []
        for text in texts:
            try:
                forests.append(lightgbm.Booster(model_str=text))
            except lightgbm.basic.LightGBMError as error:
                raise CheckpointError(f"the trees of a ranker cannot be read: {error}") from None
            if forests[-1].feature_name() != list(features):
                raise CheckpointError("the trees of a ranker are of other features than it says")
        return cls(forests, start, features)


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
