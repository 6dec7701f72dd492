# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The same list for everybody."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.evaluation.baselines.base import Baseline, FloatArray, IntArray


def most_popular(log: ClickLog, top_n: int) -> IntArray:
    """The ``top_n`` items with most clicks in ``log`` [<= top_n]; of equals the larger id first.

    Ids follow popularity in the whole log, so that among equals here the larger id is the one
    that this split favours; the published figures of this protocol break ties the same way.
    """
    counts = np.bincount(log.items)
    order = np.lexsort((-np.arange(len(counts)), -counts))
    return order[counts[order] > 0][:top_n].astype(np.int64)


class MostPopular(Baseline):
    """The items with most clicks, repeated ones counted, in the order of ``most_popular``."""

    def __init__(self, log: ClickLog, item_count: int) -> None:
        super().__init__(log, item_count)
        order = most_popular(log, item_count)
        self._scores = np.full(item_count, -np.inf, dtype=np.float32)
        self._scores[order] = -np.arange(len(order))

    def scores(self, history: sparse.csr_matrix) -> FloatArray:
        """Each item's rank, negated [B, V]."""
        return np.tile(self._scores, (history.shape[0], 1))
