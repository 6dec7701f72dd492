# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The log of lists that users were shown: JSON lines, written by a thread of its own.

Nothing that goes wrong here reaches an answer: it is counted, and said once in the service's log.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import secrets
import threading
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from queue import SimpleQueue

from paddlerec_milvus.data.shown_lists import SUFFIX, ShownList
from paddlerec_milvus.serving.observability import Metrics

logger = logging.getLogger(__name__)

MOST_WAITING = 500_000  # items of lists that wait to be written; a list more is dropped
LIST_ITEMS = 10  # a list by itself takes the memory of so many
MOST_BYTES = 64 << 20  # of a file; then there is a new one
LONGEST_END = 5.0  # seconds that the end of the service waits for what is not written yet


class ShownLog:
    """Files in ``folder``: a new one each UTC day, each ``MOST_BYTES``, and in each process."""

    def __init__(self, folder: Path, metrics: Metrics) -> None:
        self._folder, self._metrics = folder, metrics
        self._queue = SimpleQueue[tuple[Sequence[ShownList], int] | None]()
        self._waiting, self._lock = 0, threading.Lock()
        self._file: io.FileIO | None = None
        self._day, self._size = "", 0
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="shown-log", daemon=True)
        self._thread.start()

    def add(self, lists: Sequence[ShownList]) -> None:
        """Write ``lists``; returns at once.

        Where too much waits already they are dropped and counted.
        """
        size = sum(map(_size, lists))
        with self._lock:
            fits = self._waiting + size <= MOST_WAITING
            self._waiting += size if fits else 0
        if fits:
            self._queue.put((lists, size))
        else:
            self._metrics.shown.labels("dropped").inc(len(lists))

    def close(self) -> None:
        """Write what waits, for some seconds at most, and close the file."""
        self._queue.put(None)
        self._thread.join(LONGEST_END)

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            lists, size = entry
            try:
                lines = [one.model_dump_json().encode() + b"\n" for one in lists]
                self._write(b"".join(lines))
            except Exception as error:
                self._metrics.shown.labels("failed").inc(len(lists))
                self._say(error)
            else:
                self._metrics.shown.labels("written").inc(len(lists))
                self._say(None)
            with self._lock:
                self._waiting -= size
        self._close()

    def _write(self, lines: bytes) -> None:
        """Whole lines or none; OSError: the disk does not take them."""
        day = f"{datetime.now(timezone.utc):%Y%m%d}"
        is_full = self._size > 0 and self._size + len(lines) > MOST_BYTES
        if self._file is None or day != self._day or is_full:
            self._close()
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"shown-{day}-{secrets.token_hex(4)}{SUFFIX}"
            self._file, self._day, self._size = (self._folder / name).open("xb", 0), day, 0
        try:
            if self._file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            try:
                self._file.truncate(self._size)
                self._file.seek(self._size)
            except OSError:
                self._close()
            raise
        self._size += len(lines)

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None

    def _say(self, error: Exception | None) -> None:
        """Log the first failure, and the first success after it."""
        if error is not None and not self._is_failing:
            logger.error(
                "SERVING_SHOWN_LOG %s: lists cannot be logged, answers go on: %s",
                *(self._folder, error),
                exc_info=None if isinstance(error, OSError) else error,
            )
        elif error is None and self._is_failing:
            logger.info("SERVING_SHOWN_LOG %s: lists are logged again", self._folder)
        self._is_failing = error is not None


def _size(one: ShownList) -> int:
    """The items of ``one`` and of its shadow, and what both lists themselves count as."""
    shadow = 0 if one.shadow is None else LIST_ITEMS + len(one.shadow.items)
    return LIST_ITEMS + len(one.items) + shadow
