# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""API keys and what each allows."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import IntEnum

from pydantic import SecretStr

from paddlerec_milvus.errors import SettingsError, nearest


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

    def role_of(self, given: bytes) -> Role | None:
        """The role of a key, None for an unknown one; how long this takes tells nothing of them."""
        found = None
        for role, secret in self.entries:
            if hmac.compare_digest(secret.get_secret_value().encode(), given):
                found = role
        return found
