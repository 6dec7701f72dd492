# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Requests that wait at the same time go through the tower and Milvus together, as one.

A call costs a model and a Milvus much the same for one user and for ten. When nothing is under way
a request goes at once, so being alone costs nothing; a user's list is the same in any company.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np

from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.retrieval.candidates import Candidates
from paddlerec_milvus.serving.candidates import Found, answer, find
from paddlerec_milvus.serving.deployment import Generation
from paddlerec_milvus.serving.schemas import Source
from paddlerec_milvus.serving.user_batch import Asked

MOST_USERS, MOST_HITS = 64, 16_384  # of several requests together; one with more goes alone


class Answered(NamedTuple):
    """The answer to one request as JSON."""

    content: bytes
    sources: Sequence[Source]
    stages: Mapping[str, float]
    """Seconds that the requests together took by stage: tower, search, merge."""


class _Waiting(NamedTuple):
    generation: Generation
    asked: Asked
    rows: IntArray
    """[n], the users that the model is asked for."""
    interests: FloatArray | None
    """[n, K, D], if they are known already."""
    answered: asyncio.Future[Answered]

    @property
    def load(self) -> tuple[int, int]:
        """Users, and hits that are searched at least for each of their interests."""
        return load_of(self.asked, self.rows)

    @property
    def is_large(self) -> bool:
        """Whether it goes alone."""
        return too_much(*self.load)

    @property
    def kind(self) -> tuple[Any, ...]:
        """Requests of one kind can be searched for together."""
        one = self.asked.request
        filtered = one.filter and tuple(one.filter.category)
        options = (one.top_k, one.quota, one.diversity, one.nearest, one.consistency)
        return (self.generation.version, filtered, *options)


def load_of(asked: Asked, rows: IntArray) -> tuple[int, int]:
    """Users ``rows`` [n] of a request, and the hits that an interest of each is searched for."""
    excluded = sum(len(asked.exclude[row]) for row in rows.tolist())
    return len(rows), asked.request.top_k * len(rows) + excluded


def too_much(users: int, hits: int) -> bool:
    """Whether this is more than small requests should have to wait for."""
    return users > MOST_USERS or hits > MOST_HITS


class Together:
    """Answers requests, ``at_once`` searches at a time, in threads of ``pool``.

    Large requests go one after the other, so that small ones need not wait for them.
    """

    def __init__(self, pool: Executor, at_once: int) -> None:
        self._pool, self._at_once = pool, at_once
        self._waiting: deque[_Waiting] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._large = False

    async def answer(
        self,
        generation: Generation,
        asked: Asked,
        rows: IntArray,
        interests: FloatArray | None = None,
    ) -> Answered:
        """The answer by ``generation``. Errors are the tower's and the retriever's."""
        answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(generation, asked, rows, interests, answered))
        self._start()
        return await answered

    def _start(self) -> None:
        while len(self._under_way) < self._at_once and (requests := self._next()):
            self._large = self._large or requests[0].is_large
            task = asyncio.ensure_future(self._serve(requests))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._start()

    def _next(self) -> list[_Waiting]:
        """The request that waits longest, and others of its kind."""
        requests: list[_Waiting] = []
        users = hits = 0
        passed: list[_Waiting] = []
        while self._waiting:
            one = self._waiting.popleft()
            if one.answered.done():  # its deadline has passed
                continue
            more_users, more_hits = one.load
            if requests:
                together = not too_much(users + more_users, hits + more_hits)
                fits = together and one.kind == requests[0].kind
            else:
                fits = not (self._large and too_much(more_users, more_hits))
            (requests if fits else passed).append(one)
            if fits:
                users, hits = users + more_users, hits + more_hits
        self._waiting.extend(passed)
        return requests

    async def _serve(self, requests: list[_Waiting]) -> None:
        try:
            work = asyncio.get_running_loop().run_in_executor(self._pool, _answers, requests)
            for one, answered in zip(requests, await work, strict=True):
                if not one.answered.done():
                    one.answered.set_result(answered)
        except BaseException as error:  # its callers are told, whatever it is
            for one in requests:
                if not one.answered.done():
                    one.answered.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._large = self._large and not requests[0].is_large


def _interests(requests: Sequence[_Waiting]) -> list[FloatArray]:
    """Those of each request [n, K, D]; one call of the tower for all that have none."""
    without = [one for one in requests if one.interests is None]
    made: Iterator[FloatArray] = iter(())
    if without:
        histories = np.concatenate([one.asked.histories[one.rows] for one in without])
        lengths = np.concatenate([one.asked.lengths[one.rows] for one in without])
        found = without[0].generation.model.tower.interests(histories, lengths)
        made = iter(np.split(found, _ends(without)))
    return [next(made) if one.interests is None else one.interests for one in requests]


def _ends(requests: Sequence[_Waiting]) -> IntArray:
    """Where each request but the last ends among all users."""
    return np.cumsum([len(one.rows) for one in requests])[:-1]


def _answers(requests: Sequence[_Waiting]) -> list[Answered]:
    """One call of the tower and one search for all requests, and an answer to each."""
    began = time.perf_counter()
    interests = np.concatenate(_interests(requests))
    tower = time.perf_counter() - began
    first = requests[0]
    catalogue = first.generation.model.catalogue
    exclude = [one.asked.exclude[row] for one in requests for row in one.rows.tolist()]
    rows = np.arange(len(exclude))
    asked = first.asked._replace(exclude=exclude)

    def wanted() -> bool:
        return not all(one.answered.done() for one in requests)

    found = find(first.generation.retriever, interests, asked, rows, catalogue, wanted)
    lists = [
        answer(one.asked, catalogue, one.rows, part)
        for one, part in zip(requests, _parts(found, _ends(requests)), strict=True)
    ]
    contents = [each.model_dump_json().encode() for each in lists]
    merge = time.perf_counter() - began - tower - found.search_seconds
    stages = {"tower": tower, "search": found.search_seconds, "merge": merge}
    return [
        Answered(content, each.source, stages)
        for content, each in zip(contents, lists, strict=True)
    ]


def _parts(found: Found, ends: IntArray) -> list[Found]:
    candidates = zip(*(np.split(each, ends) for each in found.candidates), strict=True)
    nearest = np.split(found.nearest, ends)
    return [
        Found(Candidates(*part), near, found.search_seconds)
        for part, near in zip(candidates, nearest, strict=True)
    ]
