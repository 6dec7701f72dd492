# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A log as it came, with its own ids coded: users, items and times, sorted by user and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.data.log import Ints
from paddlerec_milvus.data.log_ids import coded

_INT64_BITS = 63


@dataclass(frozen=True)
class RawLog:
    """Clicks of a source, sorted by user, then time. n clicks, U users, I items.

    ``users`` and ``items`` [n] int64 are rows of ``user_ids`` [U] and ``item_ids`` [I], which are
    sorted and either integers or strings. ``titles`` has the string columns source_id, title and
    category, and perhaps authors and year, for any number of items. ``times`` [n] are the clicks'
    times, None where there is only an order. ``notes`` say how the log was read, for meta.json.
    """

    users: Ints
    items: Ints
    user_ids: pl.Series
    item_ids: pl.Series
    titles: pl.DataFrame | None = None
    times: npt.NDArray[np.generic] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


def raw_log(users: pl.Series, items: pl.Series, times: npt.NDArray[np.generic]) -> RawLog:
    """Code ids [n] by their sorted order and sort clicks by user, then time (stable)."""
    return sorted_log(coded(users), coded(items), times)


def sorted_log(
    users: tuple[pl.Series, Ints],
    items: tuple[pl.Series, Ints],
    times: npt.NDArray[np.generic] | None,
) -> RawLog:
    """Sort clicks by user, then time, keeping their order on ties.

    ``users`` and ``items`` are distinct ids and the row among them of each click [n]; ``times`` [n]
    None leaves the clicks of a user in their order.
    """
    order = _order(users[1], times)
    if order is None:
        return RawLog(users[1], items[1], users[0], items[0], times=times)
    sorted_times = None if times is None else times[order]
    return RawLog(users[1][order], items[1][order], users[0], items[0], times=sorted_times)


def _order(users: Ints, times: npt.NDArray[np.generic] | None) -> Ints | None:
    """The stable order [n] by user, then time; None where they are in it."""
    if not len(users):
        return None
    if times is None:
        keys = users
    elif times.dtype != np.int64:
        return np.lexsort((times, users))
    else:
        low, high = int(times.min()), int(times.max())
        if int(users.max() + 1) * (high - low + 1) >= 1 << _INT64_BITS:
            return np.lexsort((times, users))
        # one key to sort by: a third of the time and half of the memory of two
        keys = users * (high - low + 1)
        keys += times.view(np.int64)
        keys -= low
    if bool(np.all(keys[1:] >= keys[:-1])):
        return None
    return np.argsort(keys, kind="stable")
