# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a user may say about a log: its columns, separator, encoding, and which clicks count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from paddlerec_milvus.errors import SettingsError, nearest

ROLES = ("user", "item", "time", "kind", "rating")


@dataclass(frozen=True)
class LogOptions:
    """What was said of a log on the command line; what is None or empty is recognised.

    ``columns`` maps a role (``user``, ``item`` …) to a name or a number from 1. ``kinds`` of
    event, and clicks of at least ``min_rating``, are used alone. ``drop_repeats`` uses the first
    click of a user on an item alone. With ``k_core`` all users and items have as many clicks.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    encoding: str | None = None
    kinds: tuple[str, ...] = ()
    min_rating: float | None = None
    drop_repeats: bool = False
    k_core: int | None = None

    def identity(self) -> dict[str, str | int | bool | float]:
        """What was said, for meta.json's recipe; without what was not."""
        said: dict[str, str | int | bool | float | None] = {
            "columns": ",".join(f"{role}={name}" for role, name in sorted(self.columns.items())),
            "separator": self.separator,
            "encoding": self.encoding,
            "kinds": ",".join(sorted(set(self.kinds))),
            "min_rating": self.min_rating,
            "drop_repeats": self.drop_repeats,
            "k_core": self.k_core,
        }
        return {
            key: value
            for key, value in said.items()
            if not (value is None or value is False or value == "")
        }


def require_roles(columns: Mapping[str, str], place: str) -> None:
    """SettingsError, which begins with ``place``: an unknown role, or a column of two of them."""
    by_name: dict[str, str] = {}
    for role, name in columns.items():
        if role not in ROLES:
            known = f"{', '.join(ROLES)}{nearest(role, ROLES)}"
            raise SettingsError(f"{place}: '{role}' is none of {known}")
        if (first := by_name.setdefault(name, role)) != role:
            raise SettingsError(f"{place}: '{name}' is both {first} and {role}; choose one")


def parse_columns(text: str) -> dict[str, str]:
    """``user=visitorid,item=itemid,time=1`` as a mapping of roles to names.

    Raises:
        SettingsError: not of this form, an unknown role, or a role or a column twice.
    """
    columns: dict[str, str] = {}
    for part in text.split(","):
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise SettingsError(
                f"--columns {text}: '{part}' is not role=column; expected "
                "user=…,item=…,time=…[,kind=…][,rating=…]"
            )
        if role in columns:
            raise SettingsError(f"--columns {text}: {role} is there twice; name it once")
        columns[role] = name
    require_roles(columns, f"--columns {text}")
    return columns
