# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The largest singular vectors of a sparse matrix."""

from __future__ import annotations

import numpy as np

SPARE = 16  # directions beyond those asked for, which makes these exact sooner


def low_rank(matrix, rank, rounds=6, seed=0):
    """Two factors [n, rank] and [m, rank] whose product is near ``matrix`` [n, m], sparse.

    Each is its singular vectors times the roots of the singular values, the largest first; columns
    beyond the matrix' own rank are 0. By subspace iteration from a random start (Halko, Martinsson
    and Tropp, 2011).
    """
    width = min(rank + SPARE, *matrix.shape)
    start = np.random.default_rng(seed).normal(size=(matrix.shape[1], width))
    basis, _ = np.linalg.qr(matrix @ start.astype(matrix.dtype))
    for _ in range(rounds):
        basis, _ = np.linalg.qr(matrix.T @ basis)
        basis, _ = np.linalg.qr(matrix @ basis)
    left, values, right = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    roots = np.sqrt(values * (values > 1e-6 * values[0]))[:rank]
    factors = []
    for vectors in (basis @ left, right.T):
        factor = np.zeros((len(vectors), rank), matrix.dtype)
        factor[:, : len(roots)] = vectors[:, :rank] * roots
        factors.append(factor)
    return factors
