# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A few rows that stand for all, the same ones each time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def evenly_spread(count: int, at_most: int) -> npt.NDArray[np.int64]:
    """At most ``at_most`` of the row numbers 0 … ``count`` - 1, evenly spread, both ends among."""
    return np.unique(np.linspace(0, count - 1, min(count, at_most)).astype(np.int64))
