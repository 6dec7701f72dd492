# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What all baselines share: clicks as a matrix, histories as a matrix, scores as lists."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from scipy import sparse

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.item_pairs import click_matrix
from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.retrieval.base import checked_k

_USERS, _SCORES = 512, 2**25  # at most at a time: users, and scores of theirs

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


def history_matrix(histories: IntArray, item_count: int, gamma: float = 1.0) -> sparse.csr_matrix:
    """``histories`` [B, L] in time order, padding 0 on the right, as weights [B, item_count].

    An item weighs gamma^age, float32, age 0 being a user's last click; of an item that was clicked
    again the last click counts. With gamma 1 the weights are ones: a set.
    """
    rows, places = np.nonzero(histories)
    items = histories[rows, places]
    ages = np.count_nonzero(histories, axis=1)[rows] - 1 - places
    _, newest = np.unique((rows * item_count + items)[::-1], return_index=True)
    last = len(items) - 1 - newest
    weights = np.float32(gamma) ** ages[last].astype(np.float32)
    shape = (len(histories), item_count)
    return sparse.csr_matrix((weights, (rows[last], items[last])), shape=shape)


def top_items(scores: FloatArray, top_n: int) -> IntArray:
    """Ids [B, top_n] of the highest ``scores`` [B, V], best first; of equals the smaller id first.

    A score of -inf is never listed: where too few are left the list ends with -1.
    """
    count = min(top_n, scores.shape[1])
    least = np.partition(scores, -count, axis=1)[:, -count, None]
    better, equal = scores > least, scores == least
    room = count - better.sum(axis=1, keepdims=True)
    chosen = better | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= room))
    part = np.nonzero(chosen)[1].reshape(len(scores), count)
    best = np.take_along_axis(scores, part, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    ids = np.full((len(scores), top_n), -1, dtype=np.int64)
    ids[:, :count] = np.where(np.isneginf(best), -1, part)
    ids[:, :count] = np.take_along_axis(ids[:, :count], order, axis=1)
    return ids


def top_positive(scores: sparse.csr_matrix, top_n: int) -> IntArray:
    """``top_items`` of the positive ``scores`` [B, V] alone, which are few."""
    scores.sort_indices()
    lengths = np.diff(scores.indptr)
    real = np.arange(max(lengths.max(initial=0), 1)) < lengths[:, None]
    padded = np.full(real.shape, -np.inf, dtype=np.float32)
    padded[real] = np.where(scores.data > 0, scores.data, -np.inf)
    ids = np.zeros(real.shape, dtype=np.int64)
    ids[real] = scores.indices
    places = top_items(padded, top_n)
    return np.where(places < 0, -1, np.take_along_axis(ids, np.maximum(places, 0), axis=1))


class Baseline(ABC):
    """Scores items for users that it was not trained on, from their histories alone."""

    gamma = 1.0
    """An item of the history weighs gamma^age; 1 is blind to order."""

    def __init__(self, log: ClickLog, item_count: int) -> None:
        """``item_count`` is the number of item ids, padding 0 included: the largest id + 1."""
        self.item_count = item_count
        self.users = click_matrix(log, item_count)  # [U, V]
        self.clicks: IntArray = np.bincount(self.users.indices, minlength=item_count).astype(
            np.int64
        )  # [V], users that clicked an item

    @abstractmethod
    def scores(self, history: sparse.csr_matrix) -> FloatArray:
        """Scores [B, V] of all items for histories [B, V] of weights; -inf: not listed."""

    def sparse_scores(self, history: sparse.csr_matrix) -> sparse.csr_matrix | None:
        """The positive ``scores`` [B, V] where no others are listed and they are few, else None."""
        return None

    def recommend(
        self,
        users: HeldOutUsers,
        maxlen: int,
        top_n: int,
        *,
        exclude_history: bool = False,
        block: int | None = None,
    ) -> IntArray:
        """Candidates [U, top_n] int64 from the last ``maxlen`` clicks of each user, -1 where short.

        Only items with a click in the log are listed; ``exclude_history`` leaves out those of the
        whole history, of which the baseline sees the last clicks alone. ``block`` users are scored
        at a time, by default as many as keep memory below a GiB.
        Raises DataError for a history with an item that ``item_count`` has no place for.
        """
        checked_k(top_n)
        histories, _ = users.histories(maxlen)
        largest = int(users.history.max(initial=0))
        if largest >= self.item_count:
            raise DataError(f"a history holds item {largest}, but item_count is {self.item_count}")
        block = block or min(_USERS, max(1, _SCORES // self.item_count))
        owner = np.repeat(np.arange(len(users)), np.diff(users.history_indptr))
        lists = [np.empty((0, top_n), dtype=np.int64)]
        for start in range(0, len(histories), block):
            part = histories[start : start + block]
            history = history_matrix(part, self.item_count, self.gamma)
            few = None if exclude_history else self.sparse_scores(history)
            if few is not None:
                lists.append(top_positive(few, top_n))
                continue
            scores = self.scores(history)
            scores[:, self.clicks == 0] = -np.inf
            if exclude_history:
                past = slice(*users.history_indptr[[start, min(start + block, len(users))]])
                scores[owner[past] - start, users.history[past]] = -np.inf
            lists.append(top_items(scores, top_n))
        return np.concatenate(lists)
