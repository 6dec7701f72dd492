# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Searches that fail or last too long cost the model and no answer."""

from __future__ import annotations

import threading
import time

from in_process import in_process_app

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
