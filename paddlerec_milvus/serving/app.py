# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The candidate service as a FastAPI application."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from paddlerec_milvus import __version__
from paddlerec_milvus.errors import RefusedError, RetrievalError, UserError
from paddlerec_milvus.serving.auth import needs
from paddlerec_milvus.serving.item_index import BusyError, without_secrets
from paddlerec_milvus.serving.keys import Role
from paddlerec_milvus.serving.metrics import Metrics
from paddlerec_milvus.serving.observability import Observed
from paddlerec_milvus.serving.recommender import Service
from paddlerec_milvus.serving.routers import page
from paddlerec_milvus.serving.routers import users as live
from paddlerec_milvus.serving.schemas import (
    CandidatesAnswer,
    CandidatesRequest,
    CountAnswer,
    DeleteAnswer,
    InsertAnswer,
    ReadyAnswer,
    RollbackAnswer,
    request_body,
)
from paddlerec_milvus.serving.settings import ServiceSettings
from paddlerec_milvus.serving.validation import InvalidRequestError, body_of

DESCRIPTION = "Candidates for users from a trained model and the item vectors that lie in Milvus."

router = APIRouter()


def create_app(settings: ServiceSettings) -> FastAPI:
    """The application; model and Milvus are opened when it starts and closed when it ends."""
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            service = await asyncio.to_thread(Service, settings, metrics)
        except UserError as error:
            app.state.refused = without_secrets(error, settings.model)
            raise
        app.state.service = service
        watching = asyncio.create_task(service.watch())
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="paddlerec-milvus: candidates",
        description=DESCRIPTION,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # page.py has its own, without files from elsewhere
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    for each in (router, live.router, page.router):
        app.include_router(each)
    app.add_middleware(Observed, metrics=metrics)
    app.add_exception_handler(InvalidRequestError, _invalid)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(UserError, _failed)
    return app


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    problems = error.problems if isinstance(error, InvalidRequestError) else []
    return JSONResponse({"detail": problems}, 422)


async def _busy(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 409)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Milvus does not answer: 503; what the caller, or who runs the service, has to mend: 409."""
    away = isinstance(error, RetrievalError) and not isinstance(error, RefusedError)
    text = without_secrets(error, _service(request).settings.model)
    return JSONResponse({"detail": text}, 503 if away else 409)


@router.post("/insert", dependencies=[Depends(needs(Role.WRITE))])
async def insert(request: Request) -> InsertAnswer:
    """Put the item vectors of the checkpoint on disk into Milvus, and serve it.

    The model and the vectors before serve until all is in and checked, and are kept for a rollback.
    """
    generations, began = _service(request).generations, time.perf_counter()
    model, times = await asyncio.to_thread(generations.insert)
    return InsertAnswer(
        inserted=times.rows,
        collection=generations.collection,
        checkpoint=model.tower.fingerprint,
        seconds=time.perf_counter() - began,
    )


@router.post("/rollback", dependencies=[Depends(needs(Role.ADMIN))])
async def rollback(request: Request) -> RollbackAnswer:
    """Go back to the model and the vectors before the last insert; once more: forward again."""
    version = await asyncio.to_thread(_service(request).generations.roll_back)
    return RollbackAnswer(collection=version.name, checkpoint=version.checkpoint)


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
    service = _service(request)
    reply = await service.candidates(await body_of(request, service.settings.max_body))
    request.state.stages = reply.stages
    timing = ", ".join(f"{name};dur={1000 * took:.3f}" for name, took in reply.stages.items())
    headers = {"Server-Timing": timing} if timing else None
    return Response(reply.content, media_type="application/json", headers=headers)


@router.get("/count", dependencies=[Depends(needs(Role.READ))], operation_id="get_count")
@router.post("/count", dependencies=[Depends(needs(Role.READ))], operation_id="post_count")
async def count(request: Request) -> CountAnswer:
    """The exact number of item vectors that are stored."""
    service = _service(request)
    try:
        return CountAnswer(count=await service.within(service.generations.store.count))
    except RetrievalError as error:  # a reader need not know where Milvus is
        raise HTTPException(503, "Milvus did not tell the number of vectors") from error


@router.delete("/delete", dependencies=[Depends(needs(Role.ADMIN))], operation_id="delete_delete")
@router.post("/delete", dependencies=[Depends(needs(Role.ADMIN))], operation_id="post_delete")
async def delete(request: Request) -> DeleteAnswer:
    """Delete all stored item vectors."""
    return DeleteAnswer(deleted=await asyncio.to_thread(_service(request).generations.delete))


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """200 as long as the service runs."""
    return {"status": "alive"}


@router.get("/readyz", response_model=ReadyAnswer, responses={503: {"model": ReadyAnswer}})
async def readyz(request: Request) -> JSONResponse:
    """200 while candidates come from the model; else 503 with the reason."""
    service = _service(request)
    state, tower = service.generations.state, service.model.tower
    content: dict[str, Any] = {
        "ready": state.ready,
        "reason": state.reason,
        "checkpoint": tower.fingerprint,
        "items": tower.items,
    }
    return JSONResponse(content, 200 if state.ready else 503)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    content = generate_latest(request.app.state.metrics.registry)
    return Response(content, media_type=CONTENT_TYPE_LATEST)
