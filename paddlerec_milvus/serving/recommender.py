# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The service itself, without HTTP: a model, its vectors in Milvus, and answers by both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.errors import RetrievalError, UserError
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.serving.batching import Answered, Together, load_of, too_much
from paddlerec_milvus.serving.candidates import answer
from paddlerec_milvus.serving.deployment import AWAY, Generation, Generations, Model
from paddlerec_milvus.serving.item_index import without_secrets
from paddlerec_milvus.serving.metrics import Metrics
from paddlerec_milvus.serving.schemas import CandidatesRequest
from paddlerec_milvus.serving.settings import ServiceSettings
from paddlerec_milvus.serving.user_batch import Asked, asked_by
from paddlerec_milvus.serving.user_states import Users
from paddlerec_milvus.serving.validation import parse

logger = logging.getLogger(__name__)

SMALL_BODY = 65_536  # bytes; to parse these takes less than a millisecond
SMALL_HISTORIES = 8_192  # ids in a request; to sort these out takes about a millisecond
CALLS = 8  # to Milvus under way at a time, beside searches
LEAST_PAUSE = 0.1  # seconds between two looks at Milvus


T = TypeVar("T")


class Service:
    """Candidates by the model whose vectors lie in Milvus. UserError: no checkpoint that fits."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.generations = Generations(settings, metrics)
        self._searches = ThreadPoolExecutor(settings.threads, "search")
        # pools of their own: no call that waits for Milvus may keep a fallback or a look waiting
        self._lists = ThreadPoolExecutor(settings.threads, "lists")
        self._looks = ThreadPoolExecutor(1, "look")
        self._calls = ThreadPoolExecutor(CALLS, "milvus")
        self._together = Together(self._searches, settings.threads)
        self._doubt = asyncio.Event()
        self.users = Users(settings)
        self.generations.start()
        self.look()

    @property
    def current(self) -> Generation | None:
        """What answers now; None: popular items do."""
        return self.generations.current

    @property
    def model(self) -> Model:
        """The model that answers, or would if Milvus did."""
        return self.generations.model

    async def watch(self) -> None:
        """Look at Milvus every ``check_seconds``, and as soon as a request has failed."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._doubt.wait(), self.settings.check_seconds)
            self._doubt.clear()
            await asyncio.get_running_loop().run_in_executor(self._looks, self.look)
            await asyncio.sleep(LEAST_PAUSE)

    def look(self) -> None:
        """Ask Milvus what serves, and follow it."""
        try:
            self.generations.look()
            if self.generations.state != AWAY:
                self.users.prepare(self.model)
        except Exception:
            logger.exception("the look at Milvus failed")

    async def candidates(self, body: bytes) -> Answered:
        """The answer to a request's ``body``; InvalidRequestError says what is wrong with it."""
        if len(body) <= SMALL_BODY:
            return await self.candidates_of(parse(body, self.settings))
        request = await self._aside(lambda: parse(body, self.settings))
        return await self.candidates_of(request)

    async def candidates_of(
        self,
        request: CandidatesRequest,
        interests: FloatArray | None = None,
        generation: Generation | None = None,
        end: float | None = None,
    ) -> Answered:
        """The answer to a checked request, by the model until ``end`` (of time.monotonic).

        ``interests`` [B, K, D] are known already, as those of ``generation``.
        """
        end = time.monotonic() + self.settings.timeout if end is None else end
        generation = generation or self.current
        model = generation.model if generation else self.model
        least = self.settings.least_history
        asking = partial(asked_by, request, model.tower.maxlen, model.catalogue, least)
        small = len(request.exclude) + sum(map(len, request.hist_item)) <= SMALL_HISTORIES
        asked = asking() if small else await self._aside(asking)
        answered = None
        if len(asked.rows):
            answered = await self._by_model(generation, asked, interests, end)
        if answered is None:
            answered = await self._aside(lambda: popular(asked, model.catalogue))
        for source, users in Counter(answered.sources).items():
            self.metrics.users.labels(source).inc(users)
        for stage, seconds in answered.stages.items():
            self.metrics.stage_seconds.labels(stage).observe(seconds)
        return answered

    async def _by_model(
        self,
        generation: Generation | None,
        asked: Asked,
        interests: FloatArray | None,
        end: float,
    ) -> Answered | None:
        """The model's answer; None, counted and logged, if there is none until ``end``."""
        if generation is None:
            self.metrics.fallbacks.labels("not_ready").inc()
            return None
        try:
            answered = await asyncio.wait_for(
                self._together.answer(generation, asked, asked.rows, interests),
                end - time.monotonic(),
            )
        except asyncio.TimeoutError:
            heavy = too_much(*load_of(asked, asked.rows))  # says nothing of Milvus
            self._fall_back("deadline", "no candidates before the deadline", doubt=not heavy)
        except UserError as error:
            self._fall_back("failure", without_secrets(error, self.settings.model))
        except Exception:  # whatever a model folder raises: the caller gets popular items
            logger.exception("candidates failed")
            self._fall_back("failure", "candidates failed")
        else:
            self.generations.succeeded()
            return answered
        return None

    async def within(self, work: Callable[[], T]) -> T:
        """The result of ``work``, a call to Milvus; RetrievalError after the deadline."""
        seconds = self.settings.timeout
        calling = asyncio.get_running_loop().run_in_executor(self._calls, work)
        try:
            return await asyncio.wait_for(calling, seconds)
        except asyncio.TimeoutError:
            raise RetrievalError(f"Milvus did not answer within {seconds:g} s; try again") from None

    async def _aside(self, work: Callable[[], T]) -> T:
        """The result of ``work``, which takes a while and asks nobody, done in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._lists, work)

    def _fall_back(self, reason: str, message: str, *, doubt: bool = True) -> None:
        self.metrics.fallbacks.labels(reason).inc()
        logger.warning(message)
        if doubt:
            self.generations.failed()
            self._doubt.set()

    def close(self) -> None:
        """End the threads, once they have finished what they do, and the connections."""
        for pool in (self._searches, self._lists, self._looks, self._calls):
            pool.shutdown(cancel_futures=True)
        self.users.close()
        self.generations.close()


def popular(asked: Asked, catalogue: Catalogue) -> Answered:
    """Popular items for all."""
    lists = answer(asked, catalogue)
    return Answered(lists.model_dump_json().encode(), lists.source, {})
