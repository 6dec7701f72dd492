# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Who may call what."""

from __future__ import annotations

import json
import logging
import socket

import pytest
from in_process import ITEMS, in_process_app, tiny_settings
from running_service import ADMIN, KEYS, OF_USERS, READER, WRITER

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.serving.auth import Keys, Role
from paddlerec_milvus.serving.gate import require_keys
from paddlerec_milvus.serving.observability import JsonLines

WRITING = [("POST", "/insert"), ("POST", "/delete"), ("DELETE", "/delete")]
READING = [("GET", "/count"), ("POST", "/count"), ("GET", "/alternatives"), ("GET", "/categories")]


@pytest.fixture(scope="module")
def guarded():
    with in_process_app(keys=KEYS) as started:
        yield started


def key(value: str | bytes) -> dict[str, str | bytes]:
    return {"X-API-Key": value}


@pytest.mark.parametrize(("method", "path"), WRITING)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (key("nobody"), 401),
        (key(WRITER[:-1]), 401),
        (key(WRITER + "a"), 401),
        (key(""), 401),
        (key(b"\xff\xfe"), 401),
        ({"Authorization": "Bearer nobody"}, 401),
        ({"Authorization": "Basic ZGVm"}, 401),
        (key(READER), 403),
        (key(OF_USERS), 403),
        ({"Authorization": f"Bearer {READER}"}, 403),
    ],
)
def test_writing_without_the_right_key_is_refused_and_changes_nothing(
    guarded, method, path, headers, status
):
    answer = guarded.http.request(method, path, headers=headers)
    assert answer.status_code == status
    assert WRITER not in answer.text
    assert guarded.http.get("/count", headers=key(READER)).json()["count"] == ITEMS


def test_each_role_has_its_rights(guarded):
    for method, path in READING:
        assert guarded.http.request(method, path).status_code == 401
        for secret in (READER, OF_USERS, WRITER, ADMIN):
            assert guarded.http.request(method, path, headers=key(secret)).status_code == 200
    assert guarded.http.post("/candidates", json={"hist_item": [[1]]}).status_code == 401
    assert guarded.http.get("/users/3/candidates", headers=key(READER)).status_code == 403
    assert guarded.http.get("/users/3/candidates", headers=key(OF_USERS)).status_code == 200
    assert guarded.http.delete("/delete", headers=key(WRITER)).status_code == 403
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    assert guarded.http.delete("/items/999", headers=bearer).status_code == 200
    for path in ("/healthz", "/readyz", "/metrics", "/docs"):
        assert guarded.http.get(path).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=203.0.113.9"},
        {"Via": "1.1 proxy"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Host": "elsewhere.example"},
        {"Host": "[::1"},
        key(READER),
    ],
)
def test_without_keys_only_this_machine_writes(service, headers):
    """Not what came by a proxy, not a page of another site, not a name that was pointed here."""
    for method, path in WRITING:
        assert service.http.request(method, path, headers=headers).status_code in (400, 401)
    assert service.http.get("/count").json()["count"] == ITEMS


def test_without_keys_nobody_is_answered_while_others_can_reach_the_service():
    """A proxy on this machine that says nothing of itself looks like this machine."""
    with socket.create_server(("0.0.0.0", 0)):
        with in_process_app() as service:
            for method, path in [*WRITING, *READING, ("GET", "/"), ("GET", "/metrics")]:
                answer = service.http.request(method, path)
                assert answer.status_code == 403
                assert "start it with SERVING_KEYS=" in answer.json()["detail"]
            for path in ("/healthz", "/readyz"):
                assert service.http.get(path).status_code == 200
        with in_process_app(open=True) as service:
            for method, path in [*WRITING, ("GET", "/users/3/candidates")]:
                answer = service.http.request(method, path)
                assert answer.status_code == 401
                assert "while it listens on loopback alone" in answer.json()["detail"]
            assert service.http.get("/count").json()["count"] == ITEMS
        with in_process_app(keys=KEYS) as service:
            assert service.http.get("/count", headers=key(READER)).status_code == 200


def test_a_start_on_addresses_of_others_needs_keys():
    for host in ("0.0.0.0", "::", "192.0.2.7", "shop.example", ""):
        with pytest.raises(
            SettingsError, match=f"--host {host}: others can reach .* SERVING_OPEN=1"
        ):
            require_keys(tiny_settings(), host)
        require_keys(tiny_settings(keys=KEYS), host)
        require_keys(tiny_settings(open=True), host)
    for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost"):
        require_keys(tiny_settings(), host)


def test_other_names_than_the_services_own_are_refused():
    """The probes know none."""
    with in_process_app(keys=KEYS, hosts="shop.example, Candidates.svc") as service:

        def status(path: str, host: str) -> int:
            return service.http.get(path, headers={**key(READER), "Host": host}).status_code

        for host in ("shop.example", "candidates.svc:8000", "127.0.0.1:9", "localhost", "[::1]:80"):
            assert status("/count", host) == 200
        for host in ("elsewhere.example", "shop.example.elsewhere.example", "10.0.0.7", "[::1", ""):
            assert status("/count", host) == 403
            assert status("/", host) == 403
            assert status("/healthz", host) == status("/readyz", host) == 200
    with pytest.raises(ValueError, match="hosts"):
        tiny_settings(hosts="http://shop.example/")


@pytest.mark.parametrize(
    ("setting", "paths"), [("metrics", ["/metrics"]), ("docs", ["/docs", "/openapi.json"])]
)
def test_metrics_and_docs_can_be_closed(setting, paths):
    with in_process_app(keys=KEYS, **{setting: "closed"}) as service:
        for path in paths:
            assert service.http.get(path).status_code == 401
            assert service.http.get(path, headers=key("nobody")).status_code == 401
            assert service.http.get(path, headers=key(READER)).status_code == 200
            bearer = {"Authorization": f"bearer {OF_USERS}"}
            assert service.http.get(path, headers=bearer).status_code == 200
        assert service.http.get("/page/page.js").status_code == 200
    with in_process_app(**{setting: "closed"}) as service:
        for path in paths:
            assert service.http.get(path).status_code == 200
            assert service.http.get(path, headers={"Host": "rebound.example"}).status_code == 401


def test_without_keys_our_own_page_writes(service):
    headers = {"Origin": service.url}
    assert service.http.delete("/items/999", headers=headers).status_code == 200


def test_a_browser_of_another_site_reads_nothing(service):
    answer = service.http.get("/count", headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_each_write_leaves_a_line_of_role_call_and_outcome(guarded, caplog):
    caplog.set_level(logging.INFO, "paddlerec_milvus")
    calls = [
        ("POST", "/users/4/events", {"items": [5]}, WRITER, "write", "done"),
        ("POST", "/users/4/events", {"items": 5}, WRITER, "write", "refused"),
        ("POST", "/users/4/events", {"items": [5]}, OF_USERS, "users", "refused"),
        ("DELETE", "/users/4", None, ADMIN, "admin", "done"),
        ("DELETE", "/users/4", None, "nobody", "unknown", "refused"),
        ("POST", "/insert", None, None, "none", "refused"),
        ("POST", "/candidates", {"hist_item": [[1]]}, READER, None, None),
    ]
    for method, path, body, secret, *_ in calls:
        headers = key(secret) if secret else {}
        guarded.http.request(method, path, json=body, headers=headers)
    records = [r for r in caplog.records if r.name == "paddlerec_milvus.serving.audit"]
    lines = [json.loads(JsonLines().format(record)) for record in records]
    expected = [
        (role, f"{method} {path}", outcome) for method, path, *_, role, outcome in calls if role
    ]
    routes = {"/users/{user:path}": "/users/4", "/users/{user:path}/events": "/users/4/events"}
    for line, (role, call, outcome) in zip(lines, expected, strict=True):
        method, _, route = line["call"].partition(" ")
        assert (line["role"], line["outcome"]) == (role, outcome)
        assert f"{method} {routes.get(route, route)}" == call == f"{method} {line['path']}"
        assert line["request_id"]
        assert not any(secret in str(line) for secret in (WRITER, OF_USERS, ADMIN, "nobody"))


def test_keys_are_parsed_and_hidden():
    assert KEYS.role_of(READER.encode()) == Role.READ
    colon = Keys.parse("admin:0123456789:abcdef")
    assert colon.role_of(b"0123456789:abcdef") == Role.ADMIN
    assert colon.role_of(b"0123456789") is None
    assert READER not in repr(KEYS)
    assert Keys.parse("") == Keys()


def test_a_role_has_several_keys_while_they_are_changed():
    rotating = Keys.parse(f"users:{READER},users:{WRITER}")
    assert rotating.role_of(READER.encode()) == rotating.role_of(WRITER.encode()) == Role.USERS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3cret", "entry 1 is not ROLE:KEY"),
        (f"read:{READER},wirte:s3cret", r"entry 2 has no known role \(did you mean 'write'"),
        (f"read:s3cret{READER},write:s3cret{READER}", "entry 2 has a key that came before"),
        ("read:", "entry 1 is not ROLE:KEY"),
        (f"read:{READER},", "entry 2 is not ROLE:KEY"),
        (f"read:{READER},write:s3cret789012345", "entry 2: a key has at least 16 characters"),
        ("read:s3cret 90123456789", "entry 1: a key has at least 16 characters"),
        ("read:s3cret7890123456é", "entry 1: a key has at least 16 characters"),
    ],
)
def test_unusable_keys_are_told_without_the_key(text, message):
    with pytest.raises(SettingsError, match=message) as raised:
        Keys.parse(text)
    assert "s3cret" not in str(raised.value)
