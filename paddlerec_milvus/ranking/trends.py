# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which items are new or rise, of a log that was split by time: as of the end of its train clicks.

:mod:`paddlerec_milvus.data.item_times` says what that moment is, and why no list to learn from, no
test list and no served one knows of a later click.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.item_times import ItemTimes

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

SMOOTHING = 5.0  # clicks added to both: 3 after 0 is no trend, 300 after 100 is one


class Trends(NamedTuple):
    """Of V items; row 0 is padding."""

    age: FloatArray
    """[V], days since the first click; nan: never clicked."""
    trend: FloatArray
    """[V], log of the clicks of the last window to those of the one before; nan: never clicked."""
    rising: IntArray
    """Items of a trend above 0, the largest first."""
    new: IntArray
    """Items first clicked within the last window, the most clicked first."""

    @classmethod
    def of(cls, times: ItemTimes) -> Trends:
        """From when the items were clicked. Equal ones are in the order of their ids."""
        known = ~np.isnan(times.age)
        ratio = np.log((times.last + SMOOTHING) / (times.before + SMOOTHING))
        rising = np.argsort(-ratio, kind="stable")
        new = np.argsort(-times.last, kind="stable")
        before = times.earlier + times.before
        return cls(
            times.age,
            np.where(known, ratio, np.nan).astype(np.float32),
            rising[ratio[rising] > 0],
            new[(before[new] == 0) & (times.last[new] > 0)],
        )
