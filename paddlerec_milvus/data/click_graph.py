# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The graph of users and items that clicks make, and its low frequencies.

Letters: U users, V items (row 0 is padding), R frequencies.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import svds

FloatArray = npt.NDArray[np.float64]

LEAST = 1e-6  # of a singular value; what is below is rounding


def normalised(users: sparse.csr_matrix) -> sparse.csr_matrix:
    """``users`` [U, V] of ones, each divided by the roots of its user's and its item's clicks."""
    of_user = np.sqrt(np.maximum(np.diff(users.indptr), 1))
    of_item = np.sqrt(np.maximum(np.bincount(users.indices, minlength=users.shape[1]), 1))
    return (sparse.diags(1 / of_user) @ users @ sparse.diags(1 / of_item)).tocsr()


def low_frequencies(graph: sparse.csr_matrix, rank: int) -> tuple[FloatArray, FloatArray]:
    """The largest singular values [R] of ``graph`` [U, V], falling, and their right vectors [V, R].

    At most ``rank``, fewer where the matrix has no more. Items that are clicked alike are near each
    other in them; float64.
    """
    graph = graph.astype(np.float64)
    if min(graph.shape) > 2 * rank:
        start = np.random.default_rng(1).normal(size=min(graph.shape))
        _, values, rows = svds(graph, k=rank, v0=start)
        vectors = rows.T
    else:  # near all there are: the solver above would go on from vectors of chance
        values, vectors = _of_products(graph)
    order = np.argsort(-values, kind="stable")[:rank]
    real = order[values[order] > LEAST]
    return values[real], np.asarray(vectors[:, real])


def _of_products(graph: sparse.csr_matrix) -> tuple[FloatArray, FloatArray]:
    """All singular values and right vectors, by the products of the rows, or of the columns."""
    wide = graph.shape[0] < graph.shape[1]
    products = graph @ graph.T if wide else graph.T @ graph
    squares, vectors = np.linalg.eigh(products.toarray())
    values = np.sqrt(np.maximum(squares, 0))
    return values, graph.T @ vectors / np.maximum(values, LEAST) if wide else vectors
