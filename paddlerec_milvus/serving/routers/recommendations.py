# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Ranked lists, for the histories of a request and for users that the service stores."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from paddlerec_milvus.serving.auth import Role, needs
from paddlerec_milvus.serving.callers import caller_of
from paddlerec_milvus.serving.dependencies import service_of
from paddlerec_milvus.serving.ranked_service import RankedService
from paddlerec_milvus.serving.ranking_schemas import (
    RecommendAnswer,
    RecommendQuery,
    RecommendRequest,
)
from paddlerec_milvus.serving.routers.candidates import timed_response, while_connected
from paddlerec_milvus.serving.routers.users import UserPath, stored_clicks
from paddlerec_milvus.serving.schemas import request_body
from paddlerec_milvus.serving.shadow import ListOrigin
from paddlerec_milvus.serving.validation import body_of, wants_text

router = APIRouter()


@router.post(
    "/recommend",
    dependencies=[Depends(needs(Role.READ))],
    response_model=RecommendAnswer,
    openapi_extra={"requestBody": request_body(RecommendRequest)},
)
async def recommend(request: Request) -> Response:
    """A ranked list for each history: candidates of all channels, best first, and why.

    Without a ranker, or where it is late, the items are the vector model's in its own order, and
    without that popular ones: ``source`` says so.
    """
    ranked: RankedService = request.app.state.ranked
    body = await body_of(request, service_of(request).settings.max_body)
    origin = ListOrigin(request.state.request_id)
    as_text = wants_text(request)
    caller = caller_of(request)
    answering = ranked.recommend(body, as_text=as_text, caller=caller, origin=origin)
    reply = await while_connected(request, body, answering)
    return timed_response(request, reply.content, reply.stages)


@router.get(
    "/users/{user:path}/recommendations",
    dependencies=[Depends(needs(Role.USERS))],
    response_model=RecommendAnswer,
)
async def user_recommendations(
    request: Request,
    user: UserPath,
    query: Annotated[RecommendQuery, Query()],
) -> Response:
    """A ranked list by the clicks stored of a user: one row, as ``/recommend`` gives it."""
    ranked: RankedService = request.app.state.ranked
    stored = await stored_clicks(request, user, query)
    reply = await ranked.recommend_of(
        RecommendRequest[Any](hist_item=[stored.history], **query.model_dump()),
        *(stored.interests, stored.served, stored.began, stored.source),
        caller=caller_of(request),
        origin=ListOrigin(request.state.request_id, stored.own),
    )
    return timed_response(request, reply.content, {"user": stored.seconds, **reply.stages})
