# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Who may change items and users."""

from __future__ import annotations

import pytest
from in_process import ITEMS, in_process_app

from paddlerec_milvus.serving.auth import Keys

KEYS = Keys.parse("read:abc,write:def,admin:ghi")
CALLS = [
    ("POST", "/items", {"items": [{"id": 7, "vector": [1.0]}]}, "def"),
    ("DELETE", "/items/7", None, "def"),
    ("POST", "/users/3/events", {"items": [5]}, "def"),
    ("GET", "/users/3/candidates", None, "abc"),
    ("DELETE", "/users/3", None, "ghi"),
]


@pytest.fixture(scope="module")
def guarded():
    with in_process_app(keys=KEYS) as started:
        yield started


@pytest.mark.parametrize(("method", "path", "body", "least"), CALLS)
def test_each_call_needs_its_role(guarded, method, path, body, least):
    for given in (None, "nobody", "abc", "def", "ghi"):
        headers = {} if given is None else {"X-API-Key": given}
        answer = guarded.http.request(method, path, json=body, headers=headers)
        if given not in ("abc", "def", "ghi"):
            assert answer.status_code == 401
        elif given < least:
            assert answer.status_code == 403
        else:
            assert answer.status_code in (200, 422)
    assert guarded.http.get("/count", headers={"X-API-Key": "abc"}).json()["count"] <= ITEMS


def test_refused_calls_change_nothing(guarded):
    """Neither items nor users."""
    admin, reader = {"X-API-Key": "ghi"}, {"X-API-Key": "abc"}
    events = guarded.http.post("/users/4/events", json={"items": [5, 6]}, headers=admin)
    assert events.json()["history"] == 2
    before = guarded.http.get("/count", headers=reader).json()
    for headers in ({}, {"X-API-Key": "nobody"}, reader):
        guarded.http.delete("/items/9", headers=headers)
        guarded.http.post("/users/4/events", json={"items": [7]}, headers=headers)
        guarded.http.delete("/users/4", headers=headers)
    assert guarded.http.get("/count", headers=reader).json() == before
    events = guarded.http.post("/users/4/events", json={"items": [8]}, headers=admin)
    assert events.json()["history"] == 3


def test_without_keys_only_this_machine_changes_items_and_users(service):
    elsewhere = {"X-Forwarded-For": "203.0.113.9"}
    for method, path, body, least in CALLS:
        answer = service.http.request(method, path, json=body, headers=elsewhere)
        assert answer.status_code == (200 if least == "abc" else 401)
