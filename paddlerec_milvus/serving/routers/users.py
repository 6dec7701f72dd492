# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users whose clicks the service stores: events, candidates by them, and forgetting."""

from __future__ import annotations

import logging
import time
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.user_history import (
    ClickEvent,
    HistoriesAwayError,
    ReusedKeyError,
    UserState,
    token_of,
)
from paddlerec_milvus.serving.auth import Role, needs
from paddlerec_milvus.serving.callers import caller_of
from paddlerec_milvus.serving.dependencies import id_of, service_of
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.model_cache import ServingModel
from paddlerec_milvus.serving.ranking_schemas import RecommendQuery
from paddlerec_milvus.serving.recommender import CandidateService
from paddlerec_milvus.serving.routers.candidates import timed_response
from paddlerec_milvus.serving.schemas import (
    CandidatesAnswer,
    CandidatesRequest,
    Consistency,
    EventsAnswer,
    EventsRequest,
    UserCandidatesQuery,
    UserDeleteAnswer,
    request_body,
)
from paddlerec_milvus.serving.validation import InvalidRequestError, problem, read

logger = logging.getLogger(__name__)

router = APIRouter()

MOST_AHEAD = 86_400.0  # seconds that a caller's clock may be ahead of this one's

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="Sent again with the same event"),
]
UserPath = Annotated[str, Path(json_schema_extra={"x-id": "users"})]


@router.post(
    "/users/{user:path}/events",
    dependencies=[Depends(needs(Role.WRITE))],
    openapi_extra={"requestBody": request_body(EventsRequest)},
)
async def add_events(
    request: Request, response: Response, user: UserPath, idempotency_key: IdempotencyKey = None
) -> EventsAnswer:
    """Add clicks to a user's history; the next candidates use them.

    After a 503 they may have been stored or not. Sent again with the same ``Idempotency-Key`` they
    are stored once: the answer to a repetition has the header ``Idempotent-Replayed: true``.
    """
    service = service_of(request)
    model = service.model
    own = id_of(user, model.user_kind, ("path", "user"))
    events = await read(request, service.settings, EventsRequest, model.ids.kind)
    if len(events.items) > (limit := service.settings.max_history):
        text = f"at most {limit:,} ids in a call"
        raise InvalidRequestError(
            [problem(("body", "items"), text, "too_large", f"{len(events.items):,}")]
        )
    if events.time is not None and events.time > time.time() + MOST_AHEAD:
        text = "is more than a day ahead of this service's clock; send seconds since 1970"
        raise InvalidRequestError(
            [problem(("body", "time"), text, "too_late", f"{events.time:.3f}")]
        )
    token = token_of(idempotency_key, [events.items, events.time]) if idempotency_key else ""
    milliseconds = None if events.time is None else round(events.time * 1000)
    try:
        appended = await service.users.append(
            own, ClickEvent(events.items, milliseconds, token), model
        )
    except ReusedKeyError as error:
        place = ("header", "Idempotency-Key")
        raise InvalidRequestError([problem(place, str(error), "reused_key")]) from None
    if appended.repeated:
        response.headers["Idempotent-Replayed"] = "true"
    return EventsAnswer(user=own, history=appended.history, unknown=appended.unknown)


@router.get(
    "/users/{user:path}/candidates",
    dependencies=[Depends(needs(Role.USERS))],
    response_model=CandidatesAnswer,
)
async def user_candidates(
    request: Request,
    user: UserPath,
    query: Annotated[UserCandidatesQuery, Query()],
) -> Response:
    """Candidates by the clicks that are stored of a user: one row, as ``/candidates`` gives it."""
    stored = await stored_clicks(request, user, query)
    reply = await service_of(request).candidates_of(
        CandidatesRequest[Any](hist_item=[stored.history], **query.model_dump()),
        *(stored.interests, stored.served, stored.began, stored.source),
        caller=caller_of(request),
    )
    return timed_response(request, reply.content, {"user": stored.seconds, **reply.stages})


class StoredClicks(NamedTuple):
    """What a list for a stored user is made of."""

    own: OwnId
    """The user."""
    history: list[OwnId]
    """Empty where nothing is stored."""
    interests: FloatArray | None
    """[1, K, D]; None: they are not known."""
    served: ServedVersion | None
    """That the interests are of."""
    source: Literal["fallback"] | None
    """``fallback``: nobody could tell the clicks."""
    began: float
    """When the request came, by time.monotonic."""
    seconds: float
    """That it took to read them."""


async def stored_clicks(
    request: Request, user: str, query: UserCandidatesQuery | RecommendQuery
) -> StoredClicks:
    """The clicks of ``user`` for a list as ``query`` wants it.

    InvalidRequestError: that is too long, or ``user`` is no id. HistoriesAwayError: see
    :func:`_stored_user`.
    """
    service, began = service_of(request), time.monotonic()
    if query.top_k > (limit := service.settings.max_top_k):
        text = f"at most {limit:,} items in a list"
        raise InvalidRequestError(
            [problem(("query", "top_k"), text, "too_large", f"{query.top_k:,}")]
        )
    served = service.current
    model = served.model if served else service.model
    own = id_of(user, model.user_kind, ("path", "user"))
    state, source = await _stored_user(service, own, model, query.consistency)
    if source is not None:
        service.metrics.fallbacks.labels("failure" if served else "not_ready").inc()
    seconds = time.monotonic() - began
    if state is None:
        return StoredClicks(own, [], None, served, source, began, seconds)
    interests = None if served is None else state.interests[None]
    return StoredClicks(own, state.history, interests, served, source, began, seconds)


async def _stored_user(
    service: CandidateService, own: OwnId, model: ServingModel, consistency: Consistency | None
) -> tuple[UserState | None, Literal["fallback"] | None]:
    """What is stored of a user, None: nothing; and ``fallback`` where nobody could tell.

    HistoriesAwayError: Milvus answers, and would with a list that ignores what the user clicked.
    """
    try:
        strong = consistency == "Strong"
        return await service.users.interests_of(own, model, strong=strong), None
    except HistoriesAwayError:
        raise
    except RetrievalError:  # the user may have clicks, and Milvus did not tell
        return None, "fallback"
    except Exception:  # whatever a model folder raises
        logger.exception("no interests of a user")
        return None, "fallback"


@router.delete("/users/{user:path}", dependencies=[Depends(needs(Role.ADMIN))])
async def forget_user(request: Request, user: UserPath) -> UserDeleteAnswer:
    """Delete all that is stored of a user; one who is not known is no error."""
    service = service_of(request)
    own = id_of(user, service.model.user_kind, ("path", "user"))
    await service.users.forget(own)
    return UserDeleteAnswer(deleted=own)
