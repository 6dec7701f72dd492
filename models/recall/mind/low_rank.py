# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The leading directions of a sparse symmetric matrix."""

from __future__ import annotations

import numpy as np

SPARE = 16  # directions beyond those asked for, which makes these exact sooner


def low_rank(matrix, rank, rounds=6, seed=0):
    """[n, rank]: the eigenvectors of ``matrix`` [n, n], sparse and symmetric, whose eigenvalues are
    the largest in size, times the roots of these sizes; columns beyond the matrix' rank are 0.

    By subspace iteration from a random start (Halko, Martinsson and Tropp, 2011).
    """
    width = min(rank + SPARE, matrix.shape[0])
    start = np.random.default_rng(seed).normal(size=(matrix.shape[0], width))
    basis, _ = np.linalg.qr(matrix @ start.astype(matrix.dtype))
    for _ in range(2 * rounds):
        basis, _ = np.linalg.qr(matrix @ basis)
    left, values, _ = np.linalg.svd((matrix @ basis).T, full_matrices=False)
    roots = np.sqrt(values * (values > 1e-6 * values[0]))[:rank]
    vectors = np.zeros((matrix.shape[0], rank), matrix.dtype)
    vectors[:, : len(roots)] = (basis @ left)[:, :rank] * roots
    return vectors
