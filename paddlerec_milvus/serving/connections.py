# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Connections that are replaced: closed when no call can use them any more."""

from __future__ import annotations

import time
from typing import Protocol


class Closable(Protocol):
    """Anything that holds a connection."""

    def close(self) -> None:
        """End the connection."""


class RetiredConnections:
    """Connections that calls under way may use for another ``seconds``.

    The caller's lock guards it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._retired: list[tuple[float, Closable]] = []

    def add(self, connection: Closable) -> None:
        """Retire a connection that no new call gets."""
        self._retired.append((time.monotonic(), connection))

    def close_expired(self) -> None:
        """Close those whose last call has reached its deadline."""
        self._close(time.monotonic() - self._seconds)

    def close_all(self) -> None:
        """Close every one, whatever is under way."""
        self._close(time.monotonic())

    def _close(self, before: float) -> None:
        while self._retired and self._retired[0][0] <= before:
            self._retired.pop(0)[1].close()
