# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users that the service knows: their clicks go in one by one, their interests come out.

What is acknowledged is in Milvus. Users who clicked since the start are also remembered here, so
that the next list uses the click at once; all others are read with bounded staleness, as items are.
One process at a time may take the clicks of a user: two that did would write over each other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from paddlerec_milvus.errors import RetrievalError, UserError
from paddlerec_milvus.retrieval.base import IntArray
from paddlerec_milvus.retrieval.user_store import MOST_CLICKS, UserState, UserStore
from paddlerec_milvus.serving.async_user_store import StoredUsers
from paddlerec_milvus.serving.deployment import Model
from paddlerec_milvus.serving.item_index import without_secrets
from paddlerec_milvus.serving.settings import ServiceSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

REMEMBERED = 100_000  # users, of at most 1,000 clicks: 8 kB
RENEWALS = 16  # of stored interests under way, after a new model has come


class Appended(NamedTuple):
    """What an event led to."""

    history: int
    """Clicks that are kept of the user."""
    unknown: int
    """Ids of the event that are none of the model's: not kept."""


class _Remembered(NamedTuple):
    state: UserState
    sure: bool
    """False after a write that failed: it may have been carried out all the same."""


class Users:
    """The users of the service's item collection; connects to Milvus when it is first needed.

    All methods answer within ``settings.timeout`` seconds and raise RetrievalError when Milvus is
    away or refuses. To be used from one event loop.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._timeout, self._settings = settings.timeout, settings.model
        self._stored = StoredUsers(settings)
        self._prepared = 0  # the dimension
        self._told = ""  # why that could not be done
        self._remembered: OrderedDict[int, _Remembered] = OrderedDict()
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._renewing: set[int] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def prepare(self, model: Model) -> None:
        """Make the collection that the first click of all would have to wait for; waits for it."""
        if model.tower.dimension == self._prepared:
            return
        try:
            self._stored.now(lambda store: self._prepare(store, model))
        except RetrievalError as error:
            if str(error) != self._told:  # a look comes every other second
                logger.warning(
                    "clicks cannot be stored yet: %s", without_secrets(error, self._settings)
                )
            self._told = str(error)

    async def append(self, user: int, items: Sequence[int], model: Model) -> Appended:
        """Add clicks on ``items``, oldest first; the interests are made anew by ``model``."""
        end = time.monotonic() + self._timeout
        return await self._in_time(self._append(user, items, model, end))

    async def interests_of(
        self, user: int, model: Model, *, strong: bool = False
    ) -> UserState | None:
        """History and interests of ``user`` by ``model``; None: no click is known.

        ``strong``: what other processes wrote a moment ago counts, too.
        """
        kept = None if strong else self._remembered.get(user)
        if kept is not None:
            self._remembered.move_to_end(user)
            if kept.state.checkpoint == model.tower.fingerprint:
                return kept.state
        return await self._in_time(self._interests_of(user, model, kept, strong=strong))

    async def forget(self, user: int) -> None:
        """Delete all that is stored of ``user``; one who is not known is no error."""
        await self._in_time(self._forget(user))

    def close(self) -> None:
        """End the threads, once they have finished what they do, and the connection."""
        self._stored.close()

    async def _append(self, user: int, items: Sequence[int], model: Model, end: float) -> Appended:
        known = _known(np.array(items, np.int64), model)
        async with self._lock_of(user):
            before = await self._sure(user)
            history = np.empty(0, np.int64) if before is None else before.history
            if len(known):
                history = np.concatenate([history, known])[-MOST_CLICKS:]
                clicks = len(known) + (before.clicks if before else 0)
                state = await _made(user, history, clicks, model)
                if model.tower.dimension != self._prepared:
                    await self._stored.call(lambda store: self._prepare(store, model))
                if time.monotonic() > end:
                    raise self._late()  # the caller was told so, and may try again
                await self._write(state, before)
        return Appended(len(history), len(items) - len(known))

    async def _interests_of(
        self, user: int, model: Model, kept: _Remembered | None, *, strong: bool
    ) -> UserState | None:
        if kept is not None:
            state: UserState | None = kept.state
        elif strong:
            state = await self._read_anew(user)
        else:
            state = await self._stored.call(lambda store: store.read(user, "Bounded"))
        if state is None or state.checkpoint == model.tower.fingerprint:
            return state
        self._renew_later(user, model)
        return await _made(user, state.history, state.clicks, model)

    async def _read_anew(self, user: int) -> UserState | None:
        async with self._lock_of(user):
            self._doubt(user)
            return await self._sure(user)

    async def _forget(self, user: int) -> None:
        async with self._lock_of(user):
            self._doubt(user)
            await self._stored.call(lambda store: store.delete(user))
            self._remembered.pop(user, None)

    async def _renew(self, user: int, model: Model) -> None:
        """Store the interests that ``model`` makes of the user's history."""
        try:
            async with self._lock_of(user):
                before = await self._sure(user)
                if before is not None and before.checkpoint != model.tower.fingerprint:
                    state = await _made(user, before.history, before.clicks, model)
                    await self._write(state, before)
        except UserError as error:
            logger.warning("the interests of a user stay another model's: %s", type(error).__name__)
        finally:
            self._renewing.discard(user)

    def _renew_later(self, user: int, model: Model) -> None:
        """Nobody waits for it, and where too many are under way the user's next list tries."""
        if user not in self._renewing and len(self._renewing) < RENEWALS:
            self._renewing.add(user)
            self._started(self._renew(user, model))

    async def _sure(self, user: int) -> UserState | None:
        """The last state that was written; the caller holds the user's lock."""
        kept = self._remembered.get(user)
        if kept is not None and kept.sure:
            return kept.state
        state = await self._stored.read(user)
        if state is None:
            self._remembered.pop(user, None)
        else:
            self._remember(state)
        return state

    async def _write(self, state: UserState, before: UserState | None) -> None:
        try:
            await self._stored.call(lambda store: store.write(state, before))
        except BaseException:
            self._doubt(state.user)
            raise
        self._remember(state)

    def _remember(self, state: UserState) -> None:
        self._remembered[state.user] = _Remembered(state, sure=True)
        self._remembered.move_to_end(state.user)
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def _doubt(self, user: int) -> None:
        """Read it from Milvus before the next write."""
        if user in self._remembered:
            self._remembered[user] = self._remembered[user]._replace(sure=False)

    def _lock_of(self, user: int) -> asyncio.Lock:
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

    def _prepare(self, store: UserStore, model: Model) -> None:
        store.prepare(model.tower.dimension)
        self._prepared = model.tower.dimension


def _known(items: IntArray, model: Model) -> IntArray:
    known: IntArray = items[(items >= 1) & (items <= model.tower.items)]
    return known


async def _made(user: int, history: IntArray, clicks: int, model: Model) -> UserState:
    """The state with interests by ``model``; zeros where it knows nothing of the history."""
    tower = model.tower
    last = _known(history, model)[-tower.maxlen :]
    interests = np.zeros((1, tower.dimension), np.float32)
    if len(last):
        padded = np.zeros((1, tower.maxlen), np.int64)
        padded[0, : len(last)] = last
        lengths = np.array([len(last)], np.int64)
        (interests,) = await asyncio.to_thread(tower.interests, padded, lengths)
    return UserState(user, history, clicks, tower.fingerprint, interests)
