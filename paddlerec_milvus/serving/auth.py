# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""API keys, and who may call what: a key of the role, or where none is set this machine itself."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated
from urllib.parse import urlsplit

import psutil
from fastapi import FastAPI, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from paddlerec_milvus.errors import SettingsError, nearest

_bearer = HTTPBearer(auto_error=False)
_header = APIKeyHeader(name="X-API-Key", auto_error=False)

Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
Header = Annotated[str | None, Security(_header)]

FORWARDING = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Role(IntEnum):
    """What a key allows; each role has the rights of those before it."""

    READ = 1
    WRITE = 2
    ADMIN = 3


ROLES = {role.name.lower(): role for role in Role}


@dataclass(frozen=True)
class Keys:
    """The keys of a service; without any, only its own machine may write."""

    entries: tuple[tuple[Role, SecretStr], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Keys:
        """``read:abc,write:def,admin:ghi``; SettingsError says which entry, never the key."""
        entries: list[tuple[Role, SecretStr]] = []
        for place, entry in enumerate(text.split(",") if text.strip() else [], 1):
            name, colon, secret = entry.strip().partition(":")
            if not colon or not secret:
                raise SettingsError(
                    f"SERVING_KEYS: entry {place} is not ROLE:KEY; expected read:KEY, write:KEY or "
                    "admin:KEY, separated by commas"
                )
            if name not in ROLES:
                raise SettingsError(
                    f"SERVING_KEYS: entry {place} has no known role{nearest(name, ROLES)}; "
                    f"one of {', '.join(ROLES)}"
                )
            if any(known.get_secret_value() == secret for _, known in entries):
                raise SettingsError(f"SERVING_KEYS: entry {place} has a key that came before")
            entries.append((ROLES[name], SecretStr(secret)))
        return cls(tuple(entries))

    def role_of(self, key: bytes) -> Role | None:
        """The role of a key, None for an unknown one; how long this takes tells nothing of them."""
        matching = None
        for role, secret in self.entries:
            if hmac.compare_digest(secret.get_secret_value().encode(), key):
                matching = role
        return matching


def needs(role: Role) -> Callable[[Request, Bearer, Header], Awaitable[None]]:
    """A dependency that lets through who has ``role``: 401 without a known key, 403 below it."""

    async def check(request: Request, bearer: Bearer, header: Header) -> None:
        keys: Keys = request.app.state.settings.keys
        key = bearer.credentials if bearer else header
        if key is not None:
            _check_role(keys.role_of(key.encode("latin-1", "replace")), role)
        elif keys.entries:
            raise _unknown("this call needs a key: Authorization: Bearer KEY, or X-API-Key: KEY")
        elif role > Role.READ and not (is_local(request) and _is_private(request.app)):
            raise _unknown(
                "this call needs a key, and the service has none: then only its own machine may "
                "write, and only while it listens on loopback alone. Start it with "
                "SERVING_KEYS=read:…,write:…,admin:…"
            )

    return check


def _check_role(own: Role | None, role: Role) -> None:
    if own is None:
        raise _unknown("this key is not known here")
    if own < role:
        raise HTTPException(
            403, f"this call needs the role {role.name.lower()}; the key has {own.name.lower()}"
        )


def _unknown(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})


def is_local(request: Request) -> bool:
    """Whether the caller is on this machine: no proxy between, no page of another site.

    A browser sends a form's POST to any address, so a foreign page could reach a service on
    loopback: its Origin, or with a name that was made to point here its Host, gives it away.
    """
    if request.client is None or not _is_loopback(request.client.host):
        return False
    if any(name in request.headers for name in FORWARDING):
        return False
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    try:
        name = urlsplit(f"//{host}").hostname or ""
        same_site = origin is None or urlsplit(origin).netloc == host
    except ValueError:
        return False
    return same_site and (name == "localhost" or _is_loopback(name))


def _is_private(app: FastAPI) -> bool:
    """Whether this process listened on loopback alone when that was first asked for ``app``.

    Servers bind their addresses before the first request; to look takes longer than a call.
    """
    if not hasattr(app.state, "private"):
        app.state.private = all(
            _is_loopback(socket.laddr.ip)
            for socket in psutil.Process().net_connections("tcp")
            if socket.status == psutil.CONN_LISTEN
        )
    return bool(app.state.private)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (inner or address).is_loopback
