# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The low frequencies of a click log: singular vectors of the normalised matrix of clicks.

Letters: U users, V rows of the item table (row 0 is padding), R columns of a product.
"""

from __future__ import annotations

import numpy as np

COLUMNS = 8  # of a product made at a time, so that memory stays a few numbers a click
SPARE = 16  # directions beyond those asked for, which makes these exact sooner


class NormalisedLog:
    """The matrix [U, V] with 1 / sqrt(n_u n_i) where user u clicked item i, n being the clicks of
    each; a repeated click counts once.
    """

    def __init__(self, users, items, item_count):
        _, users = np.unique(users, return_inverse=True)
        pairs = np.unique(users * item_count + items)
        users, self.items = pairs // item_count, pairs % item_count
        self.of_item = np.bincount(self.items, minlength=item_count)
        of_user = np.bincount(users)
        self.values = 1.0 / np.sqrt(of_user[users] * self.of_item[self.items])
        self.user_starts = np.flatnonzero(np.diff(users, prepend=-1))
        self.by_item = np.argsort(self.items, kind="stable")
        self.users_by_item = users[self.by_item]
        self.item_starts = np.flatnonzero(np.diff(self.items[self.by_item], prepend=-1))

    def times(self, x):
        """The product [U, R] with ``x`` [V, R]."""
        return self._sums(x, self.items, self.values, self.user_starts)

    def transposed_times(self, y):
        """The product [V, R] of the transposed matrix with ``y`` [U, R]."""
        sums = self._sums(y, self.users_by_item, self.values[self.by_item], self.item_starts)
        whole = np.zeros((len(self.of_item), y.shape[1]))
        whole[self.of_item > 0] = sums
        return whole

    @staticmethod
    def _sums(x, rows, values, starts):
        parts = [
            np.add.reduceat(x[rows, first : first + COLUMNS] * values[:, None], starts)
            for first in range(0, x.shape[1], COLUMNS)
        ]
        return np.concatenate(parts, axis=1)


def singular_vectors(log, rank, rounds=10, seed=0):
    """The right singular vectors [V, rank] of ``log`` with the largest singular values.

    By subspace iteration from a random start (Halko, Martinsson and Tropp, 2011); columns beyond
    the matrix' own rank are 0.
    """
    width = min(rank + SPARE, len(log.of_item))
    basis = np.random.default_rng(seed).normal(size=(len(log.of_item), width))
    for _ in range(rounds):
        basis, _ = np.linalg.qr(log.transposed_times(log.times(basis)))
    images = log.times(basis)
    squared, directions = np.linalg.eigh(images.T @ images)  # rising
    ordered = (basis @ directions)[:, ::-1] * (squared[::-1] > 1e-9)
    vectors = np.zeros((len(basis), rank))
    vectors[:, : min(rank, width)] = ordered[:, :rank]
    return vectors
