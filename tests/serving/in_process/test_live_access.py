# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Who may change items and users."""

from __future__ import annotations

import pytest
from in_process import ITEMS, in_process_app
from running_service import ADMIN, KEYS, OF_USERS, READER, WRITER

CALLS = [
    ("POST", "/items", {"items": [{"id": 7, "vector": [1.0]}]}, WRITER),
    ("DELETE", "/items/7", None, WRITER),
    ("POST", "/users/3/events", {"items": [5]}, WRITER),
    ("GET", "/users/3/candidates", None, OF_USERS),
    ("DELETE", "/users/3", None, ADMIN),
]


@pytest.fixture(scope="module")
def guarded():
    with in_process_app(keys=KEYS) as started:
        yield started


@pytest.mark.parametrize(("method", "path", "body", "least"), CALLS)
def test_each_call_needs_its_role(guarded, method, path, body, least):
    for given in (None, "nobody", READER, OF_USERS, WRITER, ADMIN):
        headers = {} if given is None else {"X-API-Key": given}
        answer = guarded.http.request(method, path, json=body, headers=headers)
        if given in (None, "nobody"):
            assert answer.status_code == 401
        elif given < least:
            assert answer.status_code == 403
        else:
            assert answer.status_code in (200, 422)
    assert guarded.http.get("/count", headers={"X-API-Key": READER}).json()["count"] <= ITEMS


def test_refused_calls_change_nothing(guarded):
    """Neither items nor users."""
    admin, reader = {"X-API-Key": ADMIN}, {"X-API-Key": READER}
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


def test_without_keys_only_this_machine_changes_items_and_touches_users(service):
    elsewhere = {"X-Forwarded-For": "203.0.113.9"}
    for method, path, body, _ in CALLS:
        answer = service.http.request(method, path, json=body, headers=elsewhere)
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Host": "rebound.example", "Origin": "http://rebound.example"},
        {"Origin": "https://elsewhere.example"},
        {"X-Forwarded-For": "127.0.0.1"},
    ],
)
def test_a_history_is_given_to_no_foreign_page(shop, headers):
    """With and without ``exclude_history`` the difference would be what the user has clicked."""
    shop.http.post("/users/4/events", json={"items": [5, 6, 7]})
    lists = []
    for exclude in (True, False):
        query = {"exclude_history": exclude, "top_k": ITEMS, "consistency": "Strong"}
        assert (
            shop.http.get("/users/4/candidates", params=query, headers=headers).status_code == 401
        )
        lists.append(shop.http.get("/users/4/candidates", params=query).json()["candidates"][0])
    assert set(lists[1]) - set(lists[0]) == {5, 6, 7}  # what this machine may see
