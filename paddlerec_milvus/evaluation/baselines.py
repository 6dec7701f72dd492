# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a model must beat: the most popular items, and item-kNN."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.log import ClickLog

IntArray = npt.NDArray[np.int64]


def most_popular(log: ClickLog, top_n: int) -> IntArray:
    """The ``top_n`` items with most clicks in ``log`` [<= top_n]; of equals the larger id first.

    Ids follow popularity in the whole log, so that among equals here the larger id is the one
    that this split favours; the published figures of this protocol break ties the same way.
    """
    counts = np.bincount(log.items)
    order = np.lexsort((-np.arange(len(counts)), -counts))
    return order[counts[order] > 0][:top_n].astype(np.int64)


def _top_rows(scores: npt.NDArray[np.float32], top_n: int) -> IntArray:
    """Ids [B, top_n] of the highest positive ``scores`` [B, V], -1 where there are fewer."""
    kept = min(top_n, scores.shape[1])
    part = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
    rows = np.arange(len(scores))[:, None]
    order = np.lexsort((part, -scores[rows, part]), axis=1)
    part = part[rows, order]
    ids = np.full((len(scores), top_n), -1, dtype=np.int64)
    ids[:, :kept] = np.where(scores[rows, part] > 0, part, -1)
    return ids


class ItemKNN:
    """Item-based neighbours by shrunk cosine (Sarwar et al. 2001; shrinkage: Bell and Koren 2007).

    similarity(i, j) = c_ij / (sqrt(c_i c_j) + shrink), c counting the users who clicked; a user's
    score of j is the sum over the history.
    """

    def __init__(self, log: ClickLog, item_count: int, shrink: float = 30.0) -> None:
        shape = (len(log.user_ids), item_count)
        clicks = np.ones(len(log.items), dtype=np.float32)
        users = sparse.csr_matrix((clicks, log.items, log.indptr), shape=shape)
        users.sum_duplicates()
        users.data[:] = 1.0
        self._users = users
        self._items = users.T.tocsr()
        self._root = np.sqrt(np.diff(self._items.indptr)).astype(np.float32)
        self._shrink = shrink

    def _similarities(self, items: IntArray) -> sparse.csr_matrix:
        """[len(items), V]: rows of the similarity matrix, an item is no neighbour of itself."""
        together = (self._items[items] @ self._users).tocoo()
        root = self._root[items[together.row]] * self._root[together.col]
        values = together.data / (root + self._shrink)
        values[items[together.row] == together.col] = 0.0
        return sparse.csr_matrix((values, (together.row, together.col)), shape=together.shape)

    def recommend(self, users: HeldOutUsers, maxlen: int, top_n: int, block: int = 512) -> IntArray:
        """Candidates [U, top_n] from the last ``maxlen`` clicks of each user, -1 where short."""
        histories, _ = users.histories(maxlen)
        lists = []
        for start in range(0, len(histories), block):
            rows = histories[start : start + block]
            items, place = np.unique(rows, return_inverse=True)
            place = place.reshape(rows.shape)
            owner = np.repeat(np.arange(len(rows)), rows.shape[1]).reshape(rows.shape)
            real = rows > 0
            history = sparse.csr_matrix(
                (np.ones(int(real.sum()), dtype=np.float32), (owner[real], place[real])),
                shape=(len(rows), len(items)),
            )
            history.data[:] = 1.0
            lists.append(_top_rows((history @ self._similarities(items)).toarray(), top_n))
        return np.concatenate(lists)
