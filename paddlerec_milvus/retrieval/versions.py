# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Versions of a collection: a new one is built beside the old one, then the alias is switched.

``items`` is an alias; the rows are in ``items_v1764322425123``, and only a collection that says
that it was made here (:mod:`.ownership`) is ever dropped. Where the version before is kept,
``items_previous`` points at it. The number is the time in ms, or one more than the highest that is
there. So a name never comes again, not even after all was dropped: a reader that still searches the
old name gets an error, and never the items of another model.

Of builds at the same time one wins. Each makes its collection first, which Milvus lets only one do
under a name, and then looks about: it gives way to one that is under way under a lower number, and
to one that has come to serve meanwhile; before the alias is switched it looks again.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence

from numpy.typing import ArrayLike

from paddlerec_milvus.errors import (
    BuildConflictError,
    ForeignError,
    RefusedError,
    RetrievalError,
)
from paddlerec_milvus.retrieval.build import (
    BuildTimes,
    RowBlocks,
    Rows,
    fill,
    index_rows,
    try_index,
)
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.indexes import DiskAnn, Flat, Index
from paddlerec_milvus.retrieval.ownership import (
    BUILD,
    Description,
    abandoned,
    at_work,
    describe,
    mark,
    owned,
)


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
        return self._own(self.alias)

    def _own(self, name: str) -> Description | None:
        current = describe(self._connection, name)
        if current is None or owned(current, self.alias):
            return current
        stored = self._connection.call("get_collection_stats", current.name).get("row_count", "?")
        raise ForeignError(
            f"Milvus at {self._connection.uri} holds a collection {name!r} that this program "
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

    def pending_rows(self) -> int:
        """Rows whose index Milvus builds just now, while it searches an older one or none.

        A server that joins segments does so unasked, with all processors that searches need.
        """
        index = self._connection.call("describe_index", self.alias, "vector") or {}
        return int(index.get("pending_index_rows", 0))

    def segment_numbers(self) -> list[int]:
        """Milvus' numbers of the segments on disk, of a server: what it compacts gets others."""
        segments = self._connection.call("list_persistent_segments", self.alias)
        return sorted(int(segment.segment_id) for segment in segments)

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
        SettingsError for rows that Milvus would not take, BuildConflictError, with its maker, where
        another build is under way or was quicker.
        """
        rows = Rows.checked(vectors, ids, categories)
        rows.require_searchable()
        stored = mark(self.alias, properties)
        with at_work(stored):
            return self._build(rows, stored, check, keep=keep)

    def build_blocks(self, rows: RowBlocks) -> BuildTimes:
        """:meth:`build` of rows that need not fit into memory; each block is checked already."""
        stored = mark(self.alias, None)
        with at_work(stored):
            return self._build(rows, stored, None, keep=False)

    def _build(
        self,
        rows: Rows | RowBlocks,
        stored: dict[str, str],
        check: Callable[[str], None] | None,
        *,
        keep: bool,
    ) -> BuildTimes:
        serving, name = self._prepare()
        connection, dimension = self._connection, rows.dimension
        try:
            if isinstance(self._index, DiskAnn) and not connection.is_lite:
                self._claim(name, dimension, stored)
                try_index(connection, name, rows, self._metric, self._index)
            self._claim(name, dimension, stored)
            self._require_first(name, serving)
            times = fill(connection, name, rows, self._metric, self._index)
            if times.rows != rows.size:
                raise RetrievalError(
                    f"Milvus at {connection.uri}: {name!r} holds {times.rows:,} rows after "
                    f"the insert, expected {rows.size:,}; the collection {self.alias!r} is "
                    "unchanged"
                )
            if check is not None:
                check(name)
            self._require_first(name, serving)
            self._switch(serving, name, keep=keep)
        except BaseException:
            # the first error is the one to show; what cannot be dropped now, the next build drops
            with contextlib.suppress(RetrievalError):
                self._drop_unused(name, stored)
            raise
        self.dimension = dimension
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
        """Drop the aliases, the version that serves and the one before; False if none served.

        Also an alias whose version somebody dropped by hand. Raises ForeignError for a collection
        that we did not make.
        """
        self.dimension = None
        serving, before = self.serving(), self._own(self._previous)
        for alias, version in ((self._previous, before), (self.alias, serving)):
            try:
                self._connection.call("drop_alias", alias)
            except RefusedError:
                if version:
                    raise  # otherwise there is none
        for name in {version.name for version in (serving, before) if version}:
            self._connection.call("drop_collection", name)
        return serving is not None

    def _prepare(self) -> tuple[Description | None, str]:
        """Clear away what killed builds left; returns the serving version and a new name.

        The name comes after those of the leftovers, too: another process may drop these just now.
        """
        numbers = [*self.names(), int(time.time() * 1000) - 1]
        name = f"{self.alias}_v{max(numbers) + 1}"
        for version in self._leftovers():
            if not abandoned(version):
                raise self._conflict(f"{version.maker} is building {version.name!r}")
            self._connection.call("drop_collection", version.name)
        return self.serving(), name

    def _claim(self, name: str, dimension: int, properties: dict[str, str]) -> None:
        """Make the empty collection ``name``; BuildConflictError: another build has it.

        Milvus refuses to make a collection that is there with other properties, or, asked with the
        same ones, says that all is well.
        """
        problem = None
        try:
            self._connection.create_collection(name, dimension, properties)
        except RefusedError as error:
            problem = error
        made = describe(self._connection, name)
        if made is not None and made.properties.get(BUILD) != properties[BUILD]:
            raise self._conflict(f"{made.maker} has made {name!r}") from problem
        if problem is not None:
            raise problem

    def _require_first(self, name: str, serving: Description | None) -> None:
        """BuildConflictError: a build of a lower number is under way, or ``serving`` no longer is.

        Of two builds that both ask, one at least sees the other.
        """
        now = self.serving()
        if (now and now.name) != (serving and serving.name):
            what = f"{now.name!r} of {now.maker} serves now" if now else "what served was dropped"
            raise self._conflict(f"meanwhile {what}", "see whether that is what you want")
        for other in self._leftovers():
            if _number(other.name) < _number(name) and not abandoned(other):
                raise self._conflict(f"{other.maker} is building {other.name!r}")

    def _conflict(
        self, what: str, advice: str = "wait for it, or drop that one if the process is gone"
    ) -> BuildConflictError:
        place = f"the collection {self.alias!r} in Milvus at {self._connection.uri}"
        return BuildConflictError(
            f"{what} ({place}): {advice}, then try again, or give another milvus.collection"
        )

    def _drop_unused(self, name: str, properties: dict[str, str]) -> None:
        """Drop ``name`` if it is of the build with ``properties`` and does not serve."""
        made, now = describe(self._connection, name), describe(self._connection, self.alias)
        ours = made is not None and made.properties.get(BUILD) == properties[BUILD]
        if ours and (now is None or now.name != name):
            self._connection.call("drop_collection", name)

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
        if serving and keep:
            self._point(self._previous, serving.name)
        self._point(self.alias, name)
        if before and not (keep and serving):
            call("drop_alias", self._previous)
        if serving and not keep:
            call("drop_collection", serving.name)
        if before and before.name not in (name, serving.name if serving else ""):
            call("drop_collection", before.name)

    def _point(self, alias: str, name: str) -> None:
        """Let ``alias`` point at ``name``: it is free, or points at another version of ours.

        Or at one that somebody has dropped by hand: Milvus knows such an alias still, and lets
        nobody make it anew. ForeignError: what it points at we did not make.
        """
        if self._own(alias) is None:
            try:
                self._connection.call("create_alias", name, alias)
                return
            except RefusedError:  # as was said
                pass
        self._connection.call("alter_alias", name, alias)


def _number(name: str) -> int:
    """3 of ``items_v3``."""
    return int(name.rpartition("_v")[2])
