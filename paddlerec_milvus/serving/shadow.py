# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What was shown, logged with a second list that another configuration would have shown.

The second one, the shadow, is made after the answer, in a thread of its own and within a deadline;
where it is late or fails, the list that was shown is logged without it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.data.shown_lists import ShadowList, ShownList
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.serving.alternatives import batch_for
from paddlerec_milvus.serving.batching import SearchedUsers
from paddlerec_milvus.serving.candidates import search_candidates
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.model_cache import ServingModel
from paddlerec_milvus.serving.ranked_lists import (
    Lists,
    named_items,
    ranked_lists,
    unranked_lists,
)
from paddlerec_milvus.serving.ranking_schemas import RankedItem, RankedSource, RecommendAnswer
from paddlerec_milvus.serving.recommender import CandidateService
from paddlerec_milvus.serving.settings import ServiceSettings, without_secrets
from paddlerec_milvus.serving.shown_log import ShownLog
from paddlerec_milvus.serving.validation import UserBatch

logger = logging.getLogger(__name__)

MOST_SHADOWS = 32  # requests whose shadows are under way or wait
USERS = 16  # that the time for a shadow is for; others have as much again
HASH_DIGITS = 32

Shadows = Mapping[int, ShadowList]  # by the row of the request
NO_SHADOWS: Shadows = {}


class ListOrigin(NamedTuple):
    """Which request a list answers, and whose list it is."""

    request_id: str = ""
    user: OwnId | None = None
    """None: the caller sent a history."""


class ShownAnswer(NamedTuple):
    """An answer, and what it was made of."""

    origin: ListOrigin
    time: datetime
    served: ServedVersion | None
    model: ServingModel
    batch: UserBatch
    searched: SearchedUsers | None
    answer: RecommendAnswer
    top_k: int
    as_text: bool


class ShownRecorder:
    """Logs the answers of ``service``, with shadows as its settings say."""

    def __init__(self, service: CandidateService, folder: Path) -> None:
        self._service = service
        self._log = ShownLog(folder, service.metrics)
        self._pool = ThreadPoolExecutor(1, "shadow")
        self._under_way = set[asyncio.Task[None]]()

    def record(self, shown: ShownAnswer) -> None:
        """Log ``shown``, with its shadow as soon as that is made; returns at once."""
        if self._service.settings.shadow == "off" or not len(shown.batch.rows):
            self._add(shown, NO_SHADOWS)
        elif len(self._under_way) >= MOST_SHADOWS:
            self._count("dropped")
            self._add(shown, NO_SHADOWS)
        else:
            task = asyncio.get_running_loop().create_task(self._with_shadow(shown))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Wait for the shadows under way, each of which has a deadline, and end the log."""
        await asyncio.gather(*self._under_way)
        self._pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._log.close)

    async def _with_shadow(self, shown: ShownAnswer) -> None:
        settings, shadows = self._service.settings, NO_SHADOWS
        seconds = settings.ranking_timeout * math.ceil(len(shown.batch.rows) / USERS)
        if settings.shadow == "before":
            seconds += settings.timeout  # for its search
        try:
            making = asyncio.get_running_loop().run_in_executor(self._pool, self._shadows, shown)
            shadows = await asyncio.wait_for(making, seconds)
            self._count("logged" if shadows else "absent")
        except asyncio.TimeoutError:
            self._count("deadline")
        except UserError as error:
            self._count("failure")
            logger.warning("no shadow: %s", without_secrets(error, settings.model))
        except Exception:  # whatever a ranker or a model folder raises
            self._count("failure")
            logger.exception("no shadow")
        self._add(shown, shadows)

    def _shadows(self, shown: ShownAnswer) -> Shadows:
        """What the other configuration would have shown; empty where there is none."""
        by, served, searched, model = (
            self._service.settings.shadow,
            *(shown.served, shown.searched, shown.model),
        )
        if by == "before":
            return self._by_version_before(shown)
        ranking = model.ranking
        if served is None or searched is None or ranking is None:
            return NO_SHADOWS
        arguments = (shown.batch, searched)
        if by == "unranked":
            lists = unranked_lists(*arguments, shown.top_k)
            return _named("unranked", model, shown.batch, lists, "unranked")
        lists = ranked_lists(ranking, served.retriever, *arguments, model.categories, shown.top_k)
        return _named("ranked", model, shown.batch, lists, "ranked")

    def _by_version_before(self, shown: ShownAnswer) -> Shadows:
        if (before := self._service.deployment.before()) is None:
            return NO_SHADOWS
        model, request = before.model, shown.batch.request
        least = self._service.settings.least_history
        batch = batch_for(model, request, least, as_text=shown.as_text)
        if not len(batch.rows):
            return NO_SHADOWS
        interests = model.tower.interests(batch.histories[batch.rows], batch.lengths[batch.rows])
        excluded = [batch.exclude[row] for row in batch.rows.tolist()]
        results = search_candidates(
            *(before.retriever, request, interests, excluded, model.catalogue),
            categories=batch.categories,
        )
        searched = SearchedUsers(interests, results)
        source: RankedSource = "unranked" if model.ranking is None else "ranked"
        if model.ranking is None:
            lists = unranked_lists(batch, searched, shown.top_k)
        else:
            lists = ranked_lists(
                *(model.ranking, before.retriever, batch, searched, model.categories),
                shown.top_k,
            )
        return _named("before", model, batch, lists, source)

    def _add(self, shown: ShownAnswer, shadows: Shadows) -> None:
        # made now: what waits for the disk must not hold the request, its search and its model
        self._log.add(_lines(shown, shadows, self._service.settings))

    def _count(self, outcome: str) -> None:
        self._service.metrics.shadows.labels(outcome).inc()


def logged_user(user: OwnId | None, settings: ServiceSettings) -> OwnId | None:
    """What the log calls ``user``: nothing, 32 hex digits of HMAC-SHA256 of the id as text, or the
    id.
    """
    if user is None or settings.shown_users == "none":
        return None
    if settings.shown_users == "plain":
        return user
    key = settings.shown_secret.get_secret_value().encode()
    return hmac.new(key, str(user).encode(), hashlib.sha256).hexdigest()[:HASH_DIGITS]


def _named(
    by: str, model: ServingModel, batch: UserBatch, lists: Lists, source: RankedSource
) -> Shadows:
    return {
        row: ShadowList.model_construct(
            by=by, **_logged(named_items(items, batch, model.catalogue), model, source)
        )
        for row, items in lists.items()
    }


def _lines(shown: ShownAnswer, shadows: Shadows, settings: ServiceSettings) -> Sequence[ShownList]:
    answer, origin = shown.answer, shown.origin
    user = logged_user(origin.user, settings)
    return [
        ShownList.model_construct(
            time=shown.time,
            request_id=origin.request_id,
            row=row,
            user=user,
            shadow=shadows.get(row),
            **_logged(items, shown.model, source),
        )
        for row, (items, source) in enumerate(
            zip(answer.recommendations, answer.source, strict=True)
        )
    ]


def _logged(
    items: Sequence[RankedItem], model: ServingModel, source: RankedSource
) -> dict[str, Any]:
    """The fields of a logged list; of the model and its ranker only what made it is named."""
    ranking = model.ranking if source in ("ranked", "other_channels") else None
    return {
        "model": model.tower.fingerprint,
        "ranker": None if ranking is None else ranking.digest,
        "source": source,
        "items": [item.id for item in items],
        "scores": [item.score for item in items],
    }


def now() -> datetime:
    """The time of an answer, in UTC."""
    return datetime.now(timezone.utc)
