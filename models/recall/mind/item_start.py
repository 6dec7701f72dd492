# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Vectors for tables of items to start from: what was clicked near what in the training log.

Letters: n clicks, V rows of the item table (row 0 is padding), D or S dimensions.
"""

from __future__ import annotations

import numpy as np
from low_rank import low_rank
from scipy import sparse

WINDOW = 10  # clicks apart
LENGTH = 0.3  # of a vector at the start: large beside a step of Adam, and soon turned even so
ROUNDS, NEIGHBOURS, BLOCK = 40, 16, 4_096  # of nearly_orthogonal


def transition_counts(users, items, item_count):
    """[V, V] float32: how often an item (column) was clicked after another (row), by one user.

    ``users``, ``items`` [n] are clicks by user, then time. A pair that lies d clicks apart, up to
    ``WINDOW``, counts 1 / d.
    """
    counts = sparse.csr_matrix((item_count, item_count), dtype=np.float32)
    for distance in range(1, min(WINDOW, len(items) - 1) + 1):
        before, after = items[:-distance], items[distance:]
        pairs = (users[:-distance] == users[distance:]) & (before != after)
        weights = np.full(int(pairs.sum()), 1 / distance, dtype=np.float32)
        counts += sparse.csr_matrix((weights, (before[pairs], after[pairs])), shape=counts.shape)
    return counts


def neighbour_vectors(counts, dim):
    """[V, D]: items that come near each other, in either order, point the same way."""
    vectors, _ = low_rank(_normalised(counts + counts.T), dim)
    return vectors


def transition_vectors(counts, dim):
    """Two tables [V, D]: of items as what comes before, and as what comes after. The products of
    the first with the second are near ``counts``, normalised.
    """
    return low_rank(_normalised(counts), dim)


def nearly_orthogonal(counts, start, seed=0):
    """``start`` [V, S] at length 1, turned until items that come near each other, in either order,
    are as close to orthogonal as S directions allow.

    Each round turns every vector away from some of its neighbours, drawn by ``counts``: a step down
    the mean squared product, of the size that one neighbour alone would need.
    """
    rng = np.random.default_rng(seed)
    near = (counts + counts.T).tocsr()
    ends = np.append(0.0, np.cumsum(near.data, dtype=np.float64))
    low, high = ends[near.indptr[:-1]], ends[near.indptr[1:]]
    vectors = start / np.maximum(np.linalg.norm(start, axis=1, keepdims=True), 1e-12)
    clicked = np.flatnonzero(high > low)
    for _ in range(ROUNDS):
        for first in range(0, len(clicked), BLOCK):
            rows = clicked[first : first + BLOCK]
            drawn = low[rows, None] + rng.random((len(rows), NEIGHBOURS)) * (high - low)[rows, None]
            places = np.minimum(np.searchsorted(ends, drawn, side="right") - 1, near.nnz - 1)
            others = vectors[near.indices[places]]  # [BLOCK, NEIGHBOURS, S]
            products = others @ vectors[rows, :, None]
            turned = vectors[rows] - (others * products).mean(axis=1)
            vectors[rows] = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return vectors


def fill(weight, vectors):
    """Put ``vectors`` [V, D], at length ``LENGTH``, into a table; rows of zeros are left out."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = vectors * (LENGTH / np.maximum(lengths, 1e-12))
    weight.set_value(np.where(lengths > 1e-6, scaled, weight.numpy()).astype(np.float32))


def _normalised(counts):
    """``counts`` over the roots of the sums of their rows and columns."""
    rows, columns = (np.asarray(counts.sum(axis)).reshape(-1) for axis in (1, 0))
    left, right = (
        sparse.diags(np.where(sums > 0, 1 / np.sqrt(np.maximum(sums, 1e-12)), 0.0))
        for sums in (rows, columns)
    )
    return (left @ counts @ right).tocsr().astype(np.float32)
