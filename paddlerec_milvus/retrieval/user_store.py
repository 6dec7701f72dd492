# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users in Milvus: the last clicks of each, and the interests that a model made of them.

A user is one row for each interest, so that users can be searched by a vector as items can. The
first of these rows holds the history, too: both are written in one call, and read in one.
Users and items have the log's own ids, which outlive any numbering: the user ``7`` is ``i7`` here,
``"7"`` is ``s7``.

A vector field has one dimension for ever, while a history outlives any model. So there is a
collection for each dimension, ``{collection}_user_states_{D}``, and a user is in one of them. A
read looks in all; the first write after a model of another dimension moves the user: written there,
then deleted here. Where that was cut short between the two, the state with more clicks is the
user's.
Thus nothing is copied when a model changes, no history is lost, and going back to the former model
is nothing special. (One collection, copied on a change, would refuse clicks for as long, and a
service that still has the old model could not write any more.)

Reading, adding a click and writing are three steps: callers keep those of one user apart.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from paddlerec_milvus.errors import RefusedError, SettingsError
from paddlerec_milvus.retrieval.connection import HISTORY_BYTES, Connection
from paddlerec_milvus.retrieval.indexes import Flat
from paddlerec_milvus.retrieval.ownership import mark
from paddlerec_milvus.retrieval.user_history import (
    MOST_CLICKS,
    OwnId,
    UserState,
    as_text,
    check_user,
    from_text,
    tagged,
    trimmed,
    untagged,
)
from paddlerec_milvus.retrieval.versions import CollectionVersions

MOST_INTERESTS = 16  # of a user: a hexadecimal digit of a row's key
LOAD_SECONDS = 30.0  # a longer load goes on in the server, and the next try finds it
USERS_PER_CALL = 256
FIELDS = ["user", "interest", "clicks", "history", "checkpoint", "vector"]


class UserStore:
    """The users of the item collection ``collection`` in one Milvus.

    ``uri``, ``token``, ``db_name`` as ``MilvusClient`` takes them; ``timeout`` seconds for every
    call; ``metric`` is that of searches by other programs. ``beside_old``: users that were stored
    before there were own ids are no reason to refuse. What is there is found when it is
    opened, collections are made by the first write that needs them. Safe to use from several
    threads. All methods raise RetrievalError when Milvus is away or refuses, or when a collection
    of such a name was not made here.
    """

    def __init__(
        self,
        uri: str,
        collection: str,
        *,
        token: str = "",
        db_name: str = "",
        timeout: float = 30.0,
        metric: str = "IP",
        beside_old: bool = False,
    ) -> None:
        self._base = f"{collection}_user_states"
        self._old_base = "" if beside_old else f"{collection}_users"
        self._metric = metric
        self._making = threading.Lock()
        self._names: dict[int, str] = {}  # by dimension
        self._connection = Connection(uri, token=token, db_name=db_name, timeout=timeout)
        try:
            self._find()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the collections stay."""
        self._connection.close()

    def prepare(self, dimension: int) -> None:
        """Make the collection for interests of ``dimension``; without it the first write does.

        A server takes some three seconds to load it.
        """
        if dimension not in self._names:
            self._make(dimension)

    def read(self, user: OwnId, consistency: str = "Strong") -> UserState | None:
        """The state of ``user``; None: no click is known."""
        return self.read_all([user], consistency).get(user)

    def read_all(
        self, users: Sequence[OwnId], consistency: str = "Strong"
    ) -> dict[OwnId, UserState]:
        """The states of those of ``users`` who are known.

        ``Strong`` sees every write that came before, and a server waits up to 0.4 s for it;
        ``Bounded`` answers at once and may miss those of the last seconds.
        """
        states: dict[OwnId, UserState] = {}
        for start in range(0, len(users), USERS_PER_CALL):
            part = users[start : start + USERS_PER_CALL]
            for name in tuple(self._names.values()):
                for state in self._read(name, part, consistency):
                    known = states.get(state.user)
                    if known is None or state.clicks > known.clicks:
                        states[state.user] = state
        return states

    def write(self, state: UserState, before: UserState | None) -> None:
        """Store ``state`` in place of ``before``, which is what :meth:`read` gave."""
        count, dimension = state.interests.shape
        name = self.write_new([state])
        if before is None:
            return
        old_count, old_dimension = before.interests.shape
        keys = _keys(state.user)
        if old_dimension != dimension:
            self._delete(self._names[old_dimension], keys)
        elif old_count > count:
            self._delete(name, keys[count:])

    def write_new(self, states: Sequence[UserState]) -> str:
        """Store ``states`` of users of whom nothing is stored, all of one D, in one call.

        Returns the collection's name.
        """
        for state in states:
            _check(state)
        dimension = states[0].interests.shape[1]
        name = self._names.get(dimension) or self._make(dimension)
        self._connection.call("upsert", name, [row for one in states for row in _rows(one)])
        return name

    def delete(self, user: OwnId) -> None:
        """Forget ``user``; one who is not known is no error."""
        check_user(user)
        for name in tuple(self._names.values()):
            self._delete(name, _keys(user))

    def some_users(self) -> list[OwnId]:
        """Some hundred users, the last writes considered; none where there is nobody."""
        users: dict[OwnId, None] = {}
        for name in tuple(self._names.values()):
            rows = self._connection.call(
                "query",
                name,
                filter="interest == 0",
                limit=USERS_PER_CALL,
                output_fields=["user"],
                consistency_level="Strong",
            )
            users |= {untagged(row["user"]): None for row in rows}
        return list(users)[:USERS_PER_CALL]

    def count(self) -> int:
        """How many users are known, the last writes included."""
        return sum(map(self._count, tuple(self._names.values())))

    def _count(self, name: str) -> int:
        rows = self._connection.call(
            "query",
            name,
            filter="interest == 0",
            output_fields=["count(*)"],
            consistency_level="Strong",
        )
        return int(rows[0]["count(*)"])

    def _read(self, name: str, users: Sequence[OwnId], consistency: str) -> Iterator[UserState]:
        for user in users:
            check_user(user)
        keys = [key for user in users for key in _keys(user)]
        rows: list[dict[str, Any]] = self._connection.call(
            "query", name, ids=keys, output_fields=FIELDS, consistency_level=consistency
        )
        by_user: defaultdict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        for row in rows:
            by_user[row["user"]][row["interest"]] = row
        for user, by_interest in by_user.items():
            if (head := by_interest.get(0)) is None:
                continue
            # a write that was cut short may have left rows of another model behind
            whole = [row for _, row in sorted(by_interest.items()) if _same_model(row, head)]
            history, times, tokens = from_text(head["history"])
            yield UserState(
                user=untagged(user),
                history=history,
                clicks=int(head["clicks"]),
                checkpoint=str(head["checkpoint"]),
                interests=np.array([row["vector"] for row in whole], np.float32),
                times=times,
                tokens=tokens,
            )

    def _delete(self, name: str, keys: Sequence[str]) -> None:
        self._connection.call("delete", name, ids=list(keys))

    def _find(self) -> None:
        """Load the collections that are there; RefusedError: one is of before own ids."""
        names: list[str] = self._connection.call("list_collections")
        old = self._old_base and old_collections(self._connection, self._old_base, names)
        if old:
            raise RefusedError(
                f"the users in {old[0]!r} at {self._connection.uri} were stored before users and "
                "items had the log's own ids: stop the service and run python -m "
                "paddlerec_milvus.serving.migrate_users with its settings"
            )
        pattern = re.compile(re.escape(self._base) + r"_(\d+)")
        for name in filter(pattern.fullmatch, names):
            stored = CollectionVersions(self._connection, name).serving()
            if stored is not None:
                self._use(name, stored.dimension)

    def _make(self, dimension: int) -> str:
        with self._making:
            name = f"{self._base}_{dimension}"
            if dimension not in self._names:
                if CollectionVersions(self._connection, name).serving() is None:
                    properties = mark(name)
                    self._connection.create_user_collection(name, dimension, properties)
                self._use(name, dimension)
            return name

    def _use(self, name: str, dimension: int) -> None:
        """Index and load ``name``: its maker may have been killed before it did."""
        if not self._connection.call("list_indexes", name):
            self._connection.create_index(
                name, Flat().type_name, self._metric, {}, self._connection.timeout
            )
        self._connection.call("load_collection", name, within=LOAD_SECONDS)
        self._names[dimension] = name


def old_collections(connection: Connection, base: str, names: Sequence[str]) -> list[str]:
    """Collections of users that were made here before users had the log's own ids."""
    pattern = re.compile(re.escape(base) + r"_\d+")
    old = sorted(filter(pattern.fullmatch, names))
    return [name for name in old if CollectionVersions(connection, name).serving() is not None]


def _keys(user: OwnId) -> list[str]:
    """The keys of all rows that a user can have."""
    name = quote(tagged(user), safe="")  # a quote in it would end the string of an expression
    return [f"{interest:x}{name}" for interest in range(MOST_INTERESTS)]


def _rows(state: UserState) -> list[dict[str, Any]]:
    keys, user, history = _keys(state.user), tagged(state.user), as_text(state)
    return [
        {
            "key": keys[interest],
            "user": user,
            "interest": interest,
            "clicks": state.clicks,
            "history": "" if interest else history,
            "checkpoint": state.checkpoint,
            "vector": vector,
        }
        for interest, vector in enumerate(state.interests)
    ]


def _same_model(row: dict[str, Any], head: dict[str, Any]) -> bool:
    return bool(row["checkpoint"] == head["checkpoint"])


def _check(state: UserState) -> None:
    check_user(state.user)
    if not 1 <= len(state.interests) <= MOST_INTERESTS:
        raise SettingsError(
            f"user {state.user} has {len(state.interests)} interests; from 1 to {MOST_INTERESTS} "
            "can be stored"
        )
    if len(trimmed(state).history) < len(state.history):
        raise SettingsError(
            f"the history of user {state.user} has {len(state.history):,} items; at most "
            f"{MOST_CLICKS:,} and {HISTORY_BYTES:,} bytes can be stored"
        )
