# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The store of users off the event loop: connected when it is needed, and anew after a failure."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.user_store import UserState, UserStore
from paddlerec_milvus.serving.settings import ServiceSettings

T = TypeVar("T")

STRONG_READS = 4  # under way at a time, each for all users who wait: a server takes 0.2 to 0.4 s
PAUSE = 0.5  # seconds without another try after Milvus failed


class StoredUsers:
    """Calls of :class:`UserStore`, each within ``settings.timeout`` seconds.

    All methods raise RetrievalError when Milvus is away or refuses.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.threads + STRONG_READS, "users")
        self._connecting = threading.Lock()
        self._store: UserStore | None = None
        self._retired: list[tuple[float, UserStore]] = []
        self._again = 0.0
        self._failed: RetrievalError | None = None
        self._asked: dict[int, asyncio.Future[UserState | None]] = {}
        self._readers: set[asyncio.Task[None]] = set()

    async def call(self, work: Callable[[UserStore], T]) -> T:
        """``work(store)`` in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.now, work)

    async def read(self, user: int) -> UserState | None:
        """What Milvus holds now; users who wait at the same time are read in one call."""
        answer: asyncio.Future[UserState | None] = asyncio.get_running_loop().create_future()
        self._asked[user] = answer
        if len(self._readers) < STRONG_READS:
            reader = asyncio.ensure_future(self._read_asked())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        return await answer

    async def _read_asked(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            await self._answer(asked)

    async def _answer(self, asked: dict[int, asyncio.Future[UserState | None]]) -> None:
        users = list(asked)
        try:
            found = await self.call(lambda store: store.read_all(users))
        except Exception as error:
            for answer in asked.values():
                answer.set_exception(error)
        else:
            for user, answer in asked.items():
                answer.set_result(found.get(user))

    def now(self, work: Callable[[UserStore], T]) -> T:
        """``work(store)`` in this thread."""
        store = self._opened()
        try:
            return work(store)
        except RetrievalError as error:
            # an old connection tries again with ever longer pauses, and collections may be gone
            with self._connecting:
                if self._store is store:
                    self._retire(error)
            raise

    def close(self) -> None:
        """End the threads, once they have finished what they do, and the connection."""
        self._pool.shutdown(cancel_futures=True)
        with self._connecting:
            self._retire(RetrievalError("the service has ended"))
            self._close_retired(before=time.monotonic())

    def _opened(self) -> UserStore:
        with self._connecting:
            self._close_retired(before=time.monotonic() - self._settings.timeout)
            if self._store is None:
                if self._failed is not None and time.monotonic() < self._again:
                    raise type(self._failed)(str(self._failed)) from self._failed
                try:
                    self._store = self._connect()
                except RetrievalError as error:
                    self._retire(error)
                    raise
            return self._store

    def _connect(self) -> UserStore:
        model = self._settings.model
        return UserStore(
            model.milvus_uri,
            model.milvus.collection,
            token=model.milvus.token.get_secret_value(),
            db_name=model.milvus.db_name,
            timeout=self._settings.timeout,
            metric=model.retrieval.metric,
        )

    def _retire(self, error: RetrievalError) -> None:
        """Connect anew after a pause, in which calls fail by ``error`` at once.

        Those that are under way may end on the old connection.
        """
        store, self._store = self._store, None
        self._again, self._failed = time.monotonic() + PAUSE, error
        if store is not None:
            self._retired.append((time.monotonic(), store))

    def _close_retired(self, *, before: float) -> None:
        for retired in list(self._retired):
            if retired[0] <= before:
                retired[1].close()
                self._retired.remove(retired)
