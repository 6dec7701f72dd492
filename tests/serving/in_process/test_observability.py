# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What is logged, counted and sent with each request."""

from __future__ import annotations

import json
import logging

from running_service import until

from paddlerec_milvus.serving.observability import JsonLines


def test_a_request_has_an_id_a_line_and_counts(shop, caplog):
    caplog.set_level(logging.INFO, "paddlerec_milvus")
    headers = {"X-Request-ID": "a-1"}
    answer = shop.http.post("/candidates?x=s3cret", json={"hist_item": [[3]]}, headers=headers)
    assert answer.headers["x-request-id"] == "a-1"
    assert answer.headers["server-timing"].startswith("tower;dur=")
    until(lambda: "a-1" in str([getattr(r, "request_id", "") for r in caplog.records]))
    (record,) = (r for r in caplog.records if getattr(r, "request_id", "") == "a-1")
    line = json.loads(JsonLines().format(record))
    assert line["status"] == 200
    assert line["path"] == "/candidates"
    assert 0 < line["search_milliseconds"] < line["milliseconds"]
    assert "s3cret" not in str(line)

    forged = shop.http.get("/healthz", headers={"X-Request-ID": 'x"} {"level": "x'})
    assert len(forged.headers["x-request-id"]) == 32
    assert shop.http.get("/nowhere").headers["x-request-id"]
    shop.http.post("/candidates", json={})
    labels = {"method": "POST", "route": "/candidates"}
    until(lambda: shop.metric("serving_requests_total", status="422", **labels) == 1)
    assert shop.metric("serving_requests_total", status="200", **labels) == 1
    none = {"method": "any", "route": "none", "status": "404"}
    assert shop.metric("serving_requests_total", **none) == 1
    for stage in ("tower", "search", "merge"):
        assert shop.metric("serving_stage_seconds_count", stage=stage) == 1
    assert shop.metric("serving_users_total", source="model") == 1
    assert "serving_request_seconds_bucket" in shop.http.get("/metrics").text


def test_a_failure_of_the_code_is_an_answer_with_the_id(shop, monkeypatch, caplog):
    monkeypatch.setattr("paddlerec_milvus.serving.recommender.parse", lambda *arguments: 1 / 0)
    answer = shop.http.post("/candidates", json={}, headers={"X-Request-ID": "b-2"})
    assert answer.status_code == 500
    assert answer.json()["request_id"] == "b-2"
    (record,) = (r for r in caplog.records if r.exc_info)
    assert "ZeroDivisionError" in json.loads(JsonLines().format(record))["traceback"]
