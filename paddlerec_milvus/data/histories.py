# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Histories as a user tower takes them: the last clicks, padded with 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paddlerec_milvus.errors import SettingsError

IntArray = NDArray[np.int64]


def pad_histories(
    histories: Sequence[Sequence[int] | IntArray], maxlen: int
) -> tuple[IntArray, IntArray]:
    """The last ``maxlen`` clicks of each of B histories, oldest first.

    Returns:
        [B, maxlen] int64, padded with 0 on the right, and lengths [B] int64.

    Raises:
        SettingsError: ``maxlen`` is below 1.
    """
    if maxlen < 1:
        raise SettingsError(f"maxlen is {maxlen}; expected 1 or more")
    padded = np.zeros((len(histories), maxlen), np.int64)
    lengths = np.array([min(len(history), maxlen) for history in histories], np.int64)
    for row, history in enumerate(histories):
        padded[row, : lengths[row]] = history[-maxlen:]
    return padded, lengths
