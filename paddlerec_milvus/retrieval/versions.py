# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Versions of a collection: a new one is built beside the old one, then the alias is switched.

``items`` is an alias; the rows are in ``items_v1``, ``items_v2`` … Each of these carries a property
that says that we made it, for which alias and by which process: only such a collection is ever
dropped. (A property, because Milvus Lite does not keep a collection's description.) Where the
version before is kept, ``items_previous`` points at it.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import psutil

from paddlerec_milvus.errors import ForeignError, RefusedError, RetrievalError
from paddlerec_milvus.retrieval.connection import Connection

MADE_BY, OWNER = "made_by", "paddlerec-milvus"
CHECKPOINT = "checkpoint"  # fingerprint of the model that a service serves by these vectors
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


def mark(alias: str, properties: Mapping[str, str] | None = None) -> dict[str, str]:
    """The properties of a new version: whose it is, which process builds it, and further ones."""
    return {
        **(properties or {}),
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

    Raises ForeignError if a collection that we did not make bears the name.
    """
    found = describe(connection, alias)
    if found is None or owned(found, alias):
        return found
    rows = connection.call("get_collection_stats", found.name).get("row_count", "?")
    raise ForeignError(
        f"Milvus at {connection.uri} holds a collection {alias!r} that this program did not make "
        f"(fields {', '.join(found.fields)}; dimension {found.dimension or 'none'}; some {rows} "
        "rows), and it is left alone. Give another milvus.collection, or drop or rename that one"
    )


def kept(connection: Connection, alias: str) -> Description | None:
    """The version before the serving one, if it was kept."""
    found = describe(connection, _previous(alias))
    return found if found and owned(found, alias) else None


def _previous(alias: str) -> str:
    return f"{alias}_previous"


def prepare(connection: Connection, alias: str) -> tuple[Description | None, str]:
    """Clear away what killed builds left; returns the serving version and a free name.

    Raises RetrievalError if another process is building for the same alias.
    """
    for found in leftovers(connection, alias):
        if not abandoned(found):
            raise RetrievalError(
                f"process {found.properties.get('made_by_process')} on "
                f"{found.properties.get('made_on')} is building {found.name!r} in Milvus at "
                f"{connection.uri}: wait for it, drop that collection if the process is gone, or "
                "give another milvus.collection"
            )
        connection.call("drop_collection", found.name)
    names = version_names(connection, alias)
    return current(connection, alias), f"{alias}_v{max(names, default=0) + 1}"


def leftovers(connection: Connection, alias: str) -> list[Description]:
    """Our versions that no alias points at: under way, or left by a build that was killed."""
    serving, before = current(connection, alias), kept(connection, alias)
    used = {found.name for found in (serving, before) if found}
    names = version_names(connection, alias).values()
    others = [describe(connection, name) for name in names if name not in used]
    return [found for found in others if found and owned(found, alias)]


def switch(
    connection: Connection,
    alias: str,
    serving: Description | None,
    name: str,
    *,
    keep: bool = False,
) -> None:
    """Point ``alias`` at ``name`` in one step: a search sees old rows or new.

    ``keep``: the version that served stays, to go back to, and the one kept until now is dropped;
    otherwise both are.
    """
    before = kept(connection, alias)
    if serving is None:
        connection.call("create_alias", name, alias)
    else:
        if keep:
            verb = "alter_alias" if before else "create_alias"
            connection.call(verb, serving.name, _previous(alias))
        connection.call("alter_alias", name, alias)
    if before and not (keep and serving):
        connection.call("drop_alias", _previous(alias))
    if serving and not keep:
        connection.call("drop_collection", serving.name)
    if before and before.name not in (name, serving.name if serving else ""):
        connection.call("drop_collection", before.name)


def roll_back(connection: Connection, alias: str) -> str:
    """Let the kept version serve again, and keep the one that served; returns its name.

    Raises RefusedError where none is kept. Ended half-way, both aliases point at the same
    version, and the next build drops the other.
    """
    serving, before = current(connection, alias), kept(connection, alias)
    if serving is None or before is None or before.name == serving.name:
        raise RefusedError(
            f"Milvus at {connection.uri} keeps no version of {alias!r} before the serving one"
        )
    connection.call("load_collection", before.name)
    connection.call("alter_alias", before.name, alias)
    connection.call("alter_alias", serving.name, _previous(alias))
    return before.name


def drop(connection: Connection, alias: str) -> bool:
    """Drop the alias, the version behind it and the kept one; False if there was none."""
    serving, before = current(connection, alias), kept(connection, alias)
    if before:
        connection.call("drop_alias", _previous(alias))
    if serving:
        connection.call("drop_alias", alias)
    for name in {found.name for found in (serving, before) if found}:
        connection.call("drop_collection", name)
    return serving is not None
