# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""When to try again what failed: files of another machine may be seen here a while later."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable


class RetryPauses:
    """A pause of ``first`` seconds for each key, doubled each time, ``longest`` at most.

    So what becomes right after a while is noticed after as long again, and what stays wrong costs
    little.
    """

    def __init__(
        self, first: float, longest: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._longest, self._clock = first, longest, clock
        self._pauses: dict[Hashable, tuple[float, float]] = {}  # when it ends, how long it is

    def is_due(self, key: Hashable) -> bool:
        """Whether ``key`` was never postponed, or its pause is over."""
        return key not in self._pauses or self._clock() >= self._pauses[key][0]

    def postpone(self, key: Hashable) -> None:
        """Start the next pause of ``key``."""
        _, before = self._pauses.get(key, (0.0, 0.0))
        pause = min(2 * before or self._first, self._longest)
        self._pauses[key] = self._clock() + pause, pause
