# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Who may call what."""

from __future__ import annotations

import socket

import pytest
from in_process import ITEMS, in_process_app

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.serving.auth import Keys, Role

KEYS = Keys.parse("read:abc, write:def,admin:ghi:jkl")
WRITING = [("POST", "/insert"), ("POST", "/delete"), ("DELETE", "/delete")]
READING = [("GET", "/count"), ("POST", "/count")]


@pytest.fixture(scope="module")
def guarded():
    with in_process_app(keys=KEYS) as started:
        yield started


def key(value: str) -> dict[str, str]:
    return {"X-API-Key": value}


@pytest.mark.parametrize(("method", "path"), WRITING)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (key("nobody"), 401),
        (key("ab"), 401),
        (key("abcd"), 401),
        (key(""), 401),
        ({"X-API-Key": b"\xff\xfe"}, 401),
        ({"Authorization": "Bearer nobody"}, 401),
        ({"Authorization": "Basic ZGVm"}, 401),
        (key("abc"), 403),
        ({"Authorization": "Bearer abc"}, 403),
    ],
)
def test_writing_without_the_right_key_is_refused_and_changes_nothing(
    guarded, method, path, headers, status
):
    answer = guarded.http.request(method, path, headers=headers)
    assert answer.status_code == status
    assert "def" not in answer.text
    assert guarded.http.get("/count", headers=key("abc")).json()["count"] == ITEMS


def test_each_role_has_its_rights(guarded):
    for method, path in READING:
        assert guarded.http.request(method, path).status_code == 401
        for secret in ("abc", "def", "ghi:jkl"):
            assert guarded.http.request(method, path, headers=key(secret)).status_code == 200
    assert guarded.http.post("/candidates", json={"hist_item": [[1]]}).status_code == 401
    assert guarded.http.delete("/delete", headers=key("def")).status_code == 403
    bearer = {"Authorization": "Bearer ghi:jkl"}
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
        key("abc"),
    ],
)
def test_without_keys_only_this_machine_writes(service, headers):
    """Not what came by a proxy, not a page of another site, not a name that was pointed here."""
    for method, path in WRITING:
        assert service.http.request(method, path, headers=headers).status_code in (400, 401)
    assert service.http.get("/count").json()["count"] == ITEMS


def test_without_keys_nobody_writes_while_others_can_reach_the_service():
    """A proxy on this machine that says nothing of itself looks like this machine."""
    with socket.create_server(("0.0.0.0", 0)), in_process_app() as service:
        for method, path in WRITING:
            answer = service.http.request(method, path)
            assert answer.status_code == 401
            assert "while it listens on loopback alone" in answer.json()["detail"]
        assert service.http.get("/count").json()["count"] == ITEMS


def test_without_keys_our_own_page_writes(service):
    headers = {"Origin": service.url}
    assert service.http.delete("/items/999", headers=headers).status_code == 200


def test_a_browser_of_another_site_reads_nothing(service):
    answer = service.http.get("/count", headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_keys_are_parsed_and_hidden():
    assert KEYS.role_of(b"abc") == Role.READ
    assert KEYS.role_of(b"ghi:jkl") == Role.ADMIN
    assert KEYS.role_of(b"ghi") is None
    assert "abc" not in repr(KEYS)
    assert Keys.parse("") == Keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3cret", "entry 1 is not ROLE:KEY"),
        ("read:a,wirte:s3cret", r"entry 2 has no known role \(did you mean 'write'"),
        ("read:s3cret,write:s3cret", "entry 2 has a key that came before"),
        ("read:", "entry 1 is not ROLE:KEY"),
        ("read:a,", "entry 2 is not ROLE:KEY"),
    ],
)
def test_unusable_keys_are_told_without_the_key(text, message):
    with pytest.raises(SettingsError, match=message) as raised:
        Keys.parse(text)
    assert "s3cret" not in str(raised.value)
