# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Baselines of pairs of items that know order: directed transitions, neighbours by age, both."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from paddlerec_milvus.data.item_pairs import co_clicks, transition_counts, weighed
from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.evaluation.baselines.base import Baseline, FloatArray


class PairBaseline(Baseline):
    """A sum, over the history, of what is known of pairs of items; the newest click weighs most.

    The score of j is the sum over items i of gamma^age(i) W_ij, W [V, V] sparse, 8 bytes for every
    pair that occurs. With gamma 1 the order of the history is of no account.
    """

    weights: sparse.csr_matrix

    def scores(self, history: sparse.csr_matrix) -> FloatArray:
        """Sums of weights [B, V]; -inf for an item that forms no pair with the history."""
        scores: FloatArray = self.sparse_scores(history).toarray()
        scores[scores <= 0] = -np.inf
        return scores

    def sparse_scores(self, history: sparse.csr_matrix) -> sparse.csr_matrix:
        """The positive ones of ``scores``, which are few."""
        return history @ self.weights


class ItemKNNGamma(PairBaseline):
    """Item-based neighbours of which the latest click's count most.

    W_ij is c_ij / ((c_i + shrink)^rows (c_j + shrink)^columns), c_ij the users who clicked both, c
    those who clicked one. Without shrink, gamma 1 and powers that sum to 1 it is ``ItemKNN``.
    """

    def __init__(
        self,
        log: ClickLog,
        item_count: int,
        rows: float = 0.5,
        columns: float = 0.5,
        gamma: float = 0.8,
        shrink: float = 20.0,
    ) -> None:
        super().__init__(log, item_count)
        self._counts, self._shrink = co_clicks(self.users), shrink
        self.weigh(rows, columns, gamma)

    def weigh(self, rows: float, columns: float, gamma: float) -> None:
        """Use other powers and another ``gamma`` with the pairs that were counted."""
        self.gamma = gamma
        self.weights = weighed(self._counts, self.clicks, rows, columns, self._shrink)


class Transitions(PairBaseline):
    """What users clicked after the items of the history: directed, i to j is not j to i.

    W_ij is T_ij / ((c_i + shrink)^rows (c_j + shrink)^columns): T counts that j came within
    ``window`` clicks after i, 1/distance each, and c the users who clicked an item.
    """

    def __init__(
        self,
        log: ClickLog,
        item_count: int,
        rows: float = 1.0,
        columns: float = 0.0,
        gamma: float = 0.8,
        window: int = 10,
        shrink: float = 20.0,
    ) -> None:
        super().__init__(log, item_count)
        self._counts, self._shrink = transition_counts(log, item_count, window), shrink
        self.weigh(rows, columns, gamma)

    def weigh(self, rows: float, columns: float, gamma: float) -> None:
        """Use other powers and another ``gamma`` with the transitions that were counted."""
        self.gamma = gamma
        self.weights = weighed(self._counts, self.clicks, rows, columns, self._shrink)


class TransitionsKNN(PairBaseline):
    """Transitions plus neighbours, both with the same weight.

    W is the sum of the W of ``Transitions`` and that of ``ItemKNNGamma``, each divided by the
    standard deviation of its values (over the pairs that occur).
    """

    def __init__(
        self,
        log: ClickLog,
        item_count: int,
        rows: float = 0.5,
        columns: float = 0.0,
        knn_rows: float = 0.5,
        knn_columns: float = 0.3,
        gamma: float = 0.8,
        window: int = 10,
        shrink: float = 20.0,
    ) -> None:
        super().__init__(log, item_count)
        self._transitions = transition_counts(log, item_count, window)
        self._co_clicks, self._shrink = co_clicks(self.users), shrink
        self.weigh(rows, columns, knn_rows, knn_columns, gamma)

    def weigh(
        self, rows: float, columns: float, knn_rows: float, knn_columns: float, gamma: float
    ) -> None:
        """Use other powers and another ``gamma`` with the pairs that were counted."""
        self.gamma = gamma
        self.weights = _of_equal_spread(
            weighed(self._transitions, self.clicks, rows, columns, self._shrink)
        ) + _of_equal_spread(
            weighed(self._co_clicks, self.clicks, knn_rows, knn_columns, self._shrink)
        )


def _of_equal_spread(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """``weights`` with values of standard deviation 1; unchanged where all are equal."""
    spread = float(weights.data.std()) if weights.nnz else 0.0
    return weights / np.float32(spread or 1.0)
