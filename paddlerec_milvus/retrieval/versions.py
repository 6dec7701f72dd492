# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Versions of a collection: a new one is built beside the old one, then the alias is switched.

``items`` is an alias; the rows are in ``items_v1``, ``items_v2`` … Each of these carries a property
that says that we made it, for which alias and by which process: only such a collection is ever
dropped. (A property, because Milvus Lite does not keep a collection's description.)
"""

from __future__ import annotations

import os
import re
import socket
import time
from typing import Any, NamedTuple

import psutil

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.connection import Connection

MADE_BY, OWNER = "made_by", "paddlerec-milvus"
ABANDONED_SECONDS = 6 * 3600.0  # a build of another machine that is older has been given up


class Description(NamedTuple):
    """What Milvus says of a collection."""

    name: str
    """Its own name, also where it was asked for by an alias."""
    fields: tuple[str, ...]
    dimension: int
    """D of the field ``vector``, 0 without such a field."""
    properties: dict[str, str]


def describe(connection: Connection, name: str) -> Description | None:
    """The collection behind a name or an alias; None if there is none."""
    if not connection.call("has_collection", name):
        return None
    found: dict[str, Any] = connection.call("describe_collection", name)
    vectors = [field for field in found["fields"] if field["name"] == "vector"]
    return Description(
        name=found["collection_name"],
        fields=tuple(field["name"] for field in found["fields"]),
        dimension=int(vectors[0]["params"].get("dim", 0)) if vectors else 0,
        properties={key: str(value) for key, value in found.get("properties", {}).items()},
    )


def owned(description: Description, alias: str) -> bool:
    """Whether we made this collection for ``alias``."""
    properties = description.properties
    return properties.get(MADE_BY) == OWNER and properties.get("made_for") == alias


def mark(alias: str) -> dict[str, str]:
    """The properties of a new version: whose it is, and which process builds it."""
    return {
        MADE_BY: OWNER,
        "made_for": alias,
        "made_on": socket.gethostname(),
        "made_by_process": str(os.getpid()),
        "made_at": f"{time.time():.0f}",
    }


def abandoned(description: Description) -> bool:
    """Whether the process that was building this version is gone, as far as can be seen here."""
    properties = description.properties
    started = float(properties.get("made_at", "0"))
    if properties.get("made_on") != socket.gethostname():
        return time.time() - started > ABANDONED_SECONDS
    process = int(properties.get("made_by_process", "0"))
    if process == os.getpid():
        return True
    try:
        # a younger process of the same number is another one
        return bool(psutil.Process(process).create_time() > started + 1)
    except psutil.Error:
        return True


def version_names(connection: Connection, alias: str) -> dict[int, str]:
    """All collections named like a version of ``alias``, whoever made them."""
    pattern = re.compile(re.escape(alias) + r"_v(\d+)")
    names: list[str] = connection.call("list_collections")
    matches = [hit for hit in map(pattern.fullmatch, names) if hit]
    return {int(hit.group(1)): hit.group(0) for hit in matches}


def current(connection: Connection, alias: str) -> Description | None:
    """The version that ``alias`` points at; None if the name is free.

    Raises RetrievalError if a collection that we did not make bears the name.
    """
    found = describe(connection, alias)
    if found is None or owned(found, alias):
        return found
    rows = connection.call("get_collection_stats", found.name).get("row_count", "?")
    raise RetrievalError(
        f"Milvus at {connection.uri} holds a collection {alias!r} that this program did not make "
        f"(fields {', '.join(found.fields)}; dimension {found.dimension or 'none'}; some {rows} "
        "rows), and it is left alone. Give another milvus.collection, or drop or rename that one"
    )


def prepare(connection: Connection, alias: str) -> tuple[Description | None, str]:
    """Clear away what killed builds left; returns the serving version and a free name.

    Raises RetrievalError if another process is building for the same alias.
    """
    serving = current(connection, alias)
    names = version_names(connection, alias)
    for name in names.values():
        found = describe(connection, name)
        if found is None or not owned(found, alias) or (serving and name == serving.name):
            continue
        if not abandoned(found):
            raise RetrievalError(
                f"process {found.properties.get('made_by_process')} on "
                f"{found.properties.get('made_on')} is building {name!r} in Milvus at "
                f"{connection.uri}: wait for it, or give another milvus.collection"
            )
        connection.call("drop_collection", name)
    return serving, f"{alias}_v{max(names, default=0) + 1}"


def switch(connection: Connection, alias: str, serving: Description | None, name: str) -> None:
    """Point ``alias`` at ``name`` in one step (a search sees old rows or new), drop the old."""
    if serving is None:
        connection.call("create_alias", name, alias)
        return
    connection.call("alter_alias", name, alias)
    connection.call("drop_collection", serving.name)


def drop(connection: Connection, alias: str) -> bool:
    """Drop the alias and the version behind it; False if there was none."""
    serving = current(connection, alias)
    if serving is None:
        return False
    connection.call("drop_alias", alias)
    connection.call("drop_collection", serving.name)
    return True
