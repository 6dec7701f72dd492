# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Every call that writes, as the application has them: refused without its key, nothing changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from in_process import DIMENSION, ITEMS, in_process_app
from running_service import ADMIN, KEYS, OF_USERS, READER, WRITER, Running

from paddlerec_milvus.serving.schemas import items_example

# all other POSTs write
READS = ("/candidates", "/recommend", "/count", "/explain", "/alternatives")
READING = {("POST", path) for path in READS}
ADMINS = {
    ("POST", "/rollback"),
    ("POST", "/delete"),
    ("DELETE", "/delete"),
    ("DELETE", "/users/{user}"),
}
NEED_MILVUS = {"/insert", "/rollback", "/delete"}
BODIES = {
    "/items": items_example(9, DIMENSION),
    "/users/{user}/events": {"items": [5]},
}


def calls_of(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of every call, also of those that OpenAPI does not show."""
    routes = [
        each
        for route in app.routes
        for each in getattr(getattr(route, "original_router", None), "routes", [route])
    ]
    return {(method, route.path_format) for route in routes for method in route.methods}


def writing_calls(app: FastAPI) -> list[tuple[str, str]]:
    return sorted(
        call for call in calls_of(app) - READING if call[0] not in ("GET", "HEAD", "OPTIONS")
    )


def ask(service: Running, call: tuple[str, str], given: str | None) -> httpx.Response:
    method, path = call
    headers = {} if given is None else {"X-API-Key": given}
    where = path.format(item=9, user=4)
    return service.http.request(method, where, json=BODIES.get(path), headers=headers)


def everything(service: Running) -> dict[str, Any]:
    """What a writing call could change."""
    reader = {"X-API-Key": OF_USERS}
    current = service.service.current
    assert current is not None
    asked = {"hist_item": [[3, 7]], "top_k": ITEMS, "consistency": "Strong"}
    user = {"top_k": ITEMS, "consistency": "Strong"}
    return {
        "version": current.version,
        "count": service.http.get("/count", headers=reader).json(),
        "candidates": service.http.post("/candidates", json=asked, headers=reader).json(),
        "user": service.http.get("/users/4/candidates", params=user, headers=reader).json(),
    }


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    """One with a user who has clicked."""
    with in_process_app(keys=KEYS) as started:
        assert ask(started, ("POST", "/users/{user}/events"), WRITER).status_code == 200
        yield started


def test_writing_calls_are_found(guarded):
    calls = writing_calls(guarded.app)
    others = {("POST", "/insert"), ("POST", "/items"), ("POST", "/users/{user}/events")}
    assert ADMINS | others | {("DELETE", "/items/{item}")} <= set(calls)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        *((None, 401), ("", 401), ("nobody", 401), (ADMIN[:-1], 401)),
        *((READER, 403), (OF_USERS, 403)),
    ],
)
def test_no_call_writes_without_its_key(guarded, given, status):
    before = everything(guarded)
    for call in writing_calls(guarded.app):
        assert ask(guarded, call, given).status_code == status, call
    guarded.service.refresh()
    assert everything(guarded) == before


def test_a_write_key_is_no_admins(guarded):
    before = everything(guarded)
    for call in ADMINS:
        assert ask(guarded, call, WRITER).status_code == 403, call
    guarded.service.refresh()
    assert everything(guarded) == before


def test_with_the_right_key_each_is_carried_out(guarded):
    """So the refusals above were of the keys."""
    calls = writing_calls(guarded.app)
    before = everything(guarded)
    for call in calls:
        answer = ask(guarded, call, ADMIN if call in ADMINS else WRITER)
        if call[1] in NEED_MILVUS:
            assert answer.status_code == 409
            assert "without Milvus" in answer.json()["detail"]
        else:
            assert answer.status_code == 200, (call, answer.text)
    after = everything(guarded)
    assert after["candidates"] != before["candidates"]
    assert after["user"] != before["user"]
