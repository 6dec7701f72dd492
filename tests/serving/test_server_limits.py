# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a connection may do, by sockets, under both of uvicorn's protocols."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from in_process import SmallIndex, TinyEncoder, tiny_settings
from running_service import until

from paddlerec_milvus.serving.app import create_app
from paddlerec_milvus.serving.server_limits import MOST_HEAD

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /candidates HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = b'{"hist_item": [[3]]}'


@contextlib.contextmanager
def served(http: str = "httptools", **settings) -> Iterator[tuple[str, int]]:
    """A service that uvicorn was started with by hand; its address."""
    encoder = TinyEncoder()
    app = create_app(tiny_settings(**settings), SmallIndex(encoder.item_vectors()), encoder)
    config = uvicorn.Config(
        app, port=0, log_config=None, ws="none", http=http, timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started or not thread.is_alive(), 60)
    assert server.started
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(params=["httptools", "h11"])
def address(request, monkeypatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr("paddlerec_milvus.serving.server_limits.LINGER_SECONDS", 0.2)
    with served(request.param) as started:
        yield started


def answer_to(address: tuple[str, int], *parts: bytes) -> bytes:
    """What the server answers until it closes; parts are sent one after the other."""
    with socket.create_connection(address, 20) as caller:
        for part in parts:
            caller.sendall(part)
        return rest_of(caller)


def rest_of(caller: socket.socket) -> bytes:
    received = b""
    while part := caller.recv(65_536):
        received += part
    return received


def head(size: int, start: bytes = GET) -> bytes:
    """A head of ``size`` bytes."""
    rest = size - len(start) - len(b"Connection: close\r\nX-Long: \r\n\r\n")
    return start + b"Connection: close\r\nX-Long: " + b"x" * rest + b"\r\n\r\n"


def test_a_head_may_have_64_kb(address):
    assert answer_to(address, head(MOST_HEAD)).startswith(b"HTTP/1.1 200")
    refused = answer_to(address, head(MOST_HEAD + 1))
    assert refused.startswith(b"HTTP/1.1 431 ")
    assert b"above 65,536 bytes" in refused
    many = [b"X-%d: %s\r\n" % (number, b"x" * 90) for number in range(700)]
    assert answer_to(address, GET, *many).startswith(b"HTTP/1.1 431 ")
    assert answer_to(address, b"GET /" + b"x" * 70_000).startswith(b"HTTP/1.1 431 ")


def test_a_body_is_no_head(address):
    length = b"Content-Length: %d\r\nConnection: close\r\n\r\n"
    body = b" " * 200_000 + BODY
    whole = POST + length % len(body) + body
    assert answer_to(address, whole).startswith(b"HTTP/1.1 200")
    parts = [whole[start : start + 50_000] for start in range(0, len(whole), 50_000)]
    assert answer_to(address, *parts).startswith(b"HTTP/1.1 200")


def test_connections_that_are_kept_are_limited_each_time(address):
    with httpx.Client(base_url="http://{}:{}".format(*address)) as caller:
        for _ in range(3):
            assert caller.post("/candidates", content=BODY).status_code == 200
            assert caller.get("/healthz", headers={"X": "x" * 60_000}).status_code == 200
            # refused before its body has come, which then is no head
            assert caller.post("/nowhere", content=b"x" * 300_000).status_code == 404
        answer = caller.get("/healthz", headers={"X": "x" * 70_000})
        assert answer.status_code == 431, answer.text


def test_a_head_of_32_mb_is_refused_and_keeps_nobody_waiting(address):
    end, waits = threading.Event(), []

    def probe() -> None:
        with httpx.Client(base_url="http://{}:{}".format(*address)) as caller:
            while not end.is_set():
                began = time.monotonic()
                assert caller.get("/healthz").status_code == 200
                waits.append(time.monotonic() - began)

    prober = threading.Thread(target=probe)
    prober.start()
    until(lambda: waits)
    long = GET + b"X-Long: " + b"x" * (32 << 20)
    assert answer_to(address, long).startswith(b"HTTP/1.1 431 ")
    end.set()
    prober.join(30)
    assert len(waits) > 1
    assert sorted(waits)[len(waits) // 2] < 0.5


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_half_sent_requests_are_closed(http):
    halves = [
        b"",
        b"GET /heal",
        GET,
        GET + b"X: ",
        POST + b"Content-Length: 100\r\n\r\n" + BODY,
        POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\n    \r\n",
        GET + b"\r\n" + GET[:9],  # the second one of a connection
    ]
    with served(http, receive_timeout=1.0) as address, contextlib.ExitStack() as ends:
        callers = []
        for number in range(400):
            caller = ends.enter_context(socket.create_connection(address, 30))
            caller.sendall(halves[number % len(halves)])
            callers.append(caller)
        with httpx.Client(base_url="http://{}:{}".format(*address)) as other:
            assert other.post("/candidates", content=BODY).status_code == 200
        for number, caller in enumerate(callers):
            answer = rest_of(caller)  # ends when the server closes
            if number % len(halves) < 6:
                assert answer.startswith(b"HTTP/1.1 408 "), (number, answer)
                assert b"within 1 s" in answer
            else:
                assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_slow_caller_has_its_time_and_an_idle_connection_is_kept(address):
    whole = POST + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY) + BODY
    with socket.create_connection(address, 20) as caller:
        for start in range(0, len(whole), 25):
            caller.sendall(whole[start : start + 25])
            time.sleep(0.01)
        assert rest_of(caller).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_more_connections_than_the_limit_are_told_so(http):
    with served(http, max_connections=3) as address:
        with contextlib.ExitStack() as ends:
            for _ in range(3):
                ends.enter_context(socket.create_connection(address, 20)).sendall(GET)
            until(lambda: answer_to(address).startswith(b"HTTP/1.1 503 "))
            assert b"Retry-After: 1\r\n" in answer_to(address)
        until(lambda: answer_to(address, head(200)).startswith(b"HTTP/1.1 200 "))
        metrics = httpx.get(f"http://{address[0]}:{address[1]}/metrics").text
        assert 'serving_refused_connections_total{status="503"} ' in metrics
        assert 'serving_refused_connections_total{status="503"} 0.0' not in metrics


def test_another_server_is_told_what_it_has_to_do_itself(caplog):
    """One of which nothing is known: the application limits what has come."""
    app = create_app(
        tiny_settings(receive_timeout=0.2), SmallIndex(TinyEncoder().item_vectors()), TinyEncoder()
    )
    sent = []

    async def send(message) -> None:
        sent.append(message)

    async def never() -> None:
        await asyncio.Event().wait()

    async def serve() -> None:
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive():
            message = next(messages)
            if message["type"] == "lifespan.shutdown":
                scope = {"type": "http", "method": "POST", "path": "/candidates"}
                scope |= {"headers": [], "query_string": b"", "client": ("127.0.0.1", 5)}
                await app(scope, never, send)
            return message

        await app({"type": "lifespan", "state": {}}, receive, send)

    caplog.set_level(logging.WARNING, "paddlerec_milvus")
    asyncio.run(serve())
    assert "this server is not uvicorn" in caplog.text
    (start,) = (message for message in sent if message["type"] == "http.response.start")
    assert start["status"] == 408
