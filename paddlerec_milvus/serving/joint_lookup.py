# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Questions of several requests for items in Milvus, asked together: one costs as much as many."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from concurrent.futures import Executor
from functools import partial

from paddlerec_milvus.serving.hidden_items import ChangeableItems


class _Question:
    """What is to be asked next, and the answer to come."""

    def __init__(self) -> None:
        self.items: set[int] = set()
        self.answer: asyncio.Task[Mapping[int, str]] | None = None


class JointLookup:
    """The categories of stored items, looked up in a thread of ``pool``, one call at a time.

    What is asked meanwhile goes with the next call, and who is alone does not wait. For one loop.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool, self._turn = pool, asyncio.Lock()
        self._next: dict[tuple[int, str | None], _Question] = {}

    async def categories_of(
        self, retriever: ChangeableItems, items: Set[int], consistency: str | None
    ) -> Mapping[int, str]:
        """At least those of ``items`` that are stored now; the retriever's errors."""
        if not items:
            return {}
        question = self._next.setdefault((id(retriever), consistency), _Question())
        question.items |= items
        if question.answer is None:
            question.answer = asyncio.ensure_future(self._ask(retriever, consistency))
            question.answer.add_done_callback(_noted)
        return await asyncio.shield(question.answer)  # others wait for it, too

    async def _ask(self, retriever: ChangeableItems, consistency: str | None) -> Mapping[int, str]:
        async with self._turn:
            items = sorted(self._next.pop((id(retriever), consistency)).items)
            work = partial(retriever.categories_of, items, consistency)
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _noted(answer: asyncio.Task[Mapping[int, str]]) -> None:
    """A failure is not logged as unseen where all who asked have given up before."""
    if not answer.cancelled():
        answer.exception()
