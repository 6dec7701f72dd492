# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Versions of a collection: a new one is built beside the old one, then the alias is switched.

``items`` is an alias; the rows are in ``items_v1``, ``items_v2`` … Each of these carries a property
that says that we made it, for which alias and by which process: only such a collection is ever
dropped. (A property, because Milvus Lite does not keep a collection's description.) Where the
version before is kept, ``items_previous`` points at it.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import psutil
from numpy.typing import ArrayLike

from paddlerec_milvus.errors import ForeignError, RefusedError, RetrievalError
from paddlerec_milvus.retrieval.build import BuildTimes, Rows, fill, index_rows, try_index
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.indexes import DiskAnn, Flat, Index

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
    reply: dict[str, Any] = connection.call("describe_collection", name)
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


class CollectionVersions:
    """The versions of the collection ``alias``: built, switched, rolled back, dropped.

    ``metric`` and ``index`` are those of the versions that are built. All methods raise
    RetrievalError when Milvus is away or refuses.
    """

    def __init__(
        self,
        connection: Connection,
        alias: str,
        metric: str = "IP",
        index: Index = Flat(),  # noqa: B008  (frozen)
    ) -> None:
        self.alias = alias
        self.dimension: int | None = None
        """D of the vectors that are served, None: not known yet."""
        self._connection = connection
        self._metric, self._index = metric, index
        self._previous = f"{alias}_previous"

    def names(self) -> dict[int, str]:
        """All collections named like a version, whoever made them, by number."""
        pattern = re.compile(re.escape(self.alias) + r"_v(\d+)")
        names: list[str] = self._connection.call("list_collections")
        matches = [hit for hit in map(pattern.fullmatch, names) if hit]
        return {int(hit.group(1)): hit.group(0) for hit in matches}

    def serving(self) -> Description | None:
        """The version that the alias points at; None if the name is free.

        Raises ForeignError if a collection that we did not make bears the name.
        """
        current = describe(self._connection, self.alias)
        if current is None or owned(current, self.alias):
            return current
        stored = self._connection.call("get_collection_stats", current.name).get("row_count", "?")
        raise ForeignError(
            f"Milvus at {self._connection.uri} holds a collection {self.alias!r} that this program "
            f"did not make (fields {', '.join(current.fields)}; dimension "
            f"{current.dimension or 'none'}; some {stored} rows), and it is left alone. Give "
            "another milvus.collection, or drop or rename that one"
        )

    def missing(self) -> RefusedError:
        """The error for a collection that is not there."""
        return RefusedError(
            f"collection {self.alias!r} at {self._connection.uri}: no such collection; build it "
            "first (tools/infer.py does)"
        )

    def previous(self) -> Description | None:
        """What :meth:`roll_back` goes back to: the version before, if it was retained."""
        before = describe(self._connection, self._previous)
        return before if before and owned(before, self.alias) else None

    def build(
        self,
        vectors: ArrayLike,
        ids: ArrayLike,
        categories: Sequence[str] | None = None,
        *,
        properties: Mapping[str, str] | None = None,
        check: Callable[[str], None] | None = None,
        keep: bool = False,
    ) -> BuildTimes:
        """Store ``vectors`` [N, D] float32 under ``ids`` [N] int64 in place of what is there.

        The new version is built beside the serving one, checked, and then takes its place in one
        step. If anything fails, Ctrl-C included, the half version is dropped and the old one goes
        on serving. ``check`` gets the new one's name before, and may raise. ``keep``: the old one
        stays, for :meth:`roll_back`. ``properties`` are stored with the collection. Raises
        SettingsError for rows that Milvus would not take.
        """
        rows = Rows.checked(vectors, ids, categories)
        serving, name = self._prepare()
        try:
            if isinstance(self._index, DiskAnn) and not self._connection.is_lite:
                try_index(self._connection, name, rows, self._metric, self._index, mark(self.alias))
            stored = mark(self.alias, properties)
            times = fill(self._connection, name, rows, self._metric, self._index, stored)
            if times.rows != len(rows.ids):
                raise RetrievalError(
                    f"Milvus at {self._connection.uri}: {name!r} holds {times.rows:,} rows after "
                    f"the insert, expected {len(rows.ids):,}; the collection {self.alias!r} is "
                    "unchanged"
                )
            if check is not None:
                check(name)
            self._switch(serving, name, keep=keep)
        except BaseException:
            # the first error is the one to show; what cannot be dropped now, the next build drops
            with contextlib.suppress(RetrievalError):
                now = describe(self._connection, self.alias)
                if now is None or now.name != name:
                    self._connection.call("drop_collection", name)
            raise
        self.dimension = rows.vectors.shape[1]
        return times

    def reindex(self) -> BuildTimes:
        """Build the index anew on what is stored, in place of the one there; no insert.

        It cannot be searched for that time. If that fails, :meth:`reindex` again or :meth:`build`.
        """
        serving = self.serving()
        if serving is None:
            raise self.missing()
        self.dimension = serving.dimension
        return index_rows(self._connection, serving.name, self._metric, self._index)

    def roll_back(self) -> str:
        """Let the version before serve again, and retain the one that served; returns its name.

        Raises RefusedError where there is none. Ended half-way, both aliases point at the same
        version, and the next build drops the other.
        """
        self.dimension = None
        serving, before = self.serving(), self.previous()
        if serving is None or before is None or before.name == serving.name:
            raise RefusedError(
                f"Milvus at {self._connection.uri} keeps no version of {self.alias!r} before the "
                "serving one"
            )
        self._connection.call("load_collection", before.name)
        self._connection.call("alter_alias", before.name, self.alias)
        self._connection.call("alter_alias", serving.name, self._previous)
        return before.name

    def tidy(self) -> list[str]:
        """Drop what killed builds left; returns its names. One that is under way stays."""
        names = [version.name for version in self._leftovers() if abandoned(version)]
        for name in names:
            self._connection.call("drop_collection", name)
        return names

    def drop(self) -> bool:
        """Drop the alias, the version behind it and the one before; False if there was none.

        Raises ForeignError for a collection that we did not make.
        """
        self.dimension = None
        serving, before = self.serving(), self.previous()
        if before:
            self._connection.call("drop_alias", self._previous)
        if serving:
            self._connection.call("drop_alias", self.alias)
        for name in {version.name for version in (serving, before) if version}:
            self._connection.call("drop_collection", name)
        return serving is not None

    def _prepare(self) -> tuple[Description | None, str]:
        """Clear away what killed builds left; returns the serving version and a free name.

        Raises RetrievalError if another process is building for the same alias.
        """
        for version in self._leftovers():
            if not abandoned(version):
                raise RetrievalError(
                    f"process {version.properties.get('made_by_process')} on "
                    f"{version.properties.get('made_on')} is building {version.name!r} in Milvus "
                    f"at {self._connection.uri}: wait for it, drop that collection if the process "
                    "is gone, or give another milvus.collection"
                )
            self._connection.call("drop_collection", version.name)
        names = self.names()
        return self.serving(), f"{self.alias}_v{max(names, default=0) + 1}"

    def _leftovers(self) -> list[Description]:
        """Our versions that no alias points at: under way, or left by a build that was killed."""
        used = {version.name for version in (self.serving(), self.previous()) if version}
        names = [name for name in self.names().values() if name not in used]
        others = [describe(self._connection, name) for name in names]
        return [version for version in others if version and owned(version, self.alias)]

    def _switch(self, serving: Description | None, name: str, *, keep: bool) -> None:
        """Point the alias at ``name`` in one step: a search sees old rows or new.

        ``keep``: the version that served stays, to go back to, and the one before it is dropped;
        otherwise both are.
        """
        call, before = self._connection.call, self.previous()
        if serving is None:
            call("create_alias", name, self.alias)
        else:
            if keep:
                call("alter_alias" if before else "create_alias", serving.name, self._previous)
            call("alter_alias", name, self.alias)
        if before and not (keep and serving):
            call("drop_alias", self._previous)
        if serving and not keep:
            call("drop_collection", serving.name)
        if before and before.name not in (name, serving.name if serving else ""):
            call("drop_collection", before.name)
