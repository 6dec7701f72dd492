# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which process may write the users of a collection in Milvus: one at a time, or clicks get lost.

Milvus can neither append nor compare before it writes. So a process that wants to write puts a row
of its own into ``{users}_writer`` and then reads all of them, with Strong consistency: of two that
do so at the same time at least one sees the other's and gives way. The row's number grows as long
as its process lives; one that stands still, or whose process of this machine is gone, is removed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.retrieval.connection import Connection, is_lite
from paddlerec_milvus.retrieval.indexes import Flat
from paddlerec_milvus.retrieval.ownership import mark
from paddlerec_milvus.retrieval.user_history import OwnId, UserState
from paddlerec_milvus.retrieval.user_store import UserStore
from paddlerec_milvus.retrieval.versions import CollectionVersions

BEAT_SECONDS = 5.0  # between two changes of the row's number
VALID_SECONDS = 20.0  # after such a change; later the others are read again before a write
DEAD_SECONDS = 40.0  # without a change, after which a process of another machine counts as gone
MOST_ROWS = 1_000
FIELDS = ["key", "user", "clicks", "history"]

_generations = itertools.count(1)


class ClaimedError(RefusedError):
    """Another process writes; that one's connection, and this one's, are sound."""


class WriterClaim:
    """The claim of this process on the users of ``users``, made by the first write.

    All methods raise RetrievalError when Milvus is away. To be used by one thread at a time.
    """

    def __init__(self, connection: Connection, users: str) -> None:
        self._connection, self._users = connection, users
        self._name = f"{users}_writer"
        self._key = _process(os.getpid())
        self.generation = 0
        """Another number after every time in which others could write; 0: never claimed."""
        self._opened = False
        self._number = 0
        self._changed = self._valid_until = 0.0
        self._others: dict[str, tuple[int, float]] = {}
        """The number of each other's row, and since when it has been that."""

    @property
    def is_valid(self) -> bool:
        """Whether this process may write now."""
        return time.monotonic() < self._valid_until

    def require(self) -> None:
        """Make the claim where it is not valid; ClaimedError: another process has it."""
        if self.is_valid:
            return
        self.open()
        now = self._put()
        rivals = [row for row in self._rows() if row["key"] != self._key and not self._is_gone(row)]
        if rivals:
            self.release()
            raise ClaimedError(
                f"{rivals[0]['history']} takes the clicks of the users in {self._users!r} at "
                f"{self._connection.uri}, and Milvus has no append that two can share: this "
                "process stores none. Send clicks to that one, or end it, or let many share a "
                "Redis: SERVING_HISTORIES=redis://…"
            )
        self.generation = next(_generations)
        self._valid_until = now + VALID_SECONDS

    def renew(self) -> None:
        """Show that this process lives, if it has the claim; to be called every few seconds."""
        if self.is_valid and time.monotonic() - self._changed > BEAT_SECONDS:
            self._valid_until = self._put() + VALID_SECONDS

    def release(self) -> None:
        """Let others write."""
        self._valid_until = 0.0
        if self._opened:
            self._connection.call("delete", self._name, ids=[self._key])

    def _put(self) -> float:
        """Change the row; returns when it was begun."""
        now, self._number = time.monotonic(), self._number + 1
        row = {
            "key": self._key,
            "user": "",
            "interest": 0,
            "clicks": self._number,
            "history": f"process {os.getpid()} on {socket.gethostname()}",
            "checkpoint": "",
            "vector": [0.0, 0.0],
        }
        self._connection.call("upsert", self._name, [row])
        self._changed = now
        return now

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._connection.call(
            "query",
            self._name,
            filter="interest == 0",
            limit=MOST_ROWS,
            output_fields=FIELDS,
            consistency_level="Strong",
        )
        return rows

    def _is_gone(self, row: dict[str, Any]) -> bool:
        """Whether the process of ``row`` has ended; then its row is removed."""
        key, number, now = str(row["key"]), int(row["clicks"]), time.monotonic()
        before, since = self._others.get(key, (None, now))
        if number != before:
            since = now
        self._others[key] = (number, since)
        if not _has_ended(key) and now - since < DEAD_SECONDS:
            return False
        self._connection.call("delete", self._name, ids=[key])
        return True

    def open(self) -> None:
        """Make the collection of claims if need be, and load it; nothing is claimed."""
        if self._opened:
            return
        connection, name = self._connection, self._name
        if CollectionVersions(connection, name).serving() is None:
            connection.create_user_collection(name, 2, mark(name))
        if not connection.call("list_indexes", name):
            connection.create_index(name, Flat().type_name, "L2", {}, connection.timeout)
        connection.call("load_collection", name, within=30.0)
        self._opened = True


class OnlyWriter(UserStore):
    """A UserStore that writes only where no other process does: see :class:`WriterClaim`.

    Milvus Lite needs no claim, as it lets one process in. ClaimedError: another process writes.
    """

    def __init__(self, uri: str, collection: str, **options: Any) -> None:
        super().__init__(uri, collection, **options)
        self._claiming = threading.Lock()
        self._number = next(_generations)
        self._claim = None if is_lite(uri) else WriterClaim(self._connection, self._base)

    def prepare(self, dimension: int) -> None:
        """Make the collections that the first write needs, and renew the claim if it is made."""
        super().prepare(dimension)
        if self._claim is not None:
            with self._claiming:
                with contextlib.suppress(RefusedError):  # who may only read need not be told so
                    self._claim.open()
                self._claim.renew()

    def claim(self) -> int:
        """See that no other process writes: another number whenever one may have in between."""
        if self._claim is None:
            return self._number
        with self._claiming:
            self._claim.require()
            return self._claim.generation

    def write_new(self, states: Sequence[UserState]) -> str:
        """Store ``states`` of users of whom nothing is stored, all of one D, in one call."""
        self.claim()
        return super().write_new(states)

    def delete(self, user: OwnId) -> None:
        """Forget ``user``; one who is not known is no error."""
        self.claim()
        super().delete(user)

    def is_writer(self) -> bool:
        """Whether this process writes: it has, and no other may."""
        return self._claim is None or self._claim.is_valid

    def release(self) -> None:
        """Let another process write."""
        if self._claim is not None:
            with self._claiming:
                self._claim.release()


def _process(number: int) -> str:
    """Tells a process from all others: machine, its space of processes, number and start."""
    return f"{_machine()} {number} {psutil.Process(number).create_time():.0f}"


def _machine() -> str:
    try:
        space = Path("/proc/self/ns/pid").readlink()  # a container may have its host's name
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()} {space}"


def _has_ended(key: str) -> bool:
    """Whether it is a process of this machine that is not there any more."""
    machine, number, _ = key.rsplit(" ", 2)
    if machine != _machine():
        return False
    try:
        return _process(int(number)) != key
    except psutil.Error:
        return True
