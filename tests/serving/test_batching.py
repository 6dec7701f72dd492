# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Requests that wait at the same time are searched for together, and get what each gets alone."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from running_service import running

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.id_map import IdMap
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving import batching
from paddlerec_milvus.serving.batching import (
    MOST_USERS,
    CandidatesReply,
    OverloadError,
    RequestBatcher,
    RequestLoad,
)
from paddlerec_milvus.serving.candidates import search_candidates
from paddlerec_milvus.serving.item_ids import ItemIds
from paddlerec_milvus.serving.schemas import CandidatesRequest
from paddlerec_milvus.serving.validation import user_batch

HISTORIES = [[number, number + 9, 2 * number] for number in range(1, 25)]


@pytest.fixture
def searches(monkeypatch):
    """Numbers of queries of each search; the first ones wait until ``release`` is set."""
    made, release, search = [], threading.Event(), MilvusRetriever.search

    def counted(self, queries, k, **options):
        if len(queries) > 1:  # one is the service's own look
            made.append(len(queries))
            release.wait(20)
        return search(self, queries, k, **options)

    monkeypatch.setattr(MilvusRetriever, "search", counted)
    return made, release


def test_many_small_requests_become_few_searches(make_settings, searches):
    made, release = searches
    release.set()
    with running(make_settings(threads=2, check_seconds=60.0)) as service:
        service.http.post("/insert")
        alone = [service.candidates(each, top_k=9)["candidates"][0] for each in HISTORIES]
        release.clear()
        made.clear()
        waits = threading.Barrier(len(HISTORIES) + 1)

        def ask(history):
            waits.wait(20)
            return service.candidates(history, top_k=9 if history[0] % 2 else 7)["candidates"][0]

        with ThreadPoolExecutor(len(HISTORIES)) as callers:
            found = [callers.submit(ask, each) for each in HISTORIES]
            waits.wait(20)
            while len(made) < 2:
                threading.Event().wait(0.01)
            threading.Event().wait(0.5)  # all have come by now
            release.set()
            found_together = [each.result(20) for each in found]
    assert len(made) < len(HISTORIES) / 2
    assert sum(made) == 4 * len(HISTORIES)
    for history, given, own in zip(HISTORIES, found_together, alone, strict=True):
        assert given == own[: len(given)]
        assert len(given) == (9 if history[0] % 2 else 7)


def test_a_large_request_leaves_room_for_small_ones(make_settings, searches):
    made, release = searches
    release.set()
    with running(make_settings(threads=2, check_seconds=60.0)) as service:
        service.http.post("/insert")
        release.clear()
        made.clear()
        large = [HISTORIES[0]] * (MOST_USERS + 1)
        with ThreadPoolExecutor(3) as callers:
            found = [callers.submit(service.candidates, *large) for _ in range(2)]
            while len(made) < 1:
                threading.Event().wait(0.01)
            small = callers.submit(service.candidates, HISTORIES[1])
            while len(made) < 2:  # the small one's: the second large one waits for the first
                threading.Event().wait(0.01)
            assert made[0] > made[1] == 4
            release.set()
            assert len(small.result(20)["candidates"]) == 1
            assert [len(each.result(20)["candidates"]) for each in found] == [len(large)] * 2


def test_large_requests_go_one_after_the_other(monkeypatch):
    """Those of one moment, too, and those that waited together."""
    under_way, most = [], []

    def answers(requests):
        under_way.append(requests)
        most.append(len(under_way))
        threading.Event().wait(0.02)
        under_way.remove(requests)
        return [CandidatesReply(b"", (), {})] * len(requests)

    monkeypatch.setattr(batching, "_replies", answers)
    request = CandidatesRequest[int](hist_item=[[1]] * (MOST_USERS + 1))
    asked, generation = (
        user_batch(request, 20, Catalogue(9), ItemIds(IdMap(), 9)),
        SimpleNamespace(version=1),
    )

    async def ask(pool):
        asking = RequestBatcher(pool, 2)
        await asyncio.gather(*[asking.add(generation, asked).reply for _ in range(5)])

    with ThreadPoolExecutor(2) as pool:
        asyncio.run(ask(pool))
    assert most == [1] * 5


def test_large_requests_that_wait_hold_a_limited_number_of_ids(monkeypatch):
    """A lone one is taken whatever it holds, a small one always; whoever hung up counts no more."""
    monkeypatch.setattr(batching, "MOST_WAITING_IDS", 100)
    release = threading.Event()

    def answers(requests):
        release.wait(20)
        return [CandidatesReply(b"", (), {})] * len(requests)

    monkeypatch.setattr(batching, "_replies", answers)
    version, catalogue, ids = SimpleNamespace(version=1), Catalogue(9), ItemIds(IdMap(), 9)
    large, small = (
        user_batch(CandidatesRequest[int](hist_item=[[1, 2]] * users), 20, catalogue, ids)
        for users in (MOST_USERS + 1, 1)
    )

    async def ask(pool):
        batcher = RequestBatcher(pool, 1)
        first, second = (batcher.add(version, large).reply for _ in range(2))
        with pytest.raises(OverloadError, match="with 130 ids wait already, and 130 more"):
            batcher.add(version, large)
        third = batcher.add(version, small).reply
        second.cancel()
        fourth = batcher.add(version, large).reply
        release.set()
        await asyncio.gather(first, third, fourth)

    with ThreadPoolExecutor(1) as pool:
        try:
            asyncio.run(ask(pool))
        finally:
            release.set()


def test_a_request_of_many_ids_is_large():
    request = CandidatesRequest[int](hist_item=[[1] * 9_000] * 8, exclude_history=False, top_k=5)
    batch = user_batch(request, 20, Catalogue(9), ItemIds(IdMap(), 9))
    assert RequestLoad.of(batch).ids == 72_000
    assert RequestLoad.of(batch).is_large


@pytest.mark.parametrize("heavy", [{"top_k": 1_000}, {"exclude": list(range(1, 9_001))}])
def test_few_users_who_want_much_are_a_large_request(make_settings, searches, heavy):
    made, release = searches
    release.set()
    with running(make_settings(threads=2, check_seconds=60.0)) as service:
        service.http.post("/insert")
        release.clear()
        made.clear()
        few = HISTORIES[:20] if "top_k" in heavy else HISTORIES[:2]
        with ThreadPoolExecutor(3) as callers:
            found = [callers.submit(service.candidates, *few, **heavy) for _ in range(2)]
            while len(made) < 1:
                threading.Event().wait(0.01)
            small = callers.submit(service.candidates, HISTORIES[1])
            while len(made) < 2:
                threading.Event().wait(0.01)
            assert made[0] > made[1] == 4
            release.set()
            assert small.result(20)["source"] == ["model"]
            assert [each.result(20)["source"] for each in found] == [["model"] * len(few)] * 2


def test_what_nobody_waits_for_any_more_is_not_searched_on():
    """One who excludes a thousand of the nearest is searched for again and again."""
    searched = []

    class Counted(ExactRetriever):
        def search(self, queries, k, **options):
            searched.append(k)
            return super().search(queries, k, **options)

    vectors = np.ones((5_000, 4), np.float32)
    exact, interests = Counted(vectors, np.arange(1, 5_001)), np.ones((1, 1, 4), np.float32)
    catalogue = Catalogue(5_000)
    request = CandidatesRequest[int](hist_item=[[1]], exclude=list(range(1, 1_001)))
    exclude = user_batch(request, 20, catalogue, ItemIds(IdMap(), 5_000)).exclude
    found = search_candidates(exact, request, interests, exclude, catalogue)
    assert found.candidates.ids[0].tolist() == list(range(1_001, 1_051))
    assert len(searched) > 1
    few = len(searched) + 1
    with pytest.raises(RetrievalError, match="deadline has passed"):
        search_candidates(
            exact, request, interests, exclude, catalogue, lambda: len(searched) >= few
        )
    assert len(searched) == few


def test_a_large_request_that_is_late_says_nothing_of_milvus(make_settings, searches):
    made, release = searches
    release.set()
    late = {"exclude": list(range(1, 9_001)), "top_k": 50}
    with running(make_settings(threads=2, check_seconds=60.0, timeout=1.0)) as service:
        service.http.post("/insert")
        release.clear()
        made.clear()
        for number in range(4):  # more than a breaker bears
            release.clear()
            assert service.candidates(*HISTORIES[:2], **late)["source"] == ["fallback"] * 2
            release.set()
            while len(made) < number + 1:
                threading.Event().wait(0.01)
        assert service.metric("serving_breaker_open") == 0
        assert service.candidates(HISTORIES[1])["source"] == ["model"]
        assert made == [8, 8, 8, 8, 4]
