# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""EASE: a linear item-item model in closed form."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.baselines.base import Baseline, FloatArray

LARGEST = 20_000  # items
_BLOCK = 1_024


def check_size(item_count: int, largest: int = LARGEST) -> None:
    """SettingsError, with the memory that it would need, for more items than ``largest``."""
    if item_count > largest:
        raise SettingsError(
            f"EASE inverts a matrix of items by items: {item_count:,} items need "
            f"{3 * 4 * item_count**2 / 2**30:,.0f} GiB of memory, the limit is {largest:,} items; "
            "leave it out, or raise its argument 'largest'"
        )


class EASE(Baseline):
    """Weights B that rebuild clicks X from the other clicks (Steck 2019, equation 8).

    B minimises |X - XB|² + l2 |B|² with a diagonal of 0: with P = (XᵀX + l2 I)⁻¹ it is
    B_ij = -P_ij / P_jj. A user's scores are the sums of B's rows over the history, each weighted by
    gamma^age (1: a set, as published). Memory 3 V² 4 bytes, time V³. Raises SettingsError above
    ``largest`` items, and for an ``l2`` that leaves XᵀX without an inverse.
    """

    def __init__(
        self,
        log: ClickLog,
        item_count: int,
        l2: float = 300.0,
        largest: int = LARGEST,
        gamma: float = 1.0,
    ) -> None:
        check_size(item_count, largest)
        super().__init__(log, item_count)
        self.gamma = gamma
        gram = (self.users.T @ self.users).toarray(order="F")
        gram[np.diag_indices(item_count)] += np.float32(l2)
        factor, failed = lapack.spotrf(gram, lower=1, clean=1, overwrite_a=1)
        if failed:
            raise SettingsError(f"EASE has no solution at l2 {l2}: raise it")
        weights, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
        _mirror(weights)
        weights /= -np.diag(weights)
        weights[np.diag_indices(item_count)] = 0.0
        self.weights = np.ascontiguousarray(weights)  # [V, V]

    def scores(self, history: sparse.csr_matrix) -> FloatArray:
        """Sums of weights [B, V]."""
        scores: FloatArray = history @ self.weights
        return scores


def _mirror(lower: FloatArray) -> None:
    """Fill the upper triangle, which holds zeros, from the lower one; in place."""
    for start in range(0, len(lower), _BLOCK):
        end = start + _BLOCK
        lower[start:end, start:end] += np.tril(lower[start:end, start:end], -1).T
        lower[start:end, end:] = lower[end:, start:end].T
