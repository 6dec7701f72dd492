# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a service needs of a store of histories, and the interests that a model makes of one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.retrieval.user_history import ClickEvent, UserState
from paddlerec_milvus.serving.model_cache import ServingModel


class AppendedClicks(NamedTuple):
    """What became of the clicks of an event."""

    history: int
    """Clicks that are kept of the user."""
    unknown: list[OwnId]
    """Ids of the event that are none of the model's: not kept."""
    repeated: bool
    """The event had been stored before: nothing was added."""


class HistoryService(Protocol):
    """The histories of a service's users; all methods answer within the settings' timeout.

    They raise RetrievalError when the store is away or refuses. To be used from one event loop.
    """

    @property
    def are_up(self) -> bool:
        """Whether the store answered at the last :meth:`prepare`."""
        ...

    def prepare(self, model: ServingModel) -> None:
        """Make ready for the first click; called again and again, from another thread."""

    async def append(self, user: OwnId, event: ClickEvent, model: ServingModel) -> AppendedClicks:
        """Store the clicks of ``event`` that ``model`` knows, once for its token.

        ReusedKeyError: its idempotency key came with another event.
        """
        ...

    async def interests_of(
        self, user: OwnId, model: ServingModel, *, strong: bool = False
    ) -> UserState | None:
        """History and interests of ``user`` by ``model``; None: no click is known.

        ``strong``: what other processes wrote a moment ago counts, too.
        """
        ...

    async def forget(self, user: OwnId) -> None:
        """Delete all that is stored of ``user``; one who is not known is no error."""

    def close(self) -> None:
        """End the threads, once they have finished what they do, and the connection."""


async def rows_of(items: Sequence[OwnId], model: ServingModel) -> list[int]:
    """The model's row for each of ``items``, 0 for those that it does not know."""
    numbers = model.ids.numbers(items)
    if fresh := model.ids.unresolved(numbers):
        await asyncio.to_thread(model.ids.resolve, fresh)
    return model.ids.known(numbers)


async def with_interests(state: UserState, model: ServingModel) -> UserState:
    """``state`` with interests by ``model``; zeros where it knows nothing of the history."""
    tower = model.tower
    known = [row for row in await rows_of(state.history, model) if row]
    padded, lengths = pad_histories([known], tower.maxlen)
    interests = np.zeros((1, tower.dimension), np.float32)
    if lengths[0]:
        (interests,) = await asyncio.to_thread(tower.interests, padded, lengths)
    return state._replace(checkpoint=tower.fingerprint, interests=interests)
