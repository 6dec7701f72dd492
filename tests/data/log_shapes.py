# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Small logs in the shapes that people have them, written by the tests that read them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest

from paddlerec_milvus.data.log_options import LogOptions
from paddlerec_milvus.data.raw_log import RawLog
from paddlerec_milvus.data.read_log import read_interactions

USERS, ITEMS, CLICKS = 12, 9, 6
START = 1_600_000_000

Row = tuple[int, int, int, int]  # user, item, rating, time


def rows() -> list[Row]:
    """12 users with 6 clicks each, an hour apart, of items 21 to 29, with 1 to 5 stars."""
    return [
        (user, 21 + (user * 5 + place * 2) % ITEMS, 1 + (user + place) % 5, START + 3600 * place)
        for user in range(1, USERS + 1)
        for place in range(CLICKS)
    ]


def iso(time: int, suffix: str = "Z") -> str:
    return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + suffix


KINDS = ("view", "view", "addtocart")

# What a file holds: header or None, separator, and the cells of a click.
SHAPES: dict[str, tuple[list[str] | None, str, list[str]]] = {
    "csv": (["user", "item", "time"], ",", ["{user}", "{item}", "{time}"]),
    "tsv": (["uid", "item_id", "timestamp"], "\t", ["{user}", "{item}", "{time}"]),
    "semicolon": (["userId", "itemId", "timestamp"], ";", ["{user}", "{item}", "{time}"]),
    "movielens": (None, "::", ["{user}", "{item}", "{rating}", "{time}"]),
    "u.data": (None, "\t", ["{user}", "{item}", "{rating}", "{time}"]),
    "recbole": (
        ["user_id:token", "item_id:token", "rating:float", "timestamp:float"],
        "\t",
        ["{user}", "{item}", "{rating}.0", "{time}.0"],
    ),
    "retailrocket": (
        ["timestamp", "visitorid", "event", "itemid", "transactionid"],
        ",",
        ["{time}000", "{user}", "{kind}", "{item}", ""],
    ),
    "iso": (["user", "item", "time"], ",", ["{user}", "{item}", "{iso}"]),
    "rees46": (
        ["event_time", "event_type", "product_id", "user_id"],
        ",",
        ["{iso}", "{kind}", "{item}", "{user}"],
    ),
    "amazon2023": (
        ["user_id", "asin", "parent_asin", "rating", "timestamp"],
        ",",
        ["{user}", "V{item}{rating}", "{item}", "{rating}.0", "{time}000"],
    ),
    "gowalla": (None, "\t", ["{user}", "{iso}", "30.21{rating}", "-97.2{rating}", "{item}"]),
}


def cells(shape: str, order: Sequence[int] | None = None) -> list[list[str]]:
    header, _, patterns = SHAPES[shape]
    lines = [header] if header else []
    for place, (user, item, rating, time) in enumerate(rows()):
        values = {"user": user, "item": item, "rating": rating, "time": time}
        values |= {"iso": iso(time), "kind": KINDS[place % 3]}
        lines.append([pattern.format(**values) for pattern in patterns])
    order = order or range(len(patterns))
    return [[line[at] for at in order] for line in lines]


def write(folder: Path, shape: str, name: str, order: Sequence[int] | None = None) -> Path:
    path = folder / name
    path.write_text("\n".join(SHAPES[shape][1].join(line) for line in cells(shape, order)) + "\n")
    return path


def text(folder: Path, content: str | bytes, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def clicks(log: RawLog) -> list[tuple[str, str]]:
    pairs = zip(log.user_ids[log.users], log.item_ids[log.items], strict=True)
    return sorted((str(user), str(item)) for user, item in pairs)


EXPECTED = sorted((str(user), str(item)) for user, item, _, _ in rows())


def in_time_order(log: RawLog) -> list[str]:
    return [str(item) for item in log.item_ids[log.items[log.users == log.users[0]]]]


def said(path: Path, caplog: pytest.LogCaptureFixture, **options: object) -> str:
    caplog.clear()
    caplog.set_level(logging.INFO)
    read_interactions(path, options=LogOptions(**options))  # type: ignore[arg-type]
    return caplog.text
