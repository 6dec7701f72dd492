# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A few rows that stand for all, the same ones each time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SAMPLED = 64


def evenly_spread(count: int, at_most: int) -> npt.NDArray[np.int64]:
    """At most ``at_most`` of the row numbers 0 … ``count`` - 1, evenly spread, both ends among."""
    return np.unique(np.linspace(0, count - 1, min(count, at_most)).astype(np.int64))


def one_click_histories(
    items: int, maxlen: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Histories [n, maxlen] of users with one click each, on some of ``items`` items, and their
    lengths [n].
    """
    clicks = 1 + evenly_spread(items, SAMPLED)
    histories = np.zeros((len(clicks), maxlen), np.int64)
    histories[:, 0] = clicks
    return histories, np.ones(len(clicks), np.int64)


def have_unit_length(vectors: npt.NDArray[np.float32]) -> bool:
    """Whether some of ``vectors`` [items + 1, D], row 0 left out, have length 1."""
    some = vectors[1 + evenly_spread(len(vectors) - 1, SAMPLED)]
    return bool(np.allclose(np.linalg.norm(some, axis=1), 1, atol=1e-3))
