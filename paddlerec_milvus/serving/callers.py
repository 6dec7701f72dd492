# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Who calls: by the key, without one by the address; and how much of it there may be."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request
from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from paddlerec_milvus.serving.auth import Keys
from paddlerec_milvus.serving.fair_queue import Caller

UNLIMITED = ("/healthz", "/readyz", "/metrics", "/", "/docs", "/page/{file}", "/openapi.json")


def caller_of(request: Request) -> Caller:
    """The caller of a request: all connections of a key or an address are one."""
    host, port = request.client or ("", 0)
    return Caller(_name_of(request) or host, f"{host}:{port}")


def _name_of(request: Request) -> str:
    """A name for the key of a request; empty: it has none that is known."""
    keys: Keys = request.app.state.settings.keys
    if not keys.entries:
        return ""
    headers = request.headers
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    key = bearer if scheme.lower() == "bearer" and bearer else headers.get("x-api-key", "")
    secret = key.encode("latin-1", "replace")
    if keys.role_of(secret) is None:
        return ""
    return f"key {hashlib.sha256(secret).hexdigest()[:16]}"


def within_rates(rates: list[RateLimitItem]) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets a caller through as often as all ``rates`` allow, else 429.

    Each process counts for itself. Probes and the page's files are not counted.
    """
    limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def check(request: Request) -> None:
        if getattr(request.scope.get("route"), "path", "") in UNLIMITED:
            return
        name = caller_of(request).name
        for rate in rates:
            if not limiter.hit(rate, name):
                reset = limiter.get_window_stats(rate, name).reset_time
                seconds = max(1, math.ceil(reset - time.time()))
                raise HTTPException(
                    429,
                    f"more calls than {rate}: try again in {seconds} s",
                    headers={"Retry-After": str(seconds)},
                )

    return check
