# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Candidates for the histories of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from paddlerec_milvus.serving.auth import Role, needs
from paddlerec_milvus.serving.callers import caller_of
from paddlerec_milvus.serving.fair_queue import Caller
from paddlerec_milvus.serving.recommender import CandidateService
from paddlerec_milvus.serving.schemas import CandidatesAnswer, CandidatesRequest, request_body
from paddlerec_milvus.serving.validation import body_of, wants_text

router = APIRouter()


@router.post(
    "/candidates",
    dependencies=[Depends(needs(Role.READ))],
    response_model=CandidatesAnswer,
    openapi_extra={"requestBody": request_body(CandidatesRequest)},
)
async def candidates(request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
    """A row of candidates for each history, best first.

    Users without a known item get popular ones, and so do all when Milvus is away: ``source`` says
    so.
    """
    service: CandidateService = request.app.state.service
    body = await body_of(request, service.settings.max_body)
    reply = await service.candidates(body, as_text=wants_text(request), caller=caller)
    return timed_response(request, reply.content, reply.stages)


def timed_response(request: Request, content: bytes, stages: Mapping[str, float]) -> Response:
    """``content``, which is JSON; the header Server-Timing and the log tell seconds by stage."""
    request.state.stages = stages
    timing = ", ".join(f"{name};dur={1000 * took:.3f}" for name, took in stages.items())
    headers = {"Server-Timing": timing} if timing else None
    return Response(content, media_type="application/json", headers=headers)
