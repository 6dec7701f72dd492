# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How long an item that was written stays unseen: measured on writes, one at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from paddlerec_milvus.errors import UserError
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.observability import ProbeMetrics

logger = logging.getLogger(__name__)

LONGEST = 60.0  # seconds
PAUSE = 0.5  # between two queries


class ItemFreshness:
    """Asks for what was just written, as fresh as searches are, until it is there."""

    def __init__(self, metrics: ProbeMetrics, pool: Executor) -> None:
        self._metrics, self._pool = metrics, pool
        self._task: asyncio.Task[None] | None = None

    def follow(self, served: ServedVersion, number: int, vector: FloatArray) -> None:
        """Measure on the item ``number``, now ``vector`` [D], unless another is under way.

        Nothing where the retriever of ``served`` does not tell what it holds.
        """
        stored = getattr(served.retriever, "stored_vectors", None)
        if stored is not None and (self._task is None or self._task.done()):

            def holds(level: str) -> bool:
                return np.array_equal(stored([number], level).get(number, []), vector)

            self._task = asyncio.ensure_future(self._measure(holds, time.monotonic()))

    async def _measure(self, holds: Callable[[str], bool], began: float) -> None:
        """``holds`` says whether the item is there, at a consistency."""
        loop = asyncio.get_running_loop()

        async def ask(level: str) -> bool:
            return await loop.run_in_executor(self._pool, holds, level)

        try:
            while not await ask("Bounded"):
                if time.monotonic() - began > LONGEST:
                    if await ask("Strong"):  # else another write came after it
                        self._metrics.item_freshness.set(LONGEST)
                        logger.warning("an item is still unseen %g s after its write", LONGEST)
                    return
                await asyncio.sleep(PAUSE)
            self._metrics.item_freshness.set(time.monotonic() - began)
        except UserError:  # Milvus is away, or the version is not there any more
            return
        except Exception:  # a retriever of another's
            logger.exception("how soon an item is seen was not measured")

    async def close(self) -> None:
        """End a measurement that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
