# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Histories in Milvus: users' clicks go in one by one, their interests come out.

What is acknowledged is in Milvus. Users who clicked since the start are also remembered here, so
that the next list uses the click at once; all others are read with bounded staleness, as items are.
One process at a time takes clicks, as two would write over each other: the others refuse them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from cachetools import LRUCache

from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import RetrievalError, SettingsError, UserError
from paddlerec_milvus.retrieval.user_history import (
    ClickEvent,
    UserState,
    is_repeated,
    trimmed,
    with_event,
)
from paddlerec_milvus.serving.async_user_store import AsyncUserStore, UserStorage
from paddlerec_milvus.serving.histories import AppendedClicks, rows_of, with_interests
from paddlerec_milvus.serving.model_cache import ServingModel
from paddlerec_milvus.serving.settings import ServiceSettings, without_secrets

logger = logging.getLogger(__name__)

T = TypeVar("T")

CACHED_CLICKS = 5_000_000  # of all users: some 100 bytes each where ids are strings
RENEWALS = 16  # of stored interests under way, after a new model has come


class _CachedState(NamedTuple):
    state: UserState
    generation: int | None
    """The claim under which Milvus holds just this; None: after a write that failed, which may have
    been carried out all the same, or where others may have written since."""


class UserStates:
    """The users of a service, in the store that ``connect`` opens when it is first needed.

    All methods answer within ``settings.timeout`` seconds and raise RetrievalError when Milvus is
    away or refuses. To be used from one event loop.
    """

    def __init__(self, settings: ServiceSettings, connect: Callable[[], UserStorage]) -> None:
        if settings.history_days is not None:
            raise SettingsError(
                f"SERVING_HISTORY_DAYS: {settings.history_days:g} is given, and Milvus forgets "
                "nobody: set SERVING_HISTORIES to a Redis, or leave it out"
            )
        self._timeout, self._settings = settings.timeout, settings.model
        self._store = AsyncUserStore(settings, connect)
        self._prepared = 0  # the dimension
        self._problem = ""  # why that could not be done
        self._cache: LRUCache[OwnId, _CachedState] = LRUCache(CACHED_CLICKS, _size)
        self._locks: WeakValueDictionary[OwnId, asyncio.Lock] = WeakValueDictionary()
        self._renewing: set[OwnId] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def are_up(self) -> bool:
        """Whether the store answered at the last :meth:`prepare`."""
        return not self._problem

    def prepare(self, model: ServingModel) -> None:
        """Make the collection that the first click of all would have to wait for; waits for it.

        Later calls show the other processes that this one takes clicks, if it does.
        """
        try:
            self._store.now(lambda store: self._prepare(store, model))
        except RetrievalError as error:
            if str(error) != self._problem:  # a probe comes every other second
                logger.warning(
                    "clicks cannot be stored yet: %s", without_secrets(error, self._settings)
                )
            self._problem = str(error)
        else:
            self._problem = ""

    async def append(self, user: OwnId, event: ClickEvent, model: ServingModel) -> AppendedClicks:
        """Store the clicks of ``event``, once; the interests are made anew by ``model``."""
        end = time.monotonic() + self._timeout
        return await self._in_time(self._append(user, event, model, end))

    async def interests_of(
        self, user: OwnId, model: ServingModel, *, strong: bool = False
    ) -> UserState | None:
        """History and interests of ``user`` by ``model``; None: no click is known.

        ``strong``: what other processes wrote a moment ago counts, too.
        """
        cached = None if strong else self._cache.get(user)
        if cached is not None and cached.state.checkpoint == model.tower.fingerprint:
            return cached.state
        return await self._in_time(self._interests_of(user, model, cached, strong=strong))

    async def forget(self, user: OwnId) -> None:
        """Delete all that is stored of ``user``; one who is not known is no error."""
        await self._in_time(self._forget(user))

    def close(self) -> None:
        """End the threads, once they have finished what they do, and the connection."""
        self._store.close()

    async def _append(
        self, user: OwnId, event: ClickEvent, model: ServingModel, end: float
    ) -> AppendedClicks:
        rows = await rows_of(event.items, model)
        known = [item for item, row in zip(event.items, rows, strict=True) if row]
        unknown = [item for item, row in zip(event.items, rows, strict=True) if not row]
        async with self._lock_of(user):
            generation = await self._store.call(lambda store: store.claim())
            before = await self._confirmed(user, generation)
            state = before or UserState(user, [], 0, "", np.zeros((0, 0), np.float32))
            repeated = is_repeated(state.tokens, event.token)
            if known and not repeated:
                now = time.time_ns() // 1_000_000
                state = trimmed(with_event(state, event._replace(items=known), now))
                state = await with_interests(state, model)
                if model.tower.dimension != self._prepared:
                    await self._store.call(lambda store: self._prepare(store, model))
                if time.monotonic() > end:
                    raise self._late()  # the caller was told so, and may try again
                await self._write(state, before, generation)
        return AppendedClicks(len(state.history), unknown, repeated)

    async def _interests_of(
        self, user: OwnId, model: ServingModel, cached: _CachedState | None, *, strong: bool
    ) -> UserState | None:
        if cached is not None:
            state: UserState | None = cached.state
        elif strong:
            state = await self._read_anew(user)
        else:
            state = await self._store.call(lambda store: store.read(user, "Bounded"))
        if state is None or state.checkpoint == model.tower.fingerprint:
            return state
        self._renew_later(user, model)
        return await with_interests(state, model)

    async def _read_anew(self, user: OwnId) -> UserState | None:
        async with self._lock_of(user):
            return await self._confirmed(user, None)

    async def _forget(self, user: OwnId) -> None:
        async with self._lock_of(user):
            self._distrust(user)
            await self._store.call(lambda store: store.delete(user))
            self._cache.pop(user, None)

    async def _renew(self, user: OwnId, model: ServingModel) -> None:
        """Store the interests that ``model`` makes of the user's history."""
        try:
            if not await self._store.call(lambda store: store.is_writer()):
                return
            async with self._lock_of(user):
                generation = await self._store.call(lambda store: store.claim())
                before = await self._confirmed(user, generation)
                if before is not None and before.checkpoint != model.tower.fingerprint:
                    state = await with_interests(before, model)
                    await self._write(state, before, generation)
        except UserError as error:
            logger.warning("the interests of a user stay another model's: %s", type(error).__name__)
        finally:
            self._renewing.discard(user)

    def _renew_later(self, user: OwnId, model: ServingModel) -> None:
        """Nobody waits for it, and where too many are under way the user's next list tries."""
        if user not in self._renewing and len(self._renewing) < RENEWALS:
            self._renewing.add(user)
            self._started(self._renew(user, model))

    async def _confirmed(self, user: OwnId, generation: int | None) -> UserState | None:
        """What Milvus holds; the caller has the user's lock, and the claim of ``generation``."""
        cached = self._cache.get(user)
        if cached is not None and cached.generation == generation is not None:
            return cached.state
        state = await self._store.read(user)
        if state is None:
            self._cache.pop(user, None)
        else:
            self._cache[user] = _CachedState(state, generation)
        return state

    async def _write(self, state: UserState, before: UserState | None, generation: int) -> None:
        def write(store: UserStorage) -> None:
            if store.claim() != generation:
                raise RetrievalError("another process may have written of this user; try again")
            store.write(state, before)

        try:
            await self._store.call(write)
        except BaseException:
            self._distrust(state.user)
            raise
        self._cache[state.user] = _CachedState(state, generation)

    def _distrust(self, user: OwnId) -> None:
        """Read it from Milvus before the next write."""
        if (cached := self._cache.get(user)) is not None:
            self._cache[user] = cached._replace(generation=None)

    def _lock_of(self, user: OwnId) -> asyncio.Lock:
        return self._locks.setdefault(user, asyncio.Lock())

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, which goes on after the deadline: the user's lock must be held
        until Milvus has answered, or the next write could overtake this one.
        """
        task = self._started(work)
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._timeout)
        except asyncio.TimeoutError:
            raise self._late() from None

    def _late(self) -> RetrievalError:
        return RetrievalError(
            f"Milvus did not answer for this user within {self._timeout:g} s; try again"
        )

    def _started(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself keeps none alive
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it has been seen, even if the caller is gone

    def _prepare(self, store: UserStorage, model: ServingModel) -> None:
        store.prepare(model.tower.dimension)
        self._prepared = model.tower.dimension


def _size(cached: _CachedState) -> int:
    return 1 + len(cached.state.history)
