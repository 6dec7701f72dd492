# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The service itself, without HTTP: a deployment, its users, and answers by both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from paddlerec_milvus.errors import RetrievalError, UserError
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.serving.batching import CandidatesReply, PendingRequest, RequestBatcher
from paddlerec_milvus.serving.candidates import (
    answer_by_popularity,
    by_popularity,
    json_of,
    searched_hits,
)
from paddlerec_milvus.serving.deployment import Deployment, ServedVersion
from paddlerec_milvus.serving.fair_queue import NOBODY, Caller
from paddlerec_milvus.serving.health import AWAY
from paddlerec_milvus.serving.histories import HistoryService
from paddlerec_milvus.serving.index_probe import IndexProbe
from paddlerec_milvus.serving.item_freshness import ItemFreshness
from paddlerec_milvus.serving.model_cache import ServingModel
from paddlerec_milvus.serving.observability import Metrics
from paddlerec_milvus.serving.schemas import CandidatesRequest, Source
from paddlerec_milvus.serving.settings import ServiceSettings, without_secrets
from paddlerec_milvus.serving.validation import UserBatch, parse, user_batch

logger = logging.getLogger(__name__)

SMALL_BODY = 65_536  # bytes; to parse these takes less than a millisecond
SMALL_HISTORIES = 4_096  # ids in a request; to sort these out takes about a millisecond
SMALL_LISTS = 2_048  # popular items in an answer; so do these, and need not wait for larger ones
CALLS = 8  # to Milvus under way at a time, beside searches
HIDDEN_SECONDS = 0.1  # at most, to ask whether popular items are deleted
LEAST_PAUSE = 0.1  # seconds between two probes of Milvus


T = TypeVar("T")


class CandidateService:
    """Candidates by what ``deployment`` serves, for users of a request or of ``users``."""

    def __init__(
        self,
        settings: ServiceSettings,
        metrics: Metrics,
        deployment: Deployment,
        users: HistoryService,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.deployment, self.health = deployment, deployment.health
        self.users = users
        self._searches = ThreadPoolExecutor(settings.threads, "search")
        # pools of their own: no call that waits for Milvus may keep a fallback or a probe waiting
        self._lists = ThreadPoolExecutor(settings.threads, "lists")
        self._probes = ThreadPoolExecutor(1, "probe")
        self._calls = ThreadPoolExecutor(CALLS, "milvus")
        self._lookups = ThreadPoolExecutor(settings.threads, "lookups")
        self._batcher = RequestBatcher(self._searches, settings.threads)
        self._suspicion = asyncio.Event()
        self.index_probe = IndexProbe(settings, metrics.probes)
        self.freshness = ItemFreshness(metrics.probes, self._calls)
        deployment.start()
        self.refresh()

    @property
    def current(self) -> ServedVersion | None:
        """What answers now; None: popular items do."""
        return self.deployment.served if self.health.state.ready else None

    @property
    def model(self) -> ServingModel:
        """The model that answers, or would if Milvus did."""
        return self.deployment.model

    async def watch(self) -> None:
        """Refresh every ``check_seconds``, and as soon as a request has failed."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._suspicion.wait(), self.settings.check_seconds)
            self._suspicion.clear()
            await asyncio.get_running_loop().run_in_executor(self._probes, self.refresh)
            await asyncio.sleep(LEAST_PAUSE)

    def refresh(self) -> None:
        """Ask Milvus what serves, and follow it."""
        try:
            self.deployment.refresh()
            are_up = math.nan  # not asked
            if self.health.state != AWAY:
                self.users.prepare(self.model)
                are_up = float(self.users.are_up)
            self.metrics.probes.histories.set(are_up)
        except Exception:
            logger.exception("the look at Milvus failed")

    async def candidates(
        self, body: bytes, *, as_text: bool = False, caller: Caller = NOBODY
    ) -> CandidatesReply:
        """The answer to a request's ``body``; InvalidRequestError says what is wrong with it.

        ``as_text``: ids are strings, in the answer, too.
        """
        served = self.current
        kind = "string" if as_text else (served.model if served else self.model).ids.kind
        if len(body) <= SMALL_BODY:
            request = parse(body, self.settings, kind)
        else:
            request = await self.aside(lambda: parse(body, self.settings, kind))
        return await self.candidates_of(request, served=served, as_text=as_text, caller=caller)

    async def candidates_of(
        self,
        request: CandidatesRequest[Any],
        interests: FloatArray | None = None,
        served: ServedVersion | None = None,
        began: float | None = None,
        popular_source: Source | None = None,
        *,
        as_text: bool = False,
        caller: Caller = NOBODY,
    ) -> CandidatesReply:
        """The answer to a checked request, by the model within its deadline.

        That is counted from ``began`` (of time.monotonic), by default now. ``interests`` [B, K, D]
        are known already, as those of ``served``. Where popular items answer, they are said to come
        from ``popular_source`` if there is one.
        """
        wanted = len(request.hist_item) * searched_hits(request)
        end = (time.monotonic() if began is None else began) + self.settings.deadline(wanted)
        served = served or self.current
        model = served.model if served else self.model
        batch = await self.user_batch(request, served, end, as_text=as_text)
        reply = await self.by_model(served, batch, interests, end, caller)
        if reply is None:
            popular = partial(_popular_reply, batch, model, popular_source)
            few = wanted <= SMALL_LISTS and is_small(request) and request.filter is None
            reply = popular() if few else await self.aside(popular)
        self.count(reply.sources, reply.stages)
        return reply

    def count(self, sources: Sequence[str], stages: Mapping[str, float]) -> None:
        """Add an answer to the metrics: its users by source, its seconds by stage."""
        for source, users in Counter(sources).items():
            self.metrics.users.labels(source).inc(users)
        for stage, seconds in stages.items():
            self.metrics.stage_seconds.labels(stage).observe(seconds)

    async def user_batch(
        self,
        request: CandidatesRequest[Any],
        served: ServedVersion | None,
        end: float,
        *,
        as_text: bool = False,
        top_k: int | None = None,
    ) -> UserBatch:
        """The users of ``request`` as arrays for ``served``, with items that were added since.

        ``top_k`` items are shown to each, by default the request's.
        """
        model = served.model if served else self.model
        least = self.settings.least_history
        arrays = partial(
            user_batch,
            *(request, model.tower.maxlen, model.catalogue, model.ids, least),
            as_text=as_text,
        )
        small = is_small(request)
        batch = arrays() if small else await self.aside(arrays)
        if batch.unresolved and served is not None:
            await self._resolve(partial(model.ids.resolve, batch.unresolved), end)
            batch = arrays() if small else await self.aside(arrays)
        if served is not None:
            if len(batch.rows):
                batch = batch._replace(categories=await self._categories(model, request, end))
            if model.hidden.can_tell and len(batch.rows) < len(batch.exclude):
                soon = min(end, time.monotonic() + 2 * HIDDEN_SECONDS)
                check = partial(_check_popular, batch, model, top_k or request.top_k)
                await self._resolve(check, soon)
        return batch._replace(hidden=model.hidden.known)

    async def _categories(
        self, model: ServingModel, request: CandidatesRequest[Any], end: float
    ) -> tuple[str, ...] | None:
        """Those of the request's filter that stored items have; None: it has no filter."""
        if request.filter is None:
            return None
        names, strong = request.filter.category, request.consistency == "Strong"
        if model.categories.are_unresolved(names, strong=strong):
            await self._resolve(partial(model.categories.resolve, strong=strong), end)
        return model.categories.stored(names)

    async def _resolve(self, resolve: Callable[[], None], end: float) -> None:
        """Find out what items were added to the model's, by half of the time that is left."""
        resolving = asyncio.get_running_loop().run_in_executor(self._lookups, resolve)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(resolving, (end - time.monotonic()) / 2)

    async def by_model(
        self,
        served: ServedVersion | None,
        batch: UserBatch,
        interests: FloatArray | None,
        end: float,
        caller: Caller,
        *,
        as_json: bool = True,
    ) -> CandidatesReply | None:
        """The model's answer; None, counted and logged, if there is none until ``end``.

        None, too, where no user of ``batch`` has clicks enough. OverloadError: too much waits.
        """
        if not len(batch.rows):
            return None
        if served is None:
            self.metrics.fallbacks.labels("not_ready").inc()
            return None
        pending = self._batcher.add(served, batch, interests, caller, as_json=as_json)
        try:
            reply = await _before(pending.reply, end - time.monotonic())
        except asyncio.TimeoutError:
            self._fall_back("deadline", "no candidates before the deadline")
            if self._was_searched_long(pending):
                self._suspect(pending)
        except UserError as error:
            self._fall_back("failure", without_secrets(error, self.settings.model))
            self._suspect(pending)
        except Exception:  # whatever a model folder raises: the caller gets popular items
            logger.exception("candidates failed")
            self._fall_back("failure", "candidates failed")
            self._suspect(pending)
        else:
            self.health.failures = 0
            if reply.searched is not None:
                self.index_probe.remember(served, reply.searched.interests)
            return reply
        return None

    async def within(self, work: Callable[[], T]) -> T:
        """The result of ``work``, a call to Milvus; RetrievalError after the deadline."""
        seconds = self.settings.timeout
        calling = asyncio.get_running_loop().run_in_executor(self._calls, work)
        try:
            return await asyncio.wait_for(calling, seconds)
        except asyncio.TimeoutError:
            raise RetrievalError(f"Milvus did not answer within {seconds:g} s; try again") from None

    async def aside(self, work: Callable[[], T]) -> T:
        """The result of ``work``, which takes a while and asks nobody, done in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._lists, work)

    def _fall_back(self, reason: str, message: str) -> None:
        self.metrics.fallbacks.labels(reason).inc()
        logger.warning(message)

    def _was_searched_long(self, pending: PendingRequest) -> bool:
        """Whether it was Milvus that let a request wait, and not those before it."""
        seconds = 0.0 if pending.began is None else time.monotonic() - pending.began
        return pending.is_plain and seconds >= self.settings.timeout / 2

    def _suspect(self, pending: PendingRequest) -> None:
        """Look at Milvus; a request of an unusual kind says nothing against it by itself."""
        if pending.is_plain:
            self.health.record_failure()
        self._suspicion.set()

    def close(self) -> None:
        """End the threads, once they have finished what they do, and the connections."""
        self.index_probe.close()
        for pool in (self._searches, self._lists, self._probes, self._calls, self._lookups):
            pool.shutdown(cancel_futures=True)
        self.users.close()
        self.deployment.close()


async def _before(reply: asyncio.Future[T], seconds: float) -> T:
    """``reply``, which fails by asyncio.TimeoutError if it does not come within ``seconds``.

    It costs less than ``asyncio.wait_for``, which goes round the loop twice more.
    """

    def give_up() -> None:
        if not reply.done():
            reply.set_exception(asyncio.TimeoutError())

    timer = asyncio.get_running_loop().call_later(seconds, give_up)
    try:
        return await reply
    finally:
        timer.cancel()


def is_small(request: CandidatesRequest[Any]) -> bool:
    """Whether to sort the ids of ``request`` out takes no longer than to hand it to a thread."""
    return len(request.exclude) + sum(map(len, request.hist_item)) <= SMALL_HISTORIES


def _check_popular(batch: UserBatch, model: ServingModel, top_k: int) -> None:
    """Find out which items that popular lists of ``batch`` would show are deleted."""
    for_the_model = set(batch.rows.tolist())
    others = {id(one): one for row, one in enumerate(batch.exclude) if row not in for_the_model}
    model.hidden.check_popular(
        top_k,
        list(others.values()),
        by_popularity(batch, model.catalogue),
        batch.request.consistency or "Bounded",
    )


def _popular_reply(batch: UserBatch, model: ServingModel, source: Source | None) -> CandidatesReply:
    answer = answer_by_popularity(batch, model.catalogue, source)
    return CandidatesReply(json_of(answer, len(answer.source)), answer.source, {})
