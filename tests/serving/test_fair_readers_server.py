# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""On a real server: long filters and many users cost their caller time, and others no model."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import httpx
import pytest
from running_service import Running, running

pytestmark = [pytest.mark.server, pytest.mark.slow]

NAMES = [f"{'书籍分类' * 20}{number}" for number in range(1_000)]
CALLERS, ROUNDS = 8, 5
numbers = itertools.count(1)


@pytest.fixture
def shop(server, make_settings) -> Iterator[Running]:
    options = (f"milvus.uri={server.uri}", f"milvus.collection=readers_{next(numbers)}")
    with running(make_settings(*options, timeout=2.0)) as started:
        started.http.timeout = 300.0
        assert started.http.post("/insert").status_code == 200
        yield started
        started.http.post("/delete")


def test_a_thousand_long_names_by_eight_callers_cost_nobody_the_model(shop):
    end, sources = threading.Event(), list[str]()

    def other() -> None:
        with httpx.Client(base_url=shop.url, timeout=60) as http:
            while not end.is_set():
                answer = http.post("/candidates", json={"hist_item": [[3, 7]]})
                sources.extend(answer.json()["source"])

    def caller() -> None:
        body = {"hist_item": [[3, 7]], "filter": {"category": NAMES}}
        with httpx.Client(base_url=shop.url, timeout=60) as http:
            for _ in range(ROUNDS):
                answer = http.post("/candidates", json=body).json()
                assert answer["candidates"] == [[]]
                assert answer["source"] == ["model"]

    others = threading.Thread(target=other)
    callers = [threading.Thread(target=caller) for _ in range(CALLERS)]
    others.start()
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    end.set()
    others.join()
    assert set(sources) == {"model"}
    assert shop.service.health.failures == 0
    assert shop.metric("serving_fallbacks_total", reason="deadline") == 0


@pytest.mark.parametrize(("users", "top_k"), [(1_024, 200), (256, 1_000), (1_024, 1_000)])
def test_the_largest_requests_are_answered_by_the_model(shop, users, top_k):
    """With the deadline that services have by default."""
    found = shop.candidates(*[[1 + user % 290] for user in range(users)], top_k=top_k)
    assert found["source"] == ["model"] * users
    assert {len(row) for row in found["candidates"]} == {min(top_k, 299)}
