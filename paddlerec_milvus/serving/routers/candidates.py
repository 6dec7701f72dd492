# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Candidates for the histories of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect

from paddlerec_milvus.serving.auth import Role, needs
from paddlerec_milvus.serving.callers import caller_of
from paddlerec_milvus.serving.recommender import SMALL_BODY, CandidateService
from paddlerec_milvus.serving.schemas import CandidatesAnswer, CandidatesRequest, request_body
from paddlerec_milvus.serving.validation import body_of, wants_text

router = APIRouter()

Reply = TypeVar("Reply")


@router.post(
    "/candidates",
    dependencies=[Depends(needs(Role.READ))],
    response_model=CandidatesAnswer,
    openapi_extra={"requestBody": request_body(CandidatesRequest)},
)
async def candidates(request: Request) -> Response:
    """A row of candidates for each history, best first.

    Users without a known item get popular ones, and so do all when Milvus is away: ``source`` says
    so.
    """
    service: CandidateService = request.app.state.service
    body = await body_of(request, service.settings.max_body)
    answering = service.candidates(body, as_text=wants_text(request), caller=caller_of(request))
    reply = await while_connected(request, body, answering)
    return timed_response(request, reply.content, reply.stages)


async def while_connected(
    request: Request, body: bytes, answering: Coroutine[Any, Any, Reply]
) -> Reply:
    """The result of ``answering``, given up where the caller of a large ``body`` hangs up.

    ClientDisconnect: it has. A small body, which holds little while it waits, is not watched.
    """
    if len(body) <= SMALL_BODY:
        return await answering
    work = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(request.receive())  # the body is there: what comes is the end
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        gone.cancel()


def timed_response(request: Request, content: bytes, stages: Mapping[str, float]) -> Response:
    """``content``, which is JSON; the header Server-Timing and the log tell seconds by stage."""
    request.state.stages = stages
    timing = ", ".join(f"{name};dur={1000 * took:.3f}" for name, took in stages.items())
    headers = {"Server-Timing": timing} if timing else None
    return Response(content, media_type="application/json", headers=headers)
