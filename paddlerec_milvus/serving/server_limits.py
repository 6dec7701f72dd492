# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a connection may do: the size of a request's head, the time to send it, and how many.

Only a server sees these; uvicorn has no settings for them. But it makes its protocol objects of a
class that its configuration names, and the application finds that configuration at its start, so
the limits hold whether uvicorn is started here, by hand or by gunicorn. Under another server heads
and bodies are limited once they are there, and a line in the log says what is missing.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import h11
from fastapi import FastAPI, HTTPException
from prometheus_client import Counter
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paddlerec_milvus.serving.settings import ServiceSettings

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as UvicornProtocol
else:
    UvicornProtocol = object

logger = logging.getLogger(__name__)

MOST_HEAD = 65_536  # bytes
OWN_FILES = 128  # that a process needs beside its connections
LINGER_SECONDS = 2.0  # for a caller that is refused while it sends, to read why
HEAD_END = b"\r\n\r\n"
REASONS = {
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


@dataclass(frozen=True)
class ConnectionLimits:
    """Of all connections of a process, and of each."""

    connections: int
    seconds: float
    """To send a request."""
    head: int = MOST_HEAD
    """Bytes of a request's head."""

    @classmethod
    def of(cls, settings: ServiceSettings) -> ConnectionLimits:
        """Those of ``settings``, with no more connections than the process may have files."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = settings.max_connections
        if files != resource.RLIM_INFINITY:
            most = min(most, max(files - OWN_FILES, 1))
        return cls(most, settings.receive_timeout)


class LimitedConnection(UvicornProtocol):
    """Put before one of uvicorn's two protocols, it keeps ``limits``; one object a connection."""

    limits: ClassVar[ConnectionLimits]
    refused: ClassVar[Counter]
    _head = 0  # bytes of the head that is under way
    _tail = b""
    _is_in_body = False
    _is_refused = False
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(503, f"more than {self.limits.connections:,} connections: try again")
        else:
            self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what is within the limits."""
        if self._is_refused:
            return
        before = self.cycle
        if not self._has_body_to_come():
            if self._head + len(data) > self.limits.head and not self._head_ends(data):
                self._refuse(431, _above(self.limits))
                return
            self._head += len(data)
            self._tail = data[-len(HEAD_END) + 1 :]
        super().data_received(data)
        if self.cycle is not before or self._has_body_to_come():
            self._head = 0
        if self._head or self._has_body_to_come():
            self._wait_for_request()
        else:
            self._stop_waiting()

    def on_headers_complete(self) -> None:
        """The parser of httptools has read a head."""
        self._is_in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The parser of httptools has read a request."""
        self._is_in_body = False
        super().on_message_complete()

    def _has_body_to_come(self) -> bool:
        """Whether what is received now belongs to a body, and not to a head."""
        parser = getattr(self, "conn", None)  # h11's
        return self._is_in_body if parser is None else parser.their_state is h11.SEND_BODY

    def _head_ends(self, data: bytes) -> bool:
        """Whether the head that is under way ends within its limit, in ``data``."""
        return HEAD_END in self._tail + data[: self.limits.head - self._head]

    def _wait_for_request(self) -> None:
        if self._end is None:
            self._end = self.loop.call_later(self.limits.seconds, self._too_late)

    def _stop_waiting(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None

    def _too_late(self) -> None:
        self._refuse(408, f"the request did not come within {self.limits.seconds:g} s")

    def _refuse(self, status: int, text: str) -> None:
        """Say why, read on for a moment, and close."""
        self._stop_waiting()
        self._is_refused = True
        self.refused.labels(status).inc()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:  # its answer must not be mixed with ours
                self.transport.close()
                return
            cycle.disconnected = True  # the application is told that the caller is gone
            cycle.message_event.set()
        body = JSONResponse({"detail": text}).body
        retry = "Retry-After: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + bytes(body))
        if status == 431:
            self._end = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()


def _above(limits: ConnectionLimits) -> str:
    return f"the head of the request is above {limits.head:,} bytes: send fewer or shorter headers"


def limit_server(app: FastAPI, config: Any) -> bool:
    """Let a server of ``config``, uvicorn's, keep the limits of ``app``; False: it cannot."""
    protocol: Any = getattr(config, "http_protocol_class", None)
    if getattr(protocol, "__name__", "") not in ("HttpToolsProtocol", "H11Protocol"):
        return False
    own = {
        "limits": ConnectionLimits.of(app.state.settings),
        "refused": app.state.metrics.refused_connections,
    }
    config.http_protocol_class = type("Limited", (LimitedConnection, protocol), own)
    if config.h11_max_incomplete_event_size is None:  # h11 answers 400 from 16 kB on
        config.h11_max_incomplete_event_size = 2 * MOST_HEAD
    app.state.has_limits = True
    return True


class ServedApp(FastAPI):
    """An application that limits the connections of the server that starts it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See to the limits at the start: uvicorn's ``receive`` then belongs to what knows it."""
        if scope["type"] == "lifespan":
            config = getattr(getattr(receive, "__self__", None), "config", None)
            if not limit_server(self, config):
                logger.warning(
                    "this server is not uvicorn with h11 or httptools: let it limit the heads of "
                    "requests, the time to send one and the number of connections itself"
                )
        await super().__call__(scope, receive, send)


class RequestLimits:
    """ASGI middleware: limits heads that are there, and under other servers the time for bodies.

    What comes in one piece with the request before it the protocol does not see as a head.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app, self._limits = app, ConnectionLimits.of(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on that is within the limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif sum(len(name) + len(value) for name, value in scope["headers"]) > self._limits.head:
            await JSONResponse({"detail": _above(self._limits)}, 431)(scope, receive, send)
        elif getattr(scope["app"].state, "has_limits", False):
            await self._app(scope, receive, send)
        else:
            await self._app(scope, self._in_time(receive), send)

    def _in_time(self, receive: Receive) -> Receive:
        """``receive`` of one request, whose body must come before the deadline."""
        loop, seconds, is_there = asyncio.get_running_loop(), self._limits.seconds, False
        end = loop.time() + seconds

        async def receiving() -> Message:
            nonlocal is_there
            if is_there:  # what comes now is the end of the connection
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), end - loop.time())
            except asyncio.TimeoutError:
                raise HTTPException(408, f"the request did not come within {seconds:g} s") from None
            is_there = not message.get("more_body", False)
            return message

        return receiving
