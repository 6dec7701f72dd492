# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whose a collection is: what it says of itself, and whether its maker is still at work.

It says so in properties, because Milvus Lite does not keep a collection's description.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import psutil

from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.retrieval.connection import Connection

MADE_BY, OWNER = "made_by", "paddlerec-milvus"
CHECKPOINT = "checkpoint"  # fingerprint of the model that a service serves by these vectors
BUILD = "build"  # a token that tells one build from all others
ABANDONED_SECONDS = 6 * 3600.0  # a build of another machine that is older has been given up

_under_way = set[str]()  # tokens of the builds of this process


class Description(NamedTuple):
    """What Milvus says of a collection."""

    name: str
    """Its own name, also where it was asked for by an alias."""
    fields: tuple[str, ...]
    dimension: int
    """D of the field ``vector``, 0 without such a field."""
    properties: dict[str, str]

    @property
    def maker(self) -> str:
        """The process that made it."""
        process = self.properties.get("made_by_process")
        return f"process {process} on {self.properties.get('made_on')}"


def describe(connection: Connection, name: str) -> Description | None:
    """The collection behind a name or an alias; None if there is none."""
    if not connection.call("has_collection", name):
        return None
    try:
        reply: dict[str, Any] = connection.call("describe_collection", name)
    except RefusedError:
        if connection.call("has_collection", name):
            raise
        return None  # it was dropped between the two calls
    vectors = [field for field in reply["fields"] if field["name"] == "vector"]
    return Description(
        name=reply["collection_name"],
        fields=tuple(field["name"] for field in reply["fields"]),
        dimension=int(vectors[0]["params"].get("dim", 0)) if vectors else 0,
        properties={key: str(value) for key, value in reply.get("properties", {}).items()},
    )


def owned(description: Description, alias: str) -> bool:
    """Whether we made this collection for ``alias``."""
    properties = description.properties
    return properties.get(MADE_BY) == OWNER and properties.get("made_for") == alias


def mark(alias: str, properties: Mapping[str, str] | None = None) -> dict[str, str]:
    """The properties of a new version: whose it is, which process builds it, and further ones."""
    return {
        **(properties or {}),
        MADE_BY: OWNER,
        "made_for": alias,
        "made_on": socket.gethostname(),
        "made_by_process": str(os.getpid()),
        "made_at": f"{time.time():.0f}",
        BUILD: secrets.token_hex(8),
    }


def abandoned(description: Description) -> bool:
    """Whether the process that was building this version is gone, as far as can be seen here."""
    properties = description.properties
    started = float(properties.get("made_at", "0"))
    if properties.get("made_on") != socket.gethostname():
        return time.time() - started > ABANDONED_SECONDS
    process = int(properties.get("made_by_process", "0"))
    if process == os.getpid():
        return properties.get(BUILD) not in _under_way
    try:
        # a younger process of the same number is another one
        return bool(psutil.Process(process).create_time() > started + 1)
    except psutil.Error:
        return True


@contextlib.contextmanager
def at_work(properties: Mapping[str, str]) -> Iterator[None]:
    """While this lasts, the build with these ``properties`` is not :func:`abandoned`."""
    _under_way.add(properties[BUILD])
    try:
        yield
    finally:
        _under_way.discard(properties[BUILD])
