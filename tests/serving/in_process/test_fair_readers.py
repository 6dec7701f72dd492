# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What one caller wants costs that caller time, and neither the model nor the others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from in_process import in_process_app

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.serving.auth import Keys
from paddlerec_milvus.serving.client import Client
from paddlerec_milvus.serving.settings import service_settings

UNUSUAL = [
    {"top_k": 1_000, "hist_item": [[3]] * 20},
    {"hist_item": [[3]], "filter": {"category": ["books"]}},
    {"hist_item": [[3]], "consistency": "Strong"},
]


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_an_unusual_request_that_fails_does_not_open_the_breaker(shop, index, monkeypatch, unusual):
    monkeypatch.setattr(shop.service, "refresh", lambda: None)
    index.is_away = True
    for _ in range(5):
        answer = shop.http.post("/candidates", json=unusual)
        assert set(answer.json()["source"]) == {"fallback"}
    assert shop.service.health.failures == 0
    index.is_away = False
    assert shop.candidates([3])["source"] == ["model"]
    index.is_away = True
    for _ in range(3):
        shop.candidates([3])
    assert shop.metric("serving_breaker_open") == 1


def test_a_request_that_waited_for_others_says_nothing_of_milvus(index, monkeypatch):
    """All threads are taken by one caller's filters; the others fall back, and that is all."""
    release, began = threading.Event(), threading.Semaphore(0)
    search = index.search

    def slow(queries, k, *, filter="", consistency=None):
        if filter:
            began.release()
            release.wait(60)
        return search(queries, k, filter=filter, consistency=consistency)

    with in_process_app(index, timeout=0.5, threads=2, check_seconds=60) as service:
        monkeypatch.setattr(index, "search", slow)
        with ThreadPoolExecutor(8) as callers:
            for name in ("books", "games"):
                callers.submit(service.candidates, [3], filter={"category": [name]})
                began.acquire()
            found = [callers.submit(service.candidates, [3]) for _ in range(5)]
            assert {one.result()["source"][0] for one in found} == {"fallback"}
            release.set()
        assert service.service.health.failures == 0
        assert service.candidates([3])["source"] == ["model"]


def test_a_deadline_grows_with_users_and_candidates_up_to_a_limit(index):
    with in_process_app(index, timeout=2.0, large_timeout=25.0) as service:
        settings = service.service.settings
        assert settings.deadline(50) == pytest.approx(2.0125)
        assert settings.deadline(50_000) == pytest.approx(14.5)
        assert settings.deadline(1_000_000) == pytest.approx(27.0)
        body = {"hist_item": [[3]] * 101, "top_k": 1_000}
        answer = service.http.post("/candidates", json=body)
        assert answer.status_code == 422
        assert "at most 100,000 candidates in all" in answer.text
        assert "101,000" in answer.text


def test_the_largest_request_of_all_is_within_the_limits(index):
    """No limit falls: 1,024 users times 1,000 candidates is not refused."""
    with in_process_app(index, timeout=30.0) as service:
        found = service.candidates(*[[3]] * 1_024, top_k=1_000)
        assert found["source"] == ["model"] * 1_024


def test_a_slow_search_goes_on_for_a_large_request(index, monkeypatch):
    """It is made of parts, and the caller's own deadline is longer than the service's."""
    search = index.search

    def slow(*arguments, **options):
        threading.Event().wait(0.05)
        return search(*arguments, **options)

    with in_process_app(index, timeout=0.2) as service:
        monkeypatch.setattr(index, "search", slow)
        index.searches.clear()
        found = service.candidates(*[[3]] * 1_024, top_k=200)
        assert found["source"] == ["model"] * 1_024
        assert max(queries for queries, _ in index.searches) <= 256
        assert all(queries * k <= 24_576 for queries, k in index.searches)


def test_parts_of_a_search_give_what_the_whole_gives(service):
    histories = [[1 + row % 40, 1 + row % 7] for row in range(300)]
    together = service.candidates(*histories, top_k=20)
    for row in (0, 127, 128, 299):
        alone = service.candidates(histories[row], top_k=20)
        assert together["candidates"][row] == alone["candidates"][0]
        assert together["interest"][row] == alone["interest"][0]


@pytest.mark.parametrize("options", [{}, {"titles": True, "nearest": True, "top_k": 3}])
def test_a_long_answer_is_the_json_of_a_short_one(service, monkeypatch, options):
    body = {"hist_item": [[3, 7], [999], [], [5]], **options}
    whole = service.http.post("/candidates", json=body)
    monkeypatch.setattr("paddlerec_milvus.serving.candidates.PIECE", 3)
    assert service.http.post("/candidates", json=body).content == whole.content


def test_callers_have_a_rate_where_one_is_set(index):
    with in_process_app(index, rate="3/minute") as service:
        for _ in range(3):
            assert service.http.post("/candidates", json={"hist_item": [[3]]}).status_code == 200
        answer = service.http.get("/users/5/candidates")
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "3 per 1 minute" in answer.text
        for path in ("/healthz", "/readyz", "/metrics", "/", "/docs", "/page/page.js"):
            assert service.http.get(path).status_code == 200


def test_each_key_has_a_rate_of_its_own(index):
    one, other = "k" * 20, "m" * 20
    keys = Keys.parse(f"read:{one},read:{other}")
    with in_process_app(index, rate="2/minute", keys=keys) as service:

        def status(key: str, name: str = "X-API-Key") -> int:
            headers = {name: f"Bearer {key}" if name == "Authorization" else key}
            body = {"hist_item": [[3]]}
            return service.http.post("/candidates", json=body, headers=headers).status_code

        assert [status(one), status(one, "Authorization"), status(one)] == [200, 200, 429]
        assert status(other) == 200
        assert [status("unknown1"), status("unknown2"), status("unknown3")] == [401, 401, 429]


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("rate", "often", "100/second"),
        ("cors", "shop.example", "https://shop.example"),
        ("cors", "https://shop.example/page", "https://shop.example"),
        ("max_connections", 0, "greater than or equal to 1"),
        ("receive_timeout", 0, "greater than 0"),
        ("large_timeout", -1, "greater than or equal to 0"),
    ],
)
def test_a_wrong_setting_is_told_by_its_variable(tmp_path, setting, value, text, monkeypatch):
    monkeypatch.setattr("paddlerec_milvus.serving.model_sources.checkpoint_of", lambda *_: tmp_path)
    with pytest.raises(SettingsError) as error:
        service_settings("mind/config.yaml", **{setting: value})
    assert f"SERVING_{setting.upper()}: {value!r}" in str(error.value)
    assert text in str(error.value)


def test_the_client_waits_as_long_as_the_service_does(service, monkeypatch):
    waits = []

    class StopError(Exception):
        pass

    def request(*arguments, timeout, **options):
        waits.append(timeout.read)
        raise StopError

    with Client("http://127.0.0.1", timeout=10) as client:
        monkeypatch.setattr(client._http, "request", request)
        for histories, top_k in (([[1]], 50), ([[1]] * 1_024, 1_000)):
            with pytest.raises(StopError):
                client.candidates(histories, top_k)
    assert waits == pytest.approx([10.0125, 266.0])
