# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Held-out users → interests → search → merged candidates: the one loop over users."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.evaluation.interests import InterestUse, joined, use_of
from paddlerec_milvus.retrieval.base import Retriever
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.settings import Settings

IntArray = npt.NDArray[np.int64]

SEARCHES = 3  # under way at a time


@dataclass
class Stopwatch:
    """Adds up the seconds that stages take."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what runs inside to the stage ``name``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def read_users(settings: Settings, key: str) -> HeldOutUsers:
    """The users of the folder ``runner.<key>``; DataError: a history beyond the item table."""
    users = read_held_out(settings.path(key))
    require_known_items(users, settings, key)
    return users


def require_known_items(users: HeldOutUsers, settings: Settings, key: str) -> None:
    """DataError: a history of ``users``, those of ``runner.<key>``, is beyond the item table."""
    item_count = settings.hyper_parameters.get("item_count")
    largest = int(users.history.max(initial=0))
    if item_count is not None and largest >= item_count:
        raise DataError(
            f"{settings.path(key)}: a history holds item {largest}, but the model's "
            f"hyper_parameters.item_count is {item_count}: it was trained on other data"
        )


@dataclass(frozen=True)
class Queries:
    """Users to search for: histories [U, maxlen], lengths [U], users [U] (their ids), and the items
    that a list may not hold.
    """

    histories: IntArray
    lengths: IntArray
    users: IntArray
    exclude: Sequence[IntArray] | None

    @classmethod
    def of(cls, users: HeldOutUsers, maxlen: int, *, exclude_history: bool) -> Queries:
        """The last ``maxlen`` clicks of ``users``; ``exclude_history`` bars all their clicks."""
        excluded = users.history_list() if exclude_history else None
        return cls(*users.histories(maxlen), users.user_ids, excluded)

    def __getitem__(self, rows: slice | IntArray) -> Queries:
        exclude = self.exclude
        if exclude is not None:
            exclude = [exclude[row] for row in np.arange(len(self.lengths))[rows]]
        return Queries(self.histories[rows], self.lengths[rows], self.users[rows], exclude)


@dataclass(frozen=True)
class Search:
    """Where users' lists come from, and the item table ``vectors`` [V, D] that was put there."""

    retriever: Retriever
    vectors: npt.NDArray[np.float32]
    metric: str
    top_n: int

    @classmethod
    def exactly(cls, vectors: npt.NDArray[np.float32], metric: str, top_n: int) -> Search:
        """Exact search over the item table ``vectors`` [V, D], whose row i is item i, 0 padding."""
        ids = np.arange(1, len(vectors), dtype=np.int64)
        return cls(ExactRetriever(vectors[1:], ids, metric), vectors, metric, top_n)

    def __call__(
        self, interests: npt.NDArray[np.float32], exclude: Sequence[IntArray] | None
    ) -> tuple[IntArray, InterestUse]:
        """Lists [B, top_n] of ``interests`` [B, K, D], and what each interest brought to them."""
        lists = search_users(self.retriever, interests, self.top_n, exclude=exclude).ids
        return lists, use_of(interests, lists, self.vectors, self.metric)


def candidates_of(
    encoder: Encoder, search: Search, queries: Queries, batch_size: int, watch: Stopwatch
) -> tuple[IntArray, InterestUse]:
    """Candidates [U, top_n] int64 of all users, -1 where a list is short, and their interests' use.

    While one batch is searched, the next goes through the tower and the last is merged: ``search``
    is the time that this waits for lists.
    """
    lists: list[IntArray] = []
    uses: list[InterestUse] = []
    under_way: deque[Future[tuple[IntArray, InterestUse]]] = deque()

    def collect(left: int) -> None:
        while len(under_way) > left:
            with watch.stage("search"):
                batch_lists, use = under_way.popleft().result()
            lists.append(batch_lists)
            uses.append(use)

    starts = range(0, len(queries.lengths), batch_size)
    with ThreadPoolExecutor(SEARCHES) as pool:
        for start in tqdm(starts, "users", unit="batch", disable=None):
            batch = queries[start : start + batch_size]
            with watch.stage("tower"):
                interests = encoder.interests(batch.histories, batch.lengths, batch.users)
            under_way.append(pool.submit(search, interests, batch.exclude))
            collect(left=SEARCHES)
        collect(left=0)
    return np.concatenate(lists), joined(uses)
