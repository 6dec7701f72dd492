# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Pairs of items in a click log: what was clicked with what, and what after what.

Letters: U users, V items (row 0 is padding).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.errors import DataError, SettingsError

IntArray = npt.NDArray[np.int64]


def click_matrix(log: ClickLog, item_count: int) -> sparse.csr_matrix:
    """[U, item_count] float32: 1 where a user clicked an item, however often.

    Raises DataError when the log holds an item that ``item_count`` has no column for.
    """
    largest = int(log.items.max(initial=0))
    if largest >= item_count:
        raise DataError(f"the log holds item {largest}, but item_count is {item_count}")
    clicks = np.ones(len(log.items), dtype=np.float32)
    shape = (len(log.user_ids), item_count)
    matrix = sparse.csr_matrix((clicks, log.items, log.indptr), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def transition_counts(log: ClickLog, item_count: int, window: int) -> sparse.csr_matrix:
    """[V, V] float32: how often j was clicked within ``window`` clicks after i.

    A pair that lies d clicks apart in a user's sequence counts 1/d, as often as it comes; an item
    does not follow itself. Raises SettingsError for a window below 1.
    """
    if window < 1:
        raise SettingsError(f"transitions need a window of 1 click or more, given {window}")
    owner = np.repeat(np.arange(len(log.user_ids)), log.lengths)
    counts = sparse.csr_matrix((item_count, item_count), dtype=np.float32)
    for distance in range(1, min(window, len(owner) - 1) + 1):
        before, after = log.items[:-distance], log.items[distance:]
        pairs = (owner[:-distance] == owner[distance:]) & (before != after)
        weights = np.full(int(pairs.sum()), 1 / distance, dtype=np.float32)
        counts += sparse.csr_matrix((weights, (before[pairs], after[pairs])), shape=counts.shape)
    return counts


def weighed(
    counts: sparse.csr_matrix, clicks: IntArray, rows: float, columns: float, shrink: float
) -> sparse.csr_matrix:
    """``counts`` [V, V], over (c_i + shrink)^rows (c_j + shrink)^columns with c the ``clicks``."""
    scale = clicks.astype(np.float32) + np.float32(shrink)
    scale[clicks == 0] = 1.0  # its row and column are empty
    left, right = (sparse.diags(scale**-power) for power in (rows, columns))
    return (left @ counts @ right).astype(np.float32).tocsr()


def co_clicks(users: sparse.csr_matrix) -> sparse.csr_matrix:
    """[V, V] float32: how many of ``users`` [U, V] clicked both of two items; diagonal 0."""
    both = (users.T @ users).tocsr()
    both.setdiag(0.0)
    both.eliminate_zeros()
    return both
