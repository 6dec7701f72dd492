# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Item-based neighbours."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.evaluation.baselines.base import Baseline, FloatArray


class ItemKNN(Baseline):
    """Item-based neighbours by shrunk cosine (Sarwar et al. 2001; shrinkage: Bell and Koren 2007).

    The similarity of candidate j to the clicked item i is c_ij / (c_i^alpha c_j^(1 - alpha) +
    shrink), c counting the users who clicked: alpha 0.5 is the cosine, more of it favours popular
    candidates (Aiolli 2013). A user's score of j is the sum over the history, in which an item is
    no neighbour of itself. ``neighbours`` keeps the most similar ones of each item, 0 keeps all.
    """

    def __init__(
        self,
        log: ClickLog,
        item_count: int,
        shrink: float = 30.0,
        alpha: float = 0.5,
        neighbours: int = 0,
    ) -> None:
        super().__init__(log, item_count)
        self._items = self.users.T.tocsr()  # [V, U]
        self._shrink, self._neighbours = shrink, neighbours
        counts = self.clicks.astype(np.float32)
        self._clicked, self._candidate = counts**alpha, counts ** (1 - alpha)

    def _similarities(self, items: np.ndarray) -> sparse.csr_matrix:
        """[len(items), V]: rows of the similarity matrix."""
        rows = (self._items[items] @ self.users).tocsr()
        rows.sort_indices()
        owner = np.repeat(np.arange(len(items)), np.diff(rows.indptr))
        weight = self._clicked[items[owner]] * self._candidate[rows.indices]
        rows.data /= weight + self._shrink
        rows.data[rows.indices == items[owner]] = 0.0
        if self._neighbours:
            order = np.lexsort((-rows.data, owner))  # stable: of equals the smaller id
            place = np.arange(len(owner)) - rows.indptr[owner]
            rows.data[order[place >= self._neighbours]] = 0.0
        return rows

    def scores(self, history: sparse.csr_matrix) -> FloatArray:
        """Sums of similarities [B, V]; -inf for an item that is nobody's neighbour."""
        items = np.unique(history.indices)
        scores: FloatArray = (history[:, items] @ self._similarities(items)).toarray()
        scores[scores <= 0] = -np.inf
        return scores
