# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Answers at the edges of HTTP: HEAD, gzip, other sites, methods that nobody knows."""

from __future__ import annotations

import pytest
from in_process import in_process_app


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_may_ask_for_the_head_alone(service, path):
    assert service.http.head(path).status_code == 200
    assert list(service.http.get("/openapi.json").json()["paths"][path]) == ["get"]


def test_long_answers_are_zipped_for_who_takes_that(service):
    body = {"hist_item": [[3]] * 30, "top_k": 40}
    plain = service.http.post("/candidates", json=body, headers={"Accept-Encoding": "identity"})
    zipped = service.http.post("/candidates", json=body)
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < len(plain.content) / 2
    assert zipped.content == plain.content
    short = service.http.post("/candidates", json={"hist_item": [[3]]})
    assert "content-encoding" not in short.headers


def test_pages_of_other_sites_are_let_in_by_a_setting(index, service):
    site = {"Origin": "https://shop.example"}
    asked = {**site, "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in service.http.get("/healthz", headers=site).headers
    assert service.http.options("/candidates", headers=asked).status_code == 405
    with in_process_app(index, cors="https://shop.example, https://other.example") as shop:
        answer = shop.http.post("/candidates", json={"hist_item": [[3]]}, headers=site)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        exposed = answer.headers["access-control-expose-headers"]
        assert {"Server-Timing", "Idempotent-Replayed"} <= set(exposed.split(", "))
        preflight = shop.http.options("/candidates", headers=asked)
        assert preflight.status_code == 200
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "Idempotency-Key" in preflight.headers["access-control-allow-headers"]
        foreign = {"Origin": "https://evil.example"}
        answer = shop.http.get("/healthz", headers=foreign)
        assert "access-control-allow-origin" not in answer.headers


def test_metrics_have_methods_of_a_fixed_set(shop):
    for method in ("BREW", "X" * 1_000, "PROPFIND"):
        assert shop.http.request(method, "/candidates").status_code == 405
    labels = {"route": "/candidates", "status": "405"}
    assert shop.metric("serving_requests_total", method="other", **labels) == 3
    assert "BREW" not in shop.http.get("/metrics").text


def test_a_head_that_a_server_let_through_is_refused(service):
    answer = service.http.get("/healthz", headers={"X-Long": "x" * 66_000})
    assert answer.status_code == 431
    assert "65,536 bytes" in answer.text
    assert service.http.get("/healthz", headers={"X-Long": "x" * 60_000}).status_code == 200
