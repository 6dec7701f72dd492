# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A process that writes while others search."""

from __future__ import annotations

import multiprocessing
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from typing import Any

from paddlerec_milvus.bench.measure_build import Target
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.base import FloatArray, IntArray

UPSERTS_A_SECOND = 10  # calls; each with a tenth of the rate
FIRST_SECONDS = 60.0  # for the first rows to be written
LAST_SECONDS = 60.0  # for the last call to be answered
POLL_SECONDS = 0.01


class Writer:
    """A process that upserts rows at a steady rate while this is open; a context manager.

    RetrievalError, on entering and from :meth:`rate`: it ended, or wrote nothing in a minute. What
    was measured beside it is then no search while rows are written.
    """

    def __init__(self, target: Target, workload: Workload, rate: int) -> None:
        context = multiprocessing.get_context("spawn")
        # neither has a lock that a killed process could hold
        self._written = context.Value("q", 0, lock=False)
        self._pipe, self._there = context.Pipe()
        size = max(1, rate // UPSERTS_A_SECOND)
        rows = (workload.vectors[: 50 * size], workload.ids[: 50 * size])
        self._process = context.Process(
            target=_write, args=(target, *rows, size, self._there, self._written), daemon=True
        )
        self._began, self._first = 0.0, 0

    def __enter__(self) -> Writer:
        self._process.start()
        self._there.close()
        try:
            end = time.monotonic() + FIRST_SECONDS
            while not self._written.value:
                self._check()
                if time.monotonic() > end:
                    raise RetrievalError(
                        f"upserts: no row was written in {FIRST_SECONDS:g} s, so there is nothing "
                        "to search beside: see the server's log"
                    )
                time.sleep(POLL_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        self._began, self._first = time.monotonic(), self._written.value
        return self

    def __exit__(self, *problem: object) -> None:
        self._pipe.close()
        self._process.join(LAST_SECONDS)
        self._process.kill()

    def rate(self) -> float:
        """Rows a second so far."""
        self._check()
        written = self._written.value - self._first
        if not written:
            raise RetrievalError("upserts: no row was written while users searched")
        return float(written) / (time.monotonic() - self._began)

    def _check(self) -> None:
        if self._process.is_alive():
            return
        try:
            reason = self._pipe.recv() if self._pipe.poll() else ""
        except (EOFError, OSError):
            reason = ""
        reason = reason or f"exit code {self._process.exitcode}"
        raise RetrievalError(f"upserts: the process that writes ended early: {reason}")


def _write(
    target: Target, vectors: FloatArray, ids: IntArray, size: int, pipe: Pipe, written: Any
) -> None:
    """Upsert ``size`` rows ten times a second until ``pipe`` closes; why not goes into it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with target.connect() as retriever:
            retriever.open()
            began, number = time.monotonic(), 0
            while not pipe.poll(max(0.0, began + number / UPSERTS_A_SECOND - time.monotonic())):
                part = slice(number * size % len(ids), number * size % len(ids) + size)
                written.value += retriever.upsert(vectors[part], ids[part])
                number += 1
    except RetrievalError as error:
        with suppress(OSError):  # nobody listens any more
            pipe.send(str(error))
