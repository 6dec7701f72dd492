# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the graph of all clicks says of every item: the low-pass filter of GF-CF.

Source: Shen et al., CIKM 2021. A pair table knows the few items that were clicked with another; the
filter says a little of all.
Letters: V items (row 0 is padding), R frequencies, n candidates, L clicks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # a service looks up alone, and needs no scipy
    from scipy import sparse

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

FREQUENCIES = 128  # a quarter of all at most: all of them filter nothing


class GraphFilter(NamedTuple):
    """Items in the lowest frequencies of the graph; of an item without clicks all is 0."""

    vectors: FloatArray
    """[V, R], right singular vectors of the normalised clicks."""
    values: FloatArray
    """[R], their singular values, falling."""
    lengths: FloatArray
    """[V], of the rows of ``vectors * values``; 1 where that is 0."""

    @classmethod
    def of(cls, users: sparse.csr_matrix) -> GraphFilter:
        """Of ``users`` [U, V], 1 where a user clicked an item."""
        from paddlerec_milvus.data.click_graph import low_frequencies, normalised

        rank = max(1, min(FREQUENCIES, min(users.shape) // 4))
        values, vectors = low_frequencies(normalised(users), rank)
        lengths = np.linalg.norm(vectors * values, axis=1)
        lengths[lengths == 0] = 1
        # rows one after the other: they are taken by item
        return cls(*(array.astype(np.float32, order="C") for array in (vectors, values, lengths)))

    def features(
        self, items: IntArray, history: IntArray, weights: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Each [n] for ``items`` [n]: the filtered clicks, the mean and the largest cosine.

        ``history`` are clicks [L], ``weights`` [L] what one adds to the user that is filtered; of
        this score the root is taken, its sign kept, since few are large. Cosines are those of the
        rows of ``vectors * values``.
        """
        clicked = self.vectors[history]
        user = weights @ clicked
        near = clicked * (self.values**2 / self.lengths[history, None])
        # one product of matrices: of a vector it would depend on where the memory begins
        products = np.concatenate([user[None], near]) @ self.vectors.take(items, axis=0).T
        score, cosines, lengths = products[0], products[1:], self.lengths.take(items)
        root = np.copysign(np.sqrt(np.abs(score)), score)
        return root, cosines.mean(axis=0) / lengths, cosines.max(axis=0) / lengths
