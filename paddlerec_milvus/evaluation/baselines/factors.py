# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Matrix factorisation, trained by the library ``implicit``; held-out users are folded in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.baselines.base import Baseline, FloatArray


def _model(kind: str, **options: Any) -> Any:
    """An untrained model of ``implicit``, for one thread: a seed gives the same vectors again."""
    try:
        from implicit.cpu import als, bpr
    except ImportError as error:
        raise SettingsError(
            f"the baseline {kind} needs the package 'implicit' ({error}): "
            "pip install 'paddlerec-milvus[bench]'"
        ) from error
    kinds = {"ALS": als.AlternatingLeastSquares, "BPR": bpr.BayesianPersonalizedRanking}
    with _one_blas_thread():
        return kinds[kind](num_threads=1, **options)


def _fit(model: Any, users: sparse.csr_matrix, callback: Any = None) -> None:
    with _one_blas_thread():
        model.fit(users, show_progress=False, callback=callback)


def _one_blas_thread() -> Any:
    from threadpoolctl import threadpool_limits  # comes with implicit

    return threadpool_limits(1, "blas")


class ALS(Baseline):
    """Weighted matrix factorisation by alternating least squares (Hu, Koren and Volinsky 2008).

    A click has the confidence ``alpha``, everything else 1. The vector x of a held-out user solves
    the same least squares as those of the train users (their equation 4), with item vectors Y held
    fixed: (YᵀCY + l2 I) x = YᵀC p, p 1 at the clicks of the history.
    """

    def __init__(
        self,
        log: ClickLog,
        item_count: int,
        factors: int = 128,
        alpha: float = 10.0,
        l2: float = 10.0,
        iterations: int = 15,
        seed: int = 1,
    ) -> None:
        super().__init__(log, item_count)
        model = _model(
            "ALS",
            factors=factors,
            alpha=alpha,
            regularization=l2,
            iterations=iterations,
            random_state=seed,
        )
        _fit(model, self.users)
        self.item_factors: FloatArray = np.where(self.clicks[:, None] > 0, model.item_factors, 0)
        self._alpha = alpha
        items = self.item_factors.astype(np.float64)
        inverse = np.linalg.inv(items.T @ items + l2 * np.eye(factors))
        self._solved = items @ inverse  # [V, D], rows A⁻¹y with A = YᵀY + l2 I

    def user_factors(self, history: sparse.csr_matrix) -> FloatArray:
        """[B, D] float32 of histories [B, V].

        C differs from 1 in the L rows H of Y that the history holds, so that the system to solve
        is one of L, not D, unknowns: x = A⁻¹Hᵀw with (I + (alpha - 1) H A⁻¹Hᵀ) w = alpha 1.
        """
        vectors = np.zeros((history.shape[0], self.item_factors.shape[1]), dtype=np.float32)
        for row, (start, end) in enumerate(zip(history.indptr, history.indptr[1:], strict=False)):
            items = history.indices[start:end]
            solved = self._solved[items]
            kernel = (self._alpha - 1) * (solved @ self.item_factors[items].T)
            kernel[np.diag_indices(len(items))] += 1
            vectors[row] = np.linalg.solve(kernel, np.full(len(items), self._alpha)) @ solved
        return vectors

    def scores(self, history: sparse.csr_matrix) -> FloatArray:
        """Inner products [B, V] of users' and items' vectors."""
        scores: FloatArray = self.user_factors(history) @ self.item_factors.T
        return scores


class BPR(Baseline):
    """Matrix factorisation by Bayesian personalised ranking (Rendle et al. 2009), with item biases.

    The paper has no fold-in. Here a held-out user's vector is ``scale`` times the mean of the
    history's item vectors, and an item's score its inner product with that, plus its bias; on real
    logs this did better than descending the same loss for the user alone. The vectors after each
    of the ``keep`` epochs stay in ``snapshots``; assigned to ``item_factors`` they are used.
    """

    def __init__(
        self,
        log: ClickLog,
        item_count: int,
        factors: int = 128,
        learning_rate: float = 0.02,
        l2: float = 0.003,
        epochs: int = 100,
        scale: float = 4.0,
        seed: int = 1,
        keep: Sequence[int] = (),
    ) -> None:
        super().__init__(log, item_count)
        self.scale = scale
        self.snapshots: dict[int, FloatArray] = {}

        model = _model(
            "BPR",
            factors=factors,
            learning_rate=learning_rate,
            regularization=l2,
            iterations=epochs,
            random_state=seed,
        )

        def watch(epoch: int, *_: object) -> None:
            if epoch + 1 in keep:
                self.snapshots[epoch + 1] = model.item_factors.copy()

        _fit(model, self.users, watch)
        self.item_factors: FloatArray = model.item_factors  # [V, D + 1], the last one the bias

    def scores(self, history: sparse.csr_matrix) -> FloatArray:
        """Inner products plus biases [B, V]."""
        vectors, biases = self.item_factors[:, :-1], self.item_factors[:, -1]
        count = np.maximum(history.sum(axis=1), 1)
        mean = np.asarray((history @ vectors) / count)
        scores: FloatArray = (self.scale * mean) @ vectors.T + biases
        return scores.astype(np.float32, copy=False)
