# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Histories in a Redis that several services share, that is away, or slow."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
from in_process import in_process_app
from redis_process import LocalRedis
from running_service import Running, until

from paddlerec_milvus.serving.client import Client

DEADLINE = 1.0
numbers = itertools.count(1)


@pytest.fixture
def pair(redis: LocalRedis) -> Iterator[tuple[Running, Running]]:
    """Two services on one Redis, whose users are nobody else's."""
    uri = f"{redis.uri[:-1]}{next(numbers) % 16}"
    with in_process_app(histories=uri) as one, in_process_app(histories=uri) as other:
        yield one, other


@pytest.fixture
def lonely(tmp_path) -> Iterator[tuple[Running, LocalRedis]]:
    """A service with a short deadline, on a Redis of its own."""
    with (
        LocalRedis(tmp_path / "own") as redis,
        in_process_app(histories=redis.uri, timeout=DEADLINE) as service,
    ):
        yield service, redis


def click(service: Running, user: int, *items: int, key: str = "", **fields: float):
    headers = {"Idempotency-Key": key} if key else {}
    body = {"items": items, **fields}
    return service.http.post(f"/users/{user}/events", json=body, headers=headers)


def wanted(service: Running, user: int, **options):
    answer = service.http.get(f"/users/{user}/candidates", params=options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_click_at_one_service_is_seen_at_once_by_the_other(pair):
    one, other = pair
    assert wanted(one, 5)["source"] == ["popular"]
    for number, item in enumerate((3, 7, 12, 20), 1):
        answer = click(pair[number % 2], 5, item)
        assert answer.json() == {"user": 5, "history": number, "unknown": []}
        assert "idempotent-replayed" not in answer.headers
        for service in pair:
            expected = service.candidates([3, 7, 12, 20][:number], top_k=9)
            assert wanted(service, 5, top_k=9) == expected
            assert wanted(service, 5, top_k=9, consistency="Strong") == expected
    assert other.http.delete("/users/5").json() == {"deleted": 5}
    assert wanted(one, 5)["source"] == ["popular"]


def test_unknown_ids_are_told_and_not_stored(pair):
    one, other = pair
    assert click(one, 6, 0, -4, 41).json() == {"user": 6, "history": 0, "unknown": [0, -4, 41]}
    assert click(one, 6, 0, key="k").json() == {"user": 6, "history": 0, "unknown": [0]}
    assert wanted(other, 6)["source"] == ["popular"]
    assert click(other, 6, 3, 41).json() == {"user": 6, "history": 1, "unknown": [41]}


@pytest.mark.parametrize("store", ["redis", "memory"])
def test_a_repeated_event_is_stored_once(request, store):
    services = request.getfixturevalue("pair") if store == "redis" else None
    with in_process_app() as alone:
        one, other = services or (alone, alone)
        with Client(transport=one.http._transport) as client:
            assert client.add_events(7, [3, 41], idempotency_key="a").history == 1
        again = click(other, 7, 3, 41, key="a")
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json() == {"user": 7, "history": 1, "unknown": [41]}
        assert click(other, 7, 3, 41, key="b").json()["history"] == 2
        for fields in ({"items": (4,)}, {"items": (3, 41), "time": 5.0}):
            refused = click(one, 7, *fields.pop("items"), key="a", **fields)
            assert refused.status_code == 422
            assert refused.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
            assert "nothing was stored" in refused.json()["detail"][0]["msg"]
        assert click(one, 7, 3).json()["history"] == 3
        assert click(one, 8, 5, key="a").json()["history"] == 1  # a key is a user's


@pytest.mark.parametrize("store", ["redis", "memory"])
def test_events_are_ordered_by_their_own_time(request, store):
    services = request.getfixturevalue("pair") if store == "redis" else None
    with in_process_app() as alone:
        one, other = services or (alone, alone)
        click(one, 9, 3, 4, time=2_000.5)
        click(other, 9, 7)
        with Client(transport=one.http._transport) as client:
            client.add_events(9, [1], time=1_000)
        click(other, 9, 12, time=2_000.5)
        assert wanted(one, 9, top_k=9) == one.candidates([1, 3, 4, 12, 7], top_k=9)


@pytest.mark.parametrize("value", [-1, "now", 2**60, 1e308, [3]])
def test_a_time_that_is_none_is_refused(pair, value):
    answer = click(pair[0], 5, 3, time=value)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "time"]


def test_a_time_to_come_is_refused(pair):
    answer = click(pair[0], 5, 3, time=1_000 * time.time())  # milliseconds
    assert answer.status_code == 422
    assert "seconds since 1970" in answer.json()["detail"][0]["msg"]
    assert click(pair[0], 77, 3, time=time.time() + 60).status_code == 200


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_none_is_refused(pair, key):
    body = {"items": [3]}
    answer = pair[0].http.post("/users/5/events", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 422


def test_a_redis_that_is_away_or_slow_takes_no_clicks_and_stops_no_list(lonely):
    service, redis = lonely
    assert click(service, 5, 3).status_code == 200
    for fault, words in ((redis.stop, "did not answer"), (redis.kill, "is away")):
        fault()
        for method, path in (
            ("POST", "/users/5/events"),
            ("GET", "/users/5/candidates"),
            ("DELETE", "/users/6"),
        ):
            body = {"items": [7]} if method == "POST" else None
            began = time.monotonic()
            answer = service.http.request(method, path, json=body)
            assert answer.status_code == 503
            assert f"Redis at 127.0.0.1:{redis.port}/0" in answer.json()["detail"]
            assert words in answer.json()["detail"]
            assert time.monotonic() - began < DEADLINE + 5
        assert service.candidates([3, 7])["source"] == ["model"]
        assert service.ready()[0] == 200
        until(lambda: service.metric("serving_histories_up") == 0)
    redis.start()
    until(lambda: service.metric("serving_histories_up") == 1)
    until(lambda: click(service, 5, 12).status_code == 200)
    assert {3, 12} & set(wanted(service, 5, exclude_history=False, top_k=40)["candidates"][0])
    history = service.service.users._store.read(5).history
    assert [item for item in history if item != 7] == [3, 12]  # 7: perhaps


def test_a_redis_that_is_away_at_the_start_is_said_and_found_later(tmp_path, caplog):
    with LocalRedis(tmp_path / "own", password="sesame") as redis:
        redis.kill()
        with in_process_app(histories=redis.uri, timeout=DEADLINE) as service:
            assert click(service, 5, 3).status_code == 503
            assert service.candidates([3])["source"] == ["model"]
            redis.start()
            until(lambda: click(service, 5, 3).status_code == 200)
    assert f"no clicks can be stored: Redis at 127.0.0.1:{redis.port}/0 is away" in caplog.text
    assert "sesame" not in caplog.text
