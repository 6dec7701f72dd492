# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Metrics for Prometheus, log lines as JSON, and around every request: an id, a line, a count.

The middleware answers even where the code failed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import sys
import time
import uuid
from datetime import datetime, timezone
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pythonjsonlogger.json import JsonFormatter
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)
audit = logging.getLogger("paddlerec_milvus.serving.audit")

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
REQUEST_ID = "X-Request-ID"
_USABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # anything else could forge log lines
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
GONE = 499  # the caller hung up; no standard status says so, nginx' does


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "serving_requests",
            "Answered requests",
            ["method", "route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "serving_request_seconds",
            "From a request's head to the end of its answer",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "serving_stage_seconds",
            "What a request for candidates waited for: tower, search, merge",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.users = Counter(
            "serving_users", "Lists of candidates by their source", ["source"], registry=registry
        )
        count = partial(_counter, registry)
        self.fallbacks = count(
            "fallbacks", "Requests answered with popular items", reason="not_ready deadline failure"
        )
        self.unranked = count(
            "unranked",
            "Requests whose lists stay in the model's order",
            reason="absent deadline failure",
        )
        self.shown = count(
            "shown_lists",
            "Lists for the log of what was shown; failed: disk, dropped: too many wait",
            outcome="written failed dropped",
        )
        self.shadows = count(
            "shadow_requests",
            "Requests with a shadow to log",
            outcome="logged absent deadline failure dropped",
        )
        self.refused_connections = count(
            "refused_connections",
            "Connections closed before a request had come: too slow, too large a head, too many",
            status="408 431 503",
        )
        self.version = Gauge(
            "serving_collection_version",
            "3 while items_v3 answers, 0 while popular items do",
            registry=registry,
        )
        self.breaker = Gauge(
            "serving_breaker_open", "1 while no search is tried", registry=registry
        )
        self.ready = Gauge("serving_ready", "1 while /readyz says so", registry=registry)
        self.probes = ProbeMetrics(registry)


class ProbeMetrics:
    """What the service finds out by itself; NaN as long as it does not know."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            made = Gauge(f"serving_{name}", text, registry=registry)
            made.set(math.nan)
            return made

        self.recall = gauge("index_recall", "index_recall@50 of what serves, at the last probe")
        self.recall_at = gauge(
            "index_recall_timestamp_seconds", "When the last such probe ended; 0: none has"
        )
        self.least_recall = gauge("index_recall_least", "SERVING_LEAST_RECALL")
        self.recall_seconds = gauge("index_recall_interval_seconds", "SERVING_RECALL_SECONDS")
        self.recalls = _counter(
            registry,
            "index_recall_probes",
            "Probes of index_recall; skipped: the model does not answer",
            outcome="done skipped failed",
        )
        self.inserted_at = gauge(
            "version_inserted_timestamp_seconds", "When the version that serves was inserted"
        )
        self.item_freshness = gauge(
            "item_freshness_seconds",
            "From the answer to a write of items until others could see it, the last one tried; "
            "60: not by then",
        )
        self.histories = gauge(
            "histories_up", "1 while the store of users' clicks answers, 0 while it does not"
        )


def _counter(registry: CollectorRegistry, name: str, text: str, **label: str) -> Counter:
    """With all values of its one label: a rate misses the step by which a series begins."""
    ((key, values),) = label.items()
    made = Counter(f"serving_{name}", text, [key], registry=registry)
    for value in values.split():
        made.labels(value)
    return made


class JsonLines(JsonFormatter):
    """Time, level, logger, message, then whatever fields a record brings as ``extra``."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={
                "asctime": "time",
                "levelname": "level",
                "name": "logger",
                "exc_info": "traceback",
            },
            json_ensure_ascii=False,
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """The time in UTC as ISO 8601 has it, with milliseconds."""
        return datetime.fromtimestamp(record.created, timezone.utc).isoformat(
            timespec="milliseconds"
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """A line's fields in their order: a traceback comes last."""
        if "traceback" in log_data:
            log_data["traceback"] = log_data.pop("traceback")
        return log_data


def log_json_lines() -> None:
    """Send this package's log to stderr; our line for a request takes the place of uvicorn's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("paddlerec_milvus")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").handlers.clear()
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # Milvus Lite's, a dozen lines


class RequestRecorder:
    """ASGI middleware that every request passes first and every answer last."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with its id in the headers and in a log line."""
        if scope["type"] != "http":
            await self._app(scope, receive, _with_reason(scope, send))
            return
        began, status = time.perf_counter(), 0
        request_id = Headers(scope=scope).get(REQUEST_ID, "")
        if not _USABLE_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
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
            logger.exception("a request failed", extra={"request_id": request_id})
            if status:
                raise
            content = {"detail": "the service failed; look for this request_id in its log"}
            content["request_id"] = request_id
            await JSONResponse(content, 500)(scope, receive, sending)
        finally:
            self._record(scope, status or GONE, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in METHODS else "other"
        method = "any" if route == "none" else method  # callers may invent both
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
        logger.info("request", extra=fields)
        if writer := scope["state"].get("writer"):
            _audit(writer, f"{scope['method']} {route}", fields)


def _audit(writer: str, call: str, request: dict[str, Any]) -> None:
    """A line for a call that writes: by which role, which call, and whether it was carried out."""
    status = request["status"]
    outcome = "done" if status < 400 else "refused" if status < GONE else "unknown"
    names = ("request_id", "path", "status")
    fields = {"role": writer, "call": call, "outcome": outcome}
    audit.info("write", extra=fields | {name: request[name] for name in names})


def _with_reason(scope: Scope, send: Send) -> Send:
    """``send`` that tells the user's mistake that ended the start in place of a traceback."""

    async def sending(message: Message) -> None:
        refused = getattr(scope["app"].state, "refused", "")
        if message["type"] == "lifespan.startup.failed" and refused:
            message = {**message, "message": f"error: {refused}"}
        await send(message)

    return sending
