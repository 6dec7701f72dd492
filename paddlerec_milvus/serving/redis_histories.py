# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Histories in Redis or Valkey: any number of processes may take the clicks of a user.

Nothing is remembered here: a list is made of what Redis holds when it is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.retrieval.redis_store import RedisUserStore
from paddlerec_milvus.retrieval.user_history import ClickEvent, HistoriesAwayError, UserState
from paddlerec_milvus.serving.histories import AppendedClicks, rows_of, with_interests
from paddlerec_milvus.serving.model_cache import ServingModel
from paddlerec_milvus.serving.settings import ServiceSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

CALLS = 16  # to Redis under way at a time


def redis_users(settings: ServiceSettings, timeout: float) -> RedisUserStore:
    """The users of the settings' collection in their Redis; SettingsError: no such address."""
    return RedisUserStore(
        settings.histories.get_secret_value(),
        settings.model.milvus.collection,
        timeout=timeout,
        days=settings.history_days,
    )


class RedisHistories:
    """The histories of a service's users in the Redis of its settings: a HistoryService."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._timeout = settings.timeout
        self._store = redis_users(settings, settings.timeout)
        self._pool = ThreadPoolExecutor(CALLS, "users")
        self._problem: str | None = None

    @property
    def are_up(self) -> bool:
        """Whether Redis answered at the last :meth:`prepare`."""
        return self._problem == ""

    def prepare(self, model: ServingModel) -> None:
        """Say it when Redis comes or goes, and which of its settings may lose clicks."""
        try:
            warnings, problem = self._store.warnings(), ""
        except HistoriesAwayError as error:
            warnings, problem = [f"no clicks can be stored: {error}"], str(error)
        if problem != self._problem:
            for text in warnings:
                logger.warning(text)
        self._problem = problem

    async def append(self, user: OwnId, event: ClickEvent, model: ServingModel) -> AppendedClicks:
        """Store the clicks of ``event`` that ``model`` knows, once for its token."""
        return await self._within(self._append(user, event, model))

    async def _append(self, user: OwnId, event: ClickEvent, model: ServingModel) -> AppendedClicks:
        rows = await rows_of(event.items, model)
        known = [item for item, row in zip(event.items, rows, strict=True) if row]
        unknown = [item for item, row in zip(event.items, rows, strict=True) if not row]
        if not known:
            state = await self._call(lambda: self._store.read(user))
            return AppendedClicks(len(state.history) if state else 0, unknown, repeated=False)
        event = event._replace(items=known)
        done = await self._call(lambda: self._store.append(user, event))
        return AppendedClicks(done.history, unknown, done.repeated)

    async def interests_of(
        self, user: OwnId, model: ServingModel, *, strong: bool = False
    ) -> UserState | None:
        """History and interests of ``user``, always as Redis holds them; None: no click."""
        state = await self._within(self._call(lambda: self._store.read(user)))
        if state is None or not state.history:
            return None
        return await with_interests(state, model)

    async def forget(self, user: OwnId) -> None:
        """Delete all that is stored of ``user``; one who is not known is no error."""
        await self._within(self._call(lambda: self._store.delete(user)))

    def close(self) -> None:
        """End the threads, once they have finished what they do, and the connections."""
        self._pool.shutdown(cancel_futures=True)
        self._store.close()

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _within(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``; after the deadline, what has not begun is not done any more."""
        try:
            return await asyncio.wait_for(work, self._timeout)
        except asyncio.TimeoutError:
            raise HistoriesAwayError(
                f"Redis at {self._store.address} did not answer for this user within "
                f"{self._timeout:g} s; try again"
            ) from None
