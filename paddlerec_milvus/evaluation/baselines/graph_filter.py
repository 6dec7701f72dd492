# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""GF-CF: collaborative filtering as a filter on the graph of clicks, from one decomposition."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from paddlerec_milvus.data.click_graph import low_frequencies, normalised
from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.baselines.base import Baseline, FloatArray

WIDEST = 512  # singular vectors, the largest rank of a grid


class GFCF(Baseline):
    """A linear filter plus an ideal low-pass filter (Shen et al., CIKM 2021, equation 11).

    With R the clicks, each divided by the root of its user's and its item's clicks, V the ``rank``
    right singular vectors of R with the largest singular values and n the items' clicks, a history
    h has the scores h (R'R + alpha n^-1/2 V V' n^1/2). An item of h weighs gamma^age; 1 is the
    paper's set. Unlike the paper's, an item of the history says nothing of itself: its own part of
    its own score is taken away, as in EASE and item-kNN. Memory: 8 bytes for every pair of items
    that a user clicked, and 8 ``rank`` an item. Raises SettingsError for a rank below 1.
    """

    def __init__(
        self,
        log: ClickLog,
        item_count: int,
        rank: int = WIDEST,
        alpha: float = 0.3,
        gamma: float = 1.0,
    ) -> None:
        if rank < 1:
            raise SettingsError(f"GF-CF needs a rank of 1 or more, given {rank}")
        super().__init__(log, item_count)
        root = np.sqrt(np.maximum(self.clicks, 1))
        clicks = normalised(self.users)
        self._linear = (clicks.T @ clicks).tocsr().astype(np.float32)
        self._own = self._linear.diagonal()
        _, self._all = low_frequencies(clicks, rank)
        self._root = root[:, None]
        self.weigh(rank, alpha, gamma)

    def weigh(self, rank: int, alpha: float, gamma: float) -> None:
        """Use another ``alpha`` and ``gamma``, and the first ``rank`` of the vectors there are."""
        self.gamma = gamma
        vectors = self._all[:, :rank]
        self._sources = (alpha * vectors / self._root).astype(np.float32)
        self._targets = (vectors * self._root).astype(np.float32)
        self._diagonal = self._own + alpha * (vectors**2).sum(axis=1).astype(np.float32)

    def scores(self, history: sparse.csr_matrix) -> FloatArray:
        """Filtered histories [B, V]."""
        scores: FloatArray = (history @ self._linear).toarray()
        scores += (history @ self._sources) @ self._targets.T
        rows = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
        scores[rows, history.indices] -= history.data * self._diagonal[history.indices]
        return scores
