# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What is refused before any call: foreign names, closed pages, others where no keys are."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.serving.auth import Role, judge
from paddlerec_milvus.serving.locality import is_loopback, is_own_name, is_private
from paddlerec_milvus.serving.settings import ServiceSettings

PROBES = ("/healthz", "/readyz")
NO_KEYS = (
    "others can reach this service, and it has no keys: start it with SERVING_KEYS="
    "read:…,users:…,write:…,admin:…, or with SERVING_OPEN=1 to answer reads of whoever comes"
)


def require_keys(settings: ServiceSettings, host: str) -> None:
    """SettingsError: at the address ``host`` others can reach a service without keys."""
    if not (settings.keys.entries or settings.open or is_loopback(host)):
        raise SettingsError(f"--host {host}: {NO_KEYS}, or on 127.0.0.1")


class Gate:
    """ASGI middleware before all calls but the probes, which know no keys and no names."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._settings = settings
        pages = {
            "/metrics": settings.metrics,
            "/docs": settings.docs,
            "/openapi.json": settings.docs,
        }
        self._closed = {path for path, access in pages.items() if access == "closed"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if path not in PROBES and (refusal := self._refusal(HTTPConnection(scope), path)):
                content = {"detail": refusal.detail}
                answer = JSONResponse(content, refusal.status_code, refusal.headers)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, connection: HTTPConnection, path: str) -> HTTPException | None:
        settings = self._settings
        if settings.hosts and not is_own_name(
            host := connection.headers.get("host", ""), settings.hosts
        ):
            return HTTPException(
                403, f"{host!r:.80} is no name of this service; SERVING_HOSTS lists its names"
            )
        if not (settings.keys.entries or settings.open or is_private(connection.app)):
            return HTTPException(403, NO_KEYS)
        if path not in self._closed:
            return None
        least = Role.READ if settings.keys.entries else Role.USERS  # this machine's alone
        return judge(connection, _key_of(connection.headers), least)[1]


def _key_of(headers: Headers) -> str | None:
    """The key that a request brings, if any; as the calls' own dependencies take it."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials if scheme.lower() == "bearer" else headers.get("x-api-key")
