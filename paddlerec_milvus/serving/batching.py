# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Requests that wait at the same time go through the tower and Milvus together, as one.

A call costs a model and a Milvus much the same for one user and for ten. When nothing is under way
a request goes at once, so being alone costs nothing; a user's list is the same in any company.
Callers have their turns: who sends much waits for its own, and not others for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.retrieval.candidates import Candidates
from paddlerec_milvus.serving.candidates import (
    ModelCandidates,
    answer_by_model,
    json_of,
    search_candidates,
    searched_hits,
)
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.fair_queue import NOBODY, Caller, FairOrder
from paddlerec_milvus.serving.schemas import Source
from paddlerec_milvus.serving.validation import UserBatch

MOST_USERS, MOST_HITS = 64, 16_384  # of several requests together; one with more goes alone
MOST_NAMES = 4_096  # bytes of a filter's categories; so does one with more
MOST_IDS = 65_536  # of histories and exclusions; so does one with more
MOST_WAITING_IDS = 2_000_000  # of large requests that wait, some 100 bytes each


class OverloadError(RetrievalError):
    """Too much waits already; the caller may try again."""


class SearchedUsers(NamedTuple):
    """What the model found for the n users of a request that it was asked for."""

    interests: FloatArray
    """[n, K, D]"""
    results: ModelCandidates


class CandidatesReply(NamedTuple):
    """The answer to one request as JSON."""

    content: bytes
    """Empty where the request wants no JSON."""
    sources: Sequence[Source]
    stages: Mapping[str, float]
    """Seconds that the requests together took by stage: tower, search, merge."""
    searched: SearchedUsers | None = None
    """What the answer was made of; None: the model was not asked."""


class RequestLoad(NamedTuple):
    """How much a request wants."""

    users: int
    """Those for the model."""
    hits: int
    """That an interest of each is searched for at least, what is excluded among them."""
    names: int = 0
    """Bytes of the categories that its filter names."""
    ids: int = 0
    """Of its histories, and to exclude: what it holds while it waits."""

    @property
    def is_large(self) -> bool:
        """Whether this is more than small requests should have to wait for."""
        wants_much = self.users > MOST_USERS or self.hits > MOST_HITS
        return wants_much or self.names > MOST_NAMES or self.ids > MOST_IDS

    def with_more(self, other: RequestLoad) -> RequestLoad:
        """Both together; they have the same filter."""
        return self._replace(
            users=self.users + other.users,
            hits=self.hits + other.hits,
            ids=self.ids + other.ids,
        )

    @classmethod
    def of(cls, batch: UserBatch) -> RequestLoad:
        """The load of ``batch``."""
        request = batch.request
        excluded = sum(len(batch.exclude[row]) for row in batch.rows.tolist())
        names = request.filter.category if request.filter else ()
        return cls(
            len(batch.rows),
            searched_hits(request) * len(batch.rows) + excluded,
            sum(len(name.encode()) for name in names),
            sum(map(len, request.hist_item)) + len(request.exclude),
        )


@dataclass(eq=False)
class PendingRequest:
    """A request that waits for a search, or for the end of one."""

    served: ServedVersion
    batch: UserBatch
    interests: FloatArray | None
    """[n, K, D] of the users ``batch.rows``, if they are known already."""
    reply: asyncio.Future[CandidatesReply]
    caller: Caller
    load: RequestLoad
    kind: tuple[Any, ...]
    """Requests of one kind can be searched for together."""
    as_json: bool = True
    """False: only what was found is wanted."""
    began: float | None = None
    """When it was its turn, by time.monotonic."""

    @property
    def is_plain(self) -> bool:
        """Whether it is like most others: how long it takes says something of Milvus."""
        request = self.batch.request
        return not self.load.is_large and not request.filter and request.consistency != "Strong"


_Work = Future[list[CandidatesReply]]


class RequestBatcher:
    """Answers requests, ``parallel`` searches at a time, in threads of ``pool``.

    Large requests go one after the other, so that small ones need not wait for them, and callers
    have their turns.
    """

    def __init__(self, pool: Executor, parallel: int) -> None:
        self._pool, self._parallel = pool, parallel
        self._waiting: list[PendingRequest] = []
        self._order = FairOrder[PendingRequest](lambda one: one.caller, lambda one: one.load.hits)
        self._under_way = 0  # searches
        self._large = False

    def add(
        self,
        served: ServedVersion,
        batch: UserBatch,
        interests: FloatArray | None = None,
        caller: Caller = NOBODY,
        *,
        as_json: bool = True,
    ) -> PendingRequest:
        """The request, whose ``reply`` comes by ``served``; at least one user is for the model.

        ``interests`` [n, K, D] of ``batch.rows`` where known. Errors of the reply are the tower's
        and the retriever's. OverloadError: it is large, and too much waits already.
        """
        load = RequestLoad.of(batch)
        if load.is_large:
            self._require_room(load)
        reply: asyncio.Future[CandidatesReply] = asyncio.get_running_loop().create_future()
        kind = (served.version, *_options(batch))
        pending = PendingRequest(served, batch, interests, reply, caller, load, kind, as_json)
        self._waiting.append(pending)
        self._start()
        return pending

    def _require_room(self, load: RequestLoad) -> None:
        """Refuse a large request that would wait beside too many ids of others; alone it may."""
        self._waiting = [one for one in self._waiting if not one.reply.done()]
        waiting = sum(one.load.ids for one in self._waiting if one.load.is_large)
        if waiting and waiting + load.ids > MOST_WAITING_IDS:
            raise OverloadError(
                f"large requests with {waiting:,} ids wait already, and {load.ids:,} more are "
                f"above {MOST_WAITING_IDS:,}: try again, or send fewer users at once"
            )

    def _start(self) -> None:
        loop = asyncio.get_running_loop()

        def tell(requests: list[PendingRequest], work: _Work) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._ended, requests, work)

        while self._waiting and self._under_way < self._parallel:
            if not (requests := self._next()):
                return
            self._large = self._large or requests[0].load.is_large
            self._under_way += 1
            work = self._pool.submit(_replies, requests)
            work.add_done_callback(partial(tell, requests))

    def _ended(self, requests: list[PendingRequest], work: _Work) -> None:
        self._under_way -= 1
        self._large = self._large and not requests[0].load.is_large
        error = None if work.cancelled() else work.exception()
        for place, one in enumerate(requests):
            if one.reply.done():
                continue
            if work.cancelled():
                one.reply.cancel()
            elif error is not None:  # its callers are told, whatever it is
                one.reply.set_exception(error)
            else:
                one.reply.set_result(work.result()[place])
        self._start()

    def _next(self) -> list[PendingRequest]:
        """The request whose turn it is, and others of its kind."""
        waiting = [one for one in self._waiting if not one.reply.done()]  # before its deadline
        taken: list[PendingRequest] = []
        load = RequestLoad(0, 0)
        for one in self._order.sort(waiting):
            if taken:
                joint = load.with_more(one.load)
                fits = not joint.is_large and one.kind == taken[0].kind
            else:
                joint, fits = one.load, not (self._large and one.load.is_large)
            if fits:
                load = joint
                taken.append(one)
        for one in taken:
            self._order.charge(one)
            one.began = time.monotonic()
        self._waiting = [one for one in waiting if one.began is None]
        return taken


def _options(batch: UserBatch) -> tuple[Any, ...]:
    """What requests must have in common to be searched for together."""
    request = batch.request
    search = (request.top_k, request.quota, request.diversity, request.nearest)
    return (batch.categories, *search, request.consistency)


def _interests(requests: Sequence[PendingRequest]) -> list[FloatArray]:
    """Those of each request [n, K, D]; one call of the tower for all that have none."""
    without = [one for one in requests if one.interests is None]
    if len(requests) == 1 and without:  # most often; nothing is to be joined
        batch, tower = without[0].batch, without[0].served.model.tower
        return [tower.interests(batch.histories[batch.rows], batch.lengths[batch.rows])]
    computed: Iterator[FloatArray] = iter(())
    if without:
        histories = np.concatenate([one.batch.histories[one.batch.rows] for one in without])
        lengths = np.concatenate([one.batch.lengths[one.batch.rows] for one in without])
        interests = without[0].served.model.tower.interests(histories, lengths)
        computed = iter(np.split(interests, _ends(without)))
    return [next(computed) if one.interests is None else one.interests for one in requests]


def _ends(requests: Sequence[PendingRequest]) -> IntArray:
    """Where each request but the last ends among all users."""
    return np.cumsum([len(one.batch.rows) for one in requests])[:-1]


def _replies(requests: Sequence[PendingRequest]) -> list[CandidatesReply]:
    """One call of the tower and one search for all requests, and a reply to each."""
    began = time.perf_counter()
    by_request = _interests(requests)
    interests = np.concatenate(by_request)
    tower = time.perf_counter() - began
    served = requests[0].served
    catalogue = served.model.catalogue
    results = search_candidates(
        served.retriever,
        requests[0].batch.request,  # its options are those of all
        interests,
        [one.batch.exclude[row] for one in requests for row in one.batch.rows.tolist()],
        catalogue,
        cancelled=lambda: all(one.reply.done() for one in requests),
        categories=requests[0].batch.categories,
    )
    served.model.ids.learn_names(results.candidates.ids, results.nearest)
    parts = _parts(results, _ends(requests))
    answers = [
        answer_by_model(one.batch, catalogue, part) if one.as_json else None
        for one, part in zip(requests, parts, strict=True)
    ]
    contents = [
        b"" if answer is None else json_of(answer, len(answer.source)) for answer in answers
    ]
    merge = time.perf_counter() - began - tower - results.search_seconds
    stages = {"tower": tower, "search": results.search_seconds, "merge": merge}
    return [
        CandidatesReply(
            content,
            () if answer is None else answer.source,
            stages,
            SearchedUsers(own_interests, part),
        )
        for content, answer, own_interests, part in zip(
            contents, answers, by_request, parts, strict=True
        )
    ]


def _parts(results: ModelCandidates, ends: IntArray) -> list[ModelCandidates]:
    if not len(ends):
        return [results]
    candidates = zip(*(np.split(array, ends) for array in results.candidates), strict=True)
    nearest = np.split(results.nearest, ends)
    return [
        ModelCandidates(Candidates(*part), near, results.search_seconds)
        for part, near in zip(candidates, nearest, strict=True)
    ]
