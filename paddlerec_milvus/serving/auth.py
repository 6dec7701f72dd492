# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""API keys, and who may call what: a key of the role, or where none is set this machine itself."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from fastapi import HTTPException, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr
from starlette.requests import HTTPConnection

from paddlerec_milvus.errors import SettingsError, nearest
from paddlerec_milvus.serving.locality import is_local, is_private

_bearer = HTTPBearer(auto_error=False)
_header = APIKeyHeader(name="X-API-Key", auto_error=False)

Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
Header = Annotated[str | None, Security(_header)]

LEAST_KEY = 16  # characters
_KEY = re.compile(rf"[!-~]{{{LEAST_KEY},}}")  # what every client can send as a header
ADVICE = "make one: python -c 'import secrets; print(secrets.token_urlsafe(24))'"


class Role(IntEnum):
    """What a key allows; each role has the rights of those before it."""

    READ = 1
    """Candidates for histories that the caller sends, titles, the number of items."""
    USERS = 2
    """Candidates of a stored user, which give away what the user has clicked."""
    WRITE = 3
    """Items and users' clicks."""
    ADMIN = 4
    """Deleting all, forgetting a user, going back to the model before."""


ROLES = {role.name.lower(): role for role in Role}


@dataclass(frozen=True)
class Keys:
    """The keys of a service, several of a role if need be: the old and the new one of a rotation.

    Without any only the service's own machine may write and read what is stored of users.
    """

    entries: tuple[tuple[Role, SecretStr], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Keys:
        """``read:KEY,write:KEY,admin:KEY``; SettingsError says which entry, never the key."""
        entries: list[tuple[Role, SecretStr]] = []
        for place, entry in enumerate(text.split(",") if text.strip() else [], 1):
            name, colon, secret = entry.strip().partition(":")
            if not colon or not secret:
                raise SettingsError(
                    f"SERVING_KEYS: entry {place} is not ROLE:KEY; expected {':KEY, '.join(ROLES)}"
                    ":KEY, separated by commas"
                )
            if name not in ROLES:
                raise SettingsError(
                    f"SERVING_KEYS: entry {place} has no known role{nearest(name, ROLES)}; "
                    f"one of {', '.join(ROLES)}"
                )
            if not _KEY.fullmatch(secret):
                raise SettingsError(
                    f"SERVING_KEYS: entry {place}: a key has at least {LEAST_KEY} characters, all "
                    f"of them printable ASCII without spaces; {ADVICE}"
                )
            if any(known.get_secret_value() == secret for _, known in entries):
                raise SettingsError(f"SERVING_KEYS: entry {place} has a key that came before")
            entries.append((ROLES[name], SecretStr(secret)))
        return cls(tuple(entries))

    def role_of(self, key: bytes) -> Role | None:
        """The role of a key, None for an unknown one; how long this takes tells nothing of them."""
        matching, digest = None, _digest(key)  # digests: their lengths are no secret
        for role, secret in self.entries:
            if hmac.compare_digest(_digest(secret.get_secret_value().encode()), digest):
                matching = role
        return matching


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def needs(role: Role) -> Callable[[Request, Bearer, Header], Awaitable[None]]:
    """A dependency that lets through who has ``role``: 401 without a known key, 403 below it."""

    async def check(request: Request, bearer: Bearer, header: Header) -> None:
        key = bearer.credentials if bearer else header
        caller, refusal = judge(request, key, role)
        if role >= Role.WRITE:
            request.state.writer = caller  # for the audit line
        if refusal is not None:
            raise refusal

    return check


def judge(request: HTTPConnection, key: str | None, role: Role) -> tuple[str, HTTPException | None]:
    """Who calls, in a word (a role, local, unknown, none), and why it is refused, if it is."""
    settings = request.app.state.settings
    if key is not None:
        own = settings.keys.role_of(key.encode("latin-1", "replace"))
        if own is None:
            return "unknown", _unknown("this key is not known here")
        caller = own.name.lower()
        if own < role:
            text = f"this call needs the role {role.name.lower()}; the key has {caller}"
            return caller, HTTPException(403, text)
        return caller, None
    if settings.keys.entries:
        text = "this call needs a key: Authorization: Bearer KEY, or X-API-Key: KEY"
        return "none", _unknown(text)
    if role == Role.READ:
        return "none", None
    if is_local(request) and is_private(request.app):
        return "local", None
    return "none", _unknown(
        "this call needs a key, and the service has none: then only its own machine may write and "
        "read of users, and only while it listens on loopback alone. Start it with SERVING_KEYS="
        "read:…,users:…,write:…,admin:…"
    )


def _unknown(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
