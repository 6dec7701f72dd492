# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users in Milvus: the last clicks of each, and the interests that a model made of them.

A user is one row for each interest, so that users can be searched by a vector as items can. The
first of these rows holds the history, too: both are written in one call, and read in one.

A vector field has one dimension for ever, while a history outlives any model. So there is a
collection for each dimension, ``{collection}_users_{D}``, and a user is in one of them. A read
looks in all; the first write after a model of another dimension moves the user: written there, then
deleted here. Where that was cut short between the two, the state with more clicks is the user's.
Thus nothing is copied when a model changes, no history is lost, and going back to the former model
is nothing special. (One collection, copied on a change, would refuse clicks for as long, and a
service that still has the old model could not write any more.)

Reading, adding a click and writing are three steps: callers keep those of one user apart.
"""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.indexes import Flat
from paddlerec_milvus.retrieval.versions import CollectionVersions, mark

MOST_INTERESTS = 16  # of a user: a row's key is 16 * user + interest
LARGEST_USER = 2**63 // MOST_INTERESTS - 1
MOST_CLICKS = 1_000  # that a history keeps
LOAD_SECONDS = 30.0  # a longer load goes on in the server, and the next try finds it
USERS_PER_CALL = 256
FIELDS = ["user", "interest", "clicks", "history", "checkpoint", "vector"]


class UserState(NamedTuple):
    """What is known of a user."""

    user: int
    """0 … 2^59 - 1."""
    history: IntArray
    """[n] int64, the last items that the user clicked, oldest first; at most 1,000."""
    clicks: int
    """How many there ever were: of two states, that with more is the newer."""
    checkpoint: str
    """Fingerprint of the model that made the interests."""
    interests: FloatArray
    """[K, D] float32, K at most 16."""


class UserStore:
    """The users of the item collection ``collection`` in one Milvus.

    ``uri``, ``token``, ``db_name`` as ``MilvusClient`` takes them; ``timeout`` seconds for every
    call; ``metric`` is that of searches by other programs. What is there is found when it is
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
    ) -> None:
        self._base = f"{collection}_users"
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

    def read(self, user: int, consistency: str = "Strong") -> UserState | None:
        """The state of ``user``; None: no click is known."""
        return self.read_all([user], consistency).get(user)

    def read_all(self, users: Sequence[int], consistency: str = "Strong") -> dict[int, UserState]:
        """The states of those of ``users`` who are known.

        ``Strong`` sees every write that came before, and a server waits up to 0.4 s for it;
        ``Bounded`` answers at once and may miss those of the last seconds.
        """
        states: dict[int, UserState] = {}
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
        _check(state)
        name = self._names.get(dimension) or self._make(dimension)
        first, history = MOST_INTERESTS * state.user, json.dumps(state.history.tolist())
        rows = [
            {
                "key": first + interest,
                "user": state.user,
                "interest": interest,
                "clicks": state.clicks,
                "history": "" if interest else history,
                "checkpoint": state.checkpoint,
                "vector": vector,
            }
            for interest, vector in enumerate(state.interests)
        ]
        self._connection.call("upsert", name, rows)
        if before is None:
            return
        old_count, old_dimension = before.interests.shape
        if old_dimension != dimension:
            self._delete(self._names[old_dimension], range(first, first + MOST_INTERESTS))
        elif old_count > count:
            self._delete(name, range(first + count, first + MOST_INTERESTS))

    def delete(self, user: int) -> None:
        """Forget ``user``; one who is not known is no error."""
        _check_user(user)
        first = MOST_INTERESTS * user
        for name in tuple(self._names.values()):
            self._delete(name, range(first, first + MOST_INTERESTS))

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

    def _read(self, name: str, users: Sequence[int], consistency: str) -> Iterator[UserState]:
        for user in users:
            _check_user(user)
        keys = [user * MOST_INTERESTS + place for user in users for place in range(MOST_INTERESTS)]
        rows: list[dict[str, Any]] = self._connection.call(
            "query", name, ids=keys, output_fields=FIELDS, consistency_level=consistency
        )
        by_user: defaultdict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
        for row in rows:
            by_user[row["user"]][row["interest"]] = row
        for user, by_interest in by_user.items():
            if (head := by_interest.get(0)) is None:
                continue
            # a write that was cut short may have left rows of another model behind
            whole = [row for _, row in sorted(by_interest.items()) if _same_model(row, head)]
            yield UserState(
                user=user,
                history=np.array(json.loads(head["history"]), np.int64),
                clicks=int(head["clicks"]),
                checkpoint=str(head["checkpoint"]),
                interests=np.array([row["vector"] for row in whole], np.float32),
            )

    def _delete(self, name: str, keys: range) -> None:
        self._connection.call("delete", name, ids=list(keys))

    def _find(self) -> None:
        """Load the collections that are there."""
        pattern = re.compile(re.escape(self._base) + r"_(\d+)")
        names: list[str] = self._connection.call("list_collections")
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


def _same_model(row: dict[str, Any], head: dict[str, Any]) -> bool:
    return bool(row["checkpoint"] == head["checkpoint"])


def _check(state: UserState) -> None:
    _check_user(state.user)
    if not 1 <= len(state.interests) <= MOST_INTERESTS:
        raise SettingsError(
            f"user {state.user} has {len(state.interests)} interests; from 1 to {MOST_INTERESTS} "
            "can be stored"
        )
    if len(state.history) > MOST_CLICKS:
        raise SettingsError(
            f"the history of user {state.user} has {len(state.history):,} items; at most "
            f"{MOST_CLICKS:,} can be stored"
        )


def _check_user(user: int) -> None:
    if not 0 <= user <= LARGEST_USER:
        raise SettingsError(f"user {user}: no such id; from 0 to {LARGEST_USER} can be stored")
