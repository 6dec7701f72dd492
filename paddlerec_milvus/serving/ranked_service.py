# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Recommendations: candidates of the service, ranked within a deadline of their own."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

from paddlerec_milvus.errors import UserError
from paddlerec_milvus.ranking.channels import SEARCHED
from paddlerec_milvus.retrieval.base import FloatArray, Retriever
from paddlerec_milvus.serving.batching import CandidatesReply, SearchedUsers
from paddlerec_milvus.serving.candidates import json_of
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.fair_queue import NOBODY, Caller
from paddlerec_milvus.serving.hidden_items import ChangeableItems
from paddlerec_milvus.serving.joint_lookup import JointLookup
from paddlerec_milvus.serving.joint_ranking import JointRanking
from paddlerec_milvus.serving.model_cache import ServingModel
from paddlerec_milvus.serving.ranked_lists import (
    Lists,
    RankedByRow,
    best_lists,
    doubtful_items,
    gone_items,
    lists_without_search,
    popular_lists,
    ranked_answer,
    ranked_candidates,
    unranked_lists,
)
from paddlerec_milvus.serving.ranking_schemas import RankedSource, RecommendAnswer, RecommendRequest
from paddlerec_milvus.serving.recommender import SMALL_BODY, SMALL_LISTS, CandidateService, is_small
from paddlerec_milvus.serving.schemas import CandidatesRequest
from paddlerec_milvus.serving.settings import without_secrets
from paddlerec_milvus.serving.shadow import ListOrigin, ShownAnswer, ShownRecorder, now
from paddlerec_milvus.serving.validation import UserBatch, parse_as

logger = logging.getLogger(__name__)

T = TypeVar("T")

NOWHERE = ListOrigin()
USERS = 16  # that the time for a ranking is for; others have as much again


class RankedReply(NamedTuple):
    """The answer to one request as JSON."""

    content: bytes
    stages: Mapping[str, float]
    """Seconds by stage."""


class RankedService:
    """Ranked lists by what ``service`` serves."""

    def __init__(self, service: CandidateService) -> None:
        self._service = service
        # a pool of its own: a ranker that hangs keeps no search and no fallback waiting
        self._pool = ThreadPoolExecutor(service.settings.threads, "ranking")
        self._joint = JointRanking(self._pool)
        self._lookups = ThreadPoolExecutor(1, "stored")  # it makes one call at a time
        self._lookup = JointLookup(self._lookups)
        folder = service.settings.shown_log
        self._recorder = None if folder is None else ShownRecorder(service, folder)

    async def close(self) -> None:
        """End the threads, of which one that hangs is left, and the log of what was shown."""
        for pool in (self._pool, self._lookups):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._recorder is not None:
            await self._recorder.close()

    async def recommend(
        self,
        body: bytes,
        *,
        as_text: bool = False,
        caller: Caller = NOBODY,
        origin: ListOrigin = NOWHERE,
    ) -> RankedReply:
        """The answer to a request's ``body``; InvalidRequestError says what is wrong with it."""
        service = self._service
        served = service.current
        kind = "string" if as_text else (served.model if served else service.model).ids.kind
        parsed = partial(parse_as, RecommendRequest, body, service.settings, kind)
        request = parsed() if len(body) <= SMALL_BODY else await service.aside(parsed)
        return await self.recommend_of(
            request, served=served, as_text=as_text, caller=caller, origin=origin
        )

    async def recommend_of(
        self,
        request: RecommendRequest[Any],
        interests: FloatArray | None = None,
        served: ServedVersion | None = None,
        began: float | None = None,
        popular_source: RankedSource | None = None,
        *,
        as_text: bool = False,
        caller: Caller = NOBODY,
        origin: ListOrigin = NOWHERE,
    ) -> RankedReply:
        """The answer to a checked request; parameters as those of ``candidates_of``.

        ``origin`` is what a log of shown lists says of whom the answer is for.
        """
        service = self._service
        served = served or service.current
        model = served.model if served else service.model
        most = SEARCHED if model.ranking is None else model.ranking.channels.searched
        searched_for = CandidatesRequest[Any].model_construct(
            **request.model_dump(exclude={"top_k", "filter", "explain"}),
            filter=request.filter,
            top_k=most,
            exclude_history=True,
        )
        wanted = len(request.hist_item) * most
        began = time.monotonic() if began is None else began
        end = began + service.settings.deadline(wanted)
        batch = await service.user_batch(
            searched_for, served, end, as_text=as_text, top_k=request.top_k
        )
        reply = await service.by_model(served, batch, interests, end, caller, as_json=False)
        stages = {} if reply is None else dict(reply.stages)
        started = time.perf_counter()
        lists, source = await self._lists(served, model, batch, reply, request)
        if model.ranking is not None and len(batch.rows):
            stages["ranking"] = time.perf_counter() - started
        searched = None if reply is None else reply.searched
        made = partial(
            _answer, *(batch, model, lists, source, searched, popular_source, request.top_k)
        )
        wanted = len(request.hist_item) * request.top_k
        few = wanted <= SMALL_LISTS and is_small(searched_for) and request.filter is None
        answer, content = made() if few else await service.aside(made)
        service.count(answer.source, stages)
        if self._recorder is not None:
            made_of = (served, model, batch, searched)
            self._recorder.record(
                ShownAnswer(origin, now(), *made_of, answer, request.top_k, as_text)
            )
        return RankedReply(content, stages)

    async def _lists(
        self,
        served: ServedVersion | None,
        model: ServingModel,
        batch: UserBatch,
        reply: CandidatesReply | None,
        request: RecommendRequest[Any],
    ) -> tuple[Lists, RankedSource]:
        """Ranked lists of the users ``batch.rows``, and the source of the best that they can get.

        ``reply`` is None where Milvus did not answer. Empty: nothing is ranked.
        """
        ranking, searched = model.ranking, None if reply is None else reply.searched
        ranked: Lists | None = None
        top_k, explain = request.top_k, request.explain
        if not len(batch.rows):
            return {}, "popular"
        if ranking is None:
            self._unranked("failure" if model.is_ranker_refused else "absent")
        elif searched is None or served is None:
            work = partial(
                lists_without_search,
                *(ranking, model.tower, batch, model.categories, top_k),
                explain=explain,
            )
            return await self._within(self._aside(work), batch) or {}, "other_channels"
        elif self._service.settings.shadow != "ranked":  # else the ranker's list is the shadow
            rank = partial(
                ranked_candidates, ranking, batch, searched, model.categories, explain=explain
            )
            ranked = await self._within(self._stored(rank, served, batch, top_k), batch)
        if ranked is not None:
            return ranked, "ranked"
        return {}, "unranked"

    async def _aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _stored(
        self,
        rank: Callable[[], RankedByRow],
        served: ServedVersion,
        batch: UserBatch,
        top_k: int,
    ) -> Lists:
        """Lists of what ``rank`` finds and ``served`` has stored; see ``ranked_lists``."""
        few = len(batch.rows) <= USERS
        ranked = await (self._joint.add(rank) if few else self._aside(rank))
        gone = await self._gone(ranked, served.retriever, batch, top_k)
        listed = partial(best_lists, ranked, gone, top_k)
        return listed() if few else await self._aside(listed)

    async def _gone(
        self, ranked: RankedByRow, retriever: Retriever, batch: UserBatch, top_k: int
    ) -> Set[int]:
        """The items that lists of the ``top_k`` best are to leave out: they are not stored."""
        if not isinstance(retriever, ChangeableItems):
            return batch.hidden
        checked, gone = set[int](), set[int]()
        while True:
            doubtful = partial(doubtful_items, ranked, top_k, checked, gone, batch.hidden)
            items = doubtful() if len(ranked) <= USERS else await self._aside(doubtful)
            if not items:
                return gone
            stored = await self._lookup.categories_of(retriever, items, batch.request.consistency)
            if not (more := gone_items(items, stored, batch)):
                return gone
            checked |= items
            gone |= more

    async def _within(self, work: Awaitable[Lists], batch: UserBatch) -> Lists | None:
        """The result of ``work``; None, counted and logged, where there is none in time."""
        settings, ranked = self._service.settings, None
        seconds = settings.ranking_timeout * math.ceil(len(batch.rows) / USERS)
        try:
            ranked = await asyncio.wait_for(work, seconds)
        except asyncio.TimeoutError:
            self._unranked("deadline", f"no ranking within {seconds:.3f} s")
        except UserError as error:
            self._unranked("failure", without_secrets(error, settings.model))
        except Exception:  # whatever a ranker raises: the caller gets the model's order
            logger.exception("ranking failed")
            self._unranked("failure")
        return ranked

    def _unranked(self, reason: str, message: str = "") -> None:
        self._service.metrics.unranked.labels(reason).inc()
        if message:
            logger.warning(message)


def _answer(
    batch: UserBatch,
    model: ServingModel,
    lists: Lists,
    source: RankedSource,
    searched: SearchedUsers | None,
    popular_source: RankedSource | None,
    top_k: int,
) -> tuple[RecommendAnswer, bytes]:
    """The answer, and the same as JSON.

    Those without one in ``lists`` get the model's order if they were ``searched`` for, else popular
    items.
    """
    if source == "unranked" and searched is not None:
        lists = unranked_lists(batch, searched, top_k)
    by_model = set(batch.rows.tolist())
    others: list[RankedSource] = [
        popular_source or ("fallback" if row in by_model else "short" if clicks else "popular")
        for row, clicks in enumerate(batch.lengths.tolist())
    ]
    sources = [source if row in lists else other for row, other in enumerate(others)]
    missing = [row for row in range(len(sources)) if row not in lists]
    lists = lists | popular_lists(batch, model.catalogue, missing, top_k)
    ranker = None if model.ranking is None else model.ranking.digest
    answer = ranked_answer(batch, model.catalogue, lists, sources, ranker)
    return answer, json_of(answer, len(sources))
