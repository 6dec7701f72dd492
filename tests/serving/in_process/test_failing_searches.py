# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Searches that fail or last too long cost the model and no answer."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from fastapi import FastAPI
from in_process import SmallIndex, TinyEncoder, in_process_app, tiny_settings

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.serving.app import create_app
from paddlerec_milvus.serving.async_user_store import InMemoryUserStore
from paddlerec_milvus.serving.batching import OverloadError, RequestBatcher
from paddlerec_milvus.serving.recommender import SMALL_BODY

POPULAR = [1, 2, 4, 5]  # without the history [3]


def fallback_of(service) -> list[int]:
    found = service.candidates([3], top_k=4)
    assert found["source"] == ["fallback"]
    return found["candidates"][0]


def test_a_search_that_fails_gives_popular_items(shop, index, monkeypatch):
    monkeypatch.setattr(shop.service, "refresh", lambda: None)  # its own search would fail, too
    index.is_away = True
    assert fallback_of(shop) == POPULAR
    monkeypatch.setattr(index, "search", lambda *arguments, **options: 1 / 0)
    assert fallback_of(shop) == POPULAR
    assert shop.metric("serving_fallbacks_total", reason="failure") == 2
    index.is_away = False
    monkeypatch.undo()
    assert shop.candidates([3])["source"] == ["model"]


def test_no_request_waits_longer_than_the_deadline(index, monkeypatch):
    with in_process_app(index, timeout=1.0, threads=2) as service:
        release = threading.Event()
        monkeypatch.setattr(index, "search", lambda *arguments, **options: release.wait(60))
        waits: list[float] = []

        def ask() -> None:
            began = time.monotonic()
            assert fallback_of(service) == POPULAR
            waits.append(time.monotonic() - began)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        release.set()
        assert len(waits) == 6
        assert max(waits) < 30  # none waited for the search, which ends after 60 s
        assert service.metric("serving_fallbacks_total", reason="deadline") == 6


@pytest.mark.parametrize("call", ["candidates", "recommendations"])
@pytest.mark.parametrize("error", [RetrievalError("away"), ValueError("a model folder's")])
def test_a_stored_user_whom_nobody_can_tell_is_counted_once(call, error):
    store = InMemoryUserStore()

    def fail(*arguments: Any) -> None:
        raise error

    with in_process_app(user_store=store) as service:
        store.read = fail
        answer = service.http.get(f"/users/5/{call}")
        assert answer.json()["source"] == ["fallback"]
        assert service.metric("serving_fallbacks_total", reason="failure") == 1


def test_nor_can_anybody_while_nothing_serves(index):
    store = InMemoryUserStore()
    with in_process_app(index, user_store=store) as service:
        index.is_away = True
        service.service.refresh()
        store.read = lambda *arguments: index.search()
        answer = service.http.get("/users/5/candidates")
        assert answer.json()["source"] == ["fallback"]
        assert service.metric("serving_fallbacks_total", reason="not_ready") == 1
        assert service.metric("serving_fallbacks_total", reason="failure") == 0


@pytest.mark.parametrize("call", ["/candidates", "/recommend"])
def test_a_request_too_many_is_503_and_may_come_again(shop, monkeypatch, call):
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OverloadError("too much waits")

    monkeypatch.setattr(RequestBatcher, "add", refuse)
    answer = shop.http.post(call, json={"hist_item": [[3]]})
    assert (answer.status_code, answer.json()) == (503, {"detail": "too much waits"})
    assert answer.headers["Retry-After"] == "1"


async def hang_up(app: FastAPI, path: str, body: bytes, release: threading.Event) -> list[Any]:
    """What ``app`` sends to a caller who hangs up after the ``body``."""
    received = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]
    sent: list[Any] = []
    scope = {
        **{"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http"},
        **{"path": path, "raw_path": path.encode(), "root_path": "", "query_string": b""},
        **{"headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 50_000)},
    }

    async def receive() -> Any:
        return received.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async with app.router.lifespan_context(app):
        try:
            await app(scope, receive, send)
        finally:
            release.set()
    return sent


@pytest.mark.parametrize("path", ["/candidates", "/recommend"])
def test_a_large_request_is_given_up_when_its_caller_hangs_up(path):
    release = threading.Event()

    class SlowIndex(SmallIndex):
        def search(self, queries: Any, *arguments: Any, **options: Any) -> Any:
            if len(queries) > 1:  # one is the service's own look
                release.wait(20)
            return super().search(queries, *arguments, **options)

    encoder = TinyEncoder()
    app = create_app(tiny_settings(), SlowIndex(encoder.item_vectors()), encoder)
    body = json.dumps({"hist_item": [[3]]}).encode() + b" " * SMALL_BODY
    assert asyncio.run(hang_up(app, path, body, release)) == []
    labels = {"method": "POST", "route": path, "status": "499"}
    assert app.state.metrics.registry.get_sample_value("serving_requests_total", labels) == 1
