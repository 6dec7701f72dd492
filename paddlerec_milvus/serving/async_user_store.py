# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The store of users off the event loop: connected when it is needed, and anew after a failure."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.user_history import UserState
from paddlerec_milvus.retrieval.writer_claim import ClaimedError, OnlyWriter
from paddlerec_milvus.serving.connections import RetiredConnections
from paddlerec_milvus.serving.settings import ServiceSettings

T = TypeVar("T")

STRONG_READS = 4  # under way at a time, each for all users who wait: a server takes 0.2 to 0.4 s
PAUSE = 0.5  # seconds without another try after Milvus failed


class UserStorage(Protocol):
    """Where users are stored; UserStore has it. Safe to use from several threads."""

    def prepare(self, dimension: int) -> None:
        """Make ready for interests of ``dimension``."""

    def read(self, user: OwnId, consistency: str = ...) -> UserState | None:
        """The state of ``user``; None: no click is known."""
        ...

    def read_all(self, users: Sequence[OwnId]) -> dict[OwnId, UserState]:
        """The states of those of ``users`` who are known, the last writes included."""
        ...

    def write(self, state: UserState, before: UserState | None) -> None:
        """Store ``state`` in place of ``before``, which is what :meth:`read` gave."""

    def delete(self, user: OwnId) -> None:
        """Forget ``user``; one who is not known is no error."""

    def claim(self) -> int:
        """See that no other process writes: another number whenever one may have in between.

        ClaimedError: one does.
        """
        ...

    def is_writer(self) -> bool:
        """Whether this process writes: it has, and no other may."""
        ...

    def release(self) -> None:
        """Let another process write."""

    def close(self) -> None:
        """Close the connection; what is stored stays."""


class InMemoryUserStore:
    """Users for as long as the process runs: for tests, and where there is no Milvus."""

    def __init__(self) -> None:
        self._states: dict[OwnId, UserState] = {}

    def prepare(self, dimension: int) -> None:
        """Nothing: any dimension will do."""

    def read(self, user: OwnId, consistency: str = "Strong") -> UserState | None:
        """The state of ``user``; None: no click is known."""
        return self._states.get(user)

    def read_all(self, users: Sequence[OwnId]) -> dict[OwnId, UserState]:
        """The states of those of ``users`` who are known."""
        return {user: self._states[user] for user in users if user in self._states}

    def write(self, state: UserState, before: UserState | None) -> None:
        """Store ``state`` in place of the one before."""
        self._states[state.user] = state

    def delete(self, user: OwnId) -> None:
        """Forget ``user``; one who is not known is no error."""
        self._states.pop(user, None)

    def claim(self) -> int:
        """The same number, as nobody else can write."""
        return 0

    def is_writer(self) -> bool:
        """Nobody else can be."""
        return True

    def release(self) -> None:
        """Nothing: nobody else can write."""

    def close(self) -> None:
        """Nothing: there is no connection."""


def milvus_users(settings: ServiceSettings) -> OnlyWriter:
    """A connection to the users beside the settings' items; RetrievalError: Milvus is away."""
    model = settings.model
    return OnlyWriter(
        model.milvus_uri,
        model.milvus.collection,
        token=model.milvus.token.get_secret_value(),
        db_name=model.milvus.db_name,
        timeout=settings.timeout,
        metric=model.retrieval.metric,
    )


class AsyncUserStore:
    """Calls of a :class:`UserStorage` that ``connect`` gives, each within ``settings.timeout`` s.

    All methods raise RetrievalError when Milvus is away or refuses.
    """

    def __init__(self, settings: ServiceSettings, connect: Callable[[], UserStorage]) -> None:
        self._connect = connect
        self._pool = ThreadPoolExecutor(settings.threads + STRONG_READS, "users")
        self._connecting = threading.Lock()
        self._store: UserStorage | None = None
        self._retired = RetiredConnections(settings.timeout)
        self._again = 0.0
        self._failed: RetrievalError | None = None
        self._pending: dict[OwnId, asyncio.Future[UserState | None]] = {}
        self._readers: set[asyncio.Task[None]] = set()

    async def call(self, work: Callable[[UserStorage], T]) -> T:
        """The result of ``work(store)``, done in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.now, work)

    async def read(self, user: OwnId) -> UserState | None:
        """What Milvus holds now; users who wait at the same time are read in one call."""
        answer: asyncio.Future[UserState | None] = asyncio.get_running_loop().create_future()
        self._pending[user] = answer
        if len(self._readers) < STRONG_READS:
            reader = asyncio.ensure_future(self._read_pending())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        return await answer

    async def _read_pending(self) -> None:
        while self._pending:
            pending, self._pending = self._pending, {}
            await self._answer(pending)

    async def _answer(self, pending: dict[OwnId, asyncio.Future[UserState | None]]) -> None:
        users = list(pending)
        try:
            states = await self.call(lambda store: store.read_all(users))
        except Exception as error:
            for answer in pending.values():
                answer.set_exception(error)
        else:
            for user, answer in pending.items():
                answer.set_result(states.get(user))

    def now(self, work: Callable[[UserStorage], T]) -> T:
        """The result of ``work(store)``, done in this thread."""
        store = self._opened()
        try:
            return work(store)
        except ClaimedError:
            raise  # the connection is sound, and others read by it
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
            if self._store is not None:
                with contextlib.suppress(RetrievalError):
                    self._store.release()
            self._retire(RetrievalError("the service has ended"))
            self._retired.close_all()

    def _opened(self) -> UserStorage:
        with self._connecting:
            self._retired.close_expired()
            if self._store is None:
                if self._failed is not None and time.monotonic() < self._again:
                    raise type(self._failed)(str(self._failed)) from self._failed
                try:
                    self._store = self._connect()
                except RetrievalError as error:
                    self._retire(error)
                    raise
            return self._store

    def _retire(self, error: RetrievalError) -> None:
        """Connect anew after a pause, in which calls fail by ``error`` at once.

        Those that are under way may end on the old connection.
        """
        store, self._store = self._store, None
        self._again, self._failed = time.monotonic() + PAUSE, error
        if store is not None:
            self._retired.add(store)
