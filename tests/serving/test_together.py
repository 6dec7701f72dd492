# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Requests that wait at the same time are searched for together, and get what each gets alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_service import running

from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving.together import MOST_USERS

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
            together = [each.result(20) for each in found]
    assert len(made) < len(HISTORIES) / 2
    assert sum(made) == 4 * len(HISTORIES)
    for history, given, own in zip(HISTORIES, together, alone, strict=True):
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
            assert made == [4 * len(large), 4]
            release.set()
            assert len(small.result(20)["candidates"]) == 1
            assert [len(each.result(20)["candidates"]) for each in found] == [len(large)] * 2
