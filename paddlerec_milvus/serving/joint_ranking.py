# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rankings of several requests, one after the other in one visit to a thread.

A ranking is some hundred short steps in numpy, at each of which two threads that rank at once take
the interpreter from one another. Those that end together also go on together: what they ask Milvus
is one question, and the next requests of their callers are one search.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

from paddlerec_milvus.serving.ranked_lists import RankedByRow

VISIT_SECONDS = 0.05  # after which no further ranking begins: who is ready need not wait for it


class _Ranking(NamedTuple):
    """A request that waits, and its answer to come."""

    rank: Callable[[], RankedByRow]
    answer: asyncio.Future[RankedByRow]


_Work = asyncio.Future[list[RankedByRow | Exception]]


class JointRanking:
    """Ranks in a thread of ``pool``, one visit at a time. For one loop."""

    def __init__(self, pool: Executor) -> None:
        self._pool, self._busy = pool, False
        self._waiting: list[_Ranking] = []

    def add(self, rank: Callable[[], RankedByRow]) -> asyncio.Future[RankedByRow]:
        """What ``rank`` gives or raises; it may not be called where that is cancelled before."""
        loop = asyncio.get_running_loop()
        ranking = _Ranking(rank, loop.create_future())
        self._waiting.append(ranking)
        loop.call_soon(self._start, loop)  # with all that the same search ends
        return ranking.answer

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = [one for one in self._waiting if not one.answer.done()]
        if self._busy or not waiting:
            return
        try:
            work = loop.run_in_executor(self._pool, _ranked, waiting)
        except RuntimeError:  # the service ends
            for one in waiting:
                one.answer.cancel()
            return
        self._busy, self._waiting = True, []
        work.add_done_callback(partial(self._ended, loop, waiting))

    def _ended(self, loop: asyncio.AbstractEventLoop, batch: list[_Ranking], work: _Work) -> None:
        self._busy = False
        if work.cancelled():  # the service ends
            for one in batch + self._waiting:
                one.answer.cancel()
            return
        ranked = work.result()
        for one, result in zip(batch, ranked, strict=False):
            if one.answer.done():
                continue
            if isinstance(result, Exception):
                one.answer.set_exception(result)
            else:
                one.answer.set_result(result)
        self._waiting = batch[len(ranked) :] + self._waiting
        self._start(loop)


def _ranked(batch: list[_Ranking]) -> list[RankedByRow | Exception]:
    """What the first of them, as many as there is time for, give or raise."""
    results: list[RankedByRow | Exception] = []
    end = time.monotonic() + VISIT_SECONDS
    for one in batch:
        if results and time.monotonic() > end:
            break
        try:
            results.append({} if one.answer.done() else one.rank())
        except Exception as error:  # whatever a ranker raises: it is of this request alone
            results.append(error)
    return results
