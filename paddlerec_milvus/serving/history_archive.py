# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Many histories at a time, for the commands that load and move them: one interface, two stores."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Literal, Protocol

import numpy as np

from paddlerec_milvus.command import warn
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.id_map import IdMap, OwnId, read_item_ids
from paddlerec_milvus.retrieval.user_history import UserState
from paddlerec_milvus.retrieval.user_store import UserStore
from paddlerec_milvus.serving.async_user_store import milvus_users
from paddlerec_milvus.serving.redis_histories import redis_users
from paddlerec_milvus.serving.settings import ServiceSettings
from paddlerec_milvus.serving.tower import UserTower, tower_of

CALL_SECONDS = 60.0  # a call of some hundred users takes longer than a request may

Place = Literal["milvus", "redis"]
Change = tuple[UserState, UserState | None]


class HistoryArchive(Protocol):
    """A store of histories; all methods raise RetrievalError when it is away or refuses."""

    def users(self) -> Iterator[list[OwnId]]:
        """All users, some hundreds at a time, for a caller who removes them."""
        ...

    def read_all(self, users: Sequence[OwnId]) -> dict[OwnId, UserState]:
        """The states of those of ``users`` who are known."""
        ...

    def write_all(self, changes: Sequence[Change]) -> list[OwnId]:
        """Store each state in place of the one that was read; returns who clicked meanwhile."""
        ...

    def remove_all(self, states: Sequence[UserState]) -> list[OwnId]:
        """Forget the users of ``states`` as they were read; returns who clicked meanwhile."""
        ...


class MilvusArchive:
    """Users in Milvus, with the interests that the settings' model makes of what is written."""

    def __init__(self, store: UserStore, settings: ServiceSettings) -> None:
        self._store, self._settings = store, settings
        self._consistency = "Strong"

    def users(self) -> Iterator[list[OwnId]]:
        """All users, some hundreds at a time; those who are not removed come again."""
        while users := self._store.some_users():
            yield users

    def read_all(self, users: Sequence[OwnId]) -> dict[OwnId, UserState]:
        """The states of those of ``users`` who are known."""
        states = self._store.read_all(users, self._consistency)
        self._consistency = "Bounded"  # what others wrote before is seen by now
        return states

    def write_all(self, changes: Sequence[Change]) -> list[OwnId]:
        """Store each state, with interests; nobody else may write meanwhile, so all are."""
        tower, items = self._model
        numbers = [[items.number(item) or 0 for item in state.history] for state, _ in changes]
        known = [[number for number in one if 1 <= number <= tower.items] for one in numbers]
        padded, lengths = pad_histories(known, tower.maxlen)
        interests = tower.interests(padded, np.maximum(lengths, 1))
        new = []
        for (bare, before), vectors in zip(changes, interests, strict=True):
            state = bare._replace(checkpoint=tower.fingerprint, interests=vectors)
            if before is None:
                new.append(state)
            else:
                self._store.write(state, before)
        if new:
            self._store.write_new(new)
        return []

    def remove_all(self, states: Sequence[UserState]) -> list[OwnId]:
        """Forget the users of ``states``."""
        for state in states:
            self._store.delete(state.user)
        return []

    @functools.cached_property
    def _model(self) -> tuple[UserTower, IdMap]:
        trained = self._settings.newest()
        trained.require_fit()
        return tower_of(trained, threading.Lock()), read_item_ids(trained.data)


@contextmanager
def archive_of(settings: ServiceSettings, place: Place) -> Iterator[HistoryArchive]:
    """The histories of a service of ``settings``, in Milvus or in its Redis."""
    seconds = max(CALL_SECONDS, settings.timeout)
    if place == "redis":
        with closing(redis_users(settings, seconds)) as shared:
            warn(*shared.warnings())
            yield shared
        return
    patient = settings.model_copy(update={"timeout": seconds})
    with closing(milvus_users(patient)) as store:
        store.claim()
        try:
            yield MilvusArchive(store, settings)
        finally:
            store.release()
