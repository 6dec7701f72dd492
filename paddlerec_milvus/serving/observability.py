# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Around every request: an id, a log line, metrics, and an answer even where the code failed."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paddlerec_milvus.serving.metrics import Metrics

logger = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"
_USABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # anything else could forge log lines
GONE = 499  # the caller hung up; no standard status says so, nginx' does


class Observed:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, _in_words(scope, send))
            return
        began, status = time.perf_counter(), 0
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _USABLE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            status = GONE
        except asyncio.CancelledError:  # the grace of an ending server is over
            if status:
                raise
            content = {"detail": "the service ends: what was asked for may be done or not"}
            await JSONResponse(content, 503)(scope, receive, sending)
        except Exception:
            logger.exception("a request failed", extra={"fields": {"request_id": request_id}})
            if status:
                raise
            content = {"detail": "the service failed; look for this request_id in its log"}
            content["request_id"] = request_id
            await JSONResponse(content, 500)(scope, receive, sending)
        finally:
            self._record(scope, status or GONE, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if route != "none" else "any"  # callers may invent both
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        stages = scope["state"].get("stages", {})
        fields = {
            "request_id": scope["state"]["request_id"],
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "milliseconds": round(1000 * seconds, 3),
            **{f"{stage}_milliseconds": round(1000 * took, 3) for stage, took in stages.items()},
        }
        logger.info("request", extra={"fields": fields})


def _in_words(scope: Scope, send: Send) -> Send:
    """``send`` that tells the user's mistake that ended the start in place of a traceback."""

    async def sending(message: Message) -> None:
        refused = getattr(scope["app"].state, "refused", "")
        if message["type"] == "lifespan.startup.failed" and refused:
            message = {**message, "message": f"error: {refused}"}
        await send(message)

    return sending
