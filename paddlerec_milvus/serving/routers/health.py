# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whether the service runs, whether its model answers, and its metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from paddlerec_milvus.serving.dependencies import service_of
from paddlerec_milvus.serving.schemas import ReadyAnswer

router = APIRouter()


@router.get("/healthz")
@router.head("/healthz", include_in_schema=False)
async def healthz() -> dict[str, str]:
    """200 as long as the service runs."""
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=ReadyAnswer, responses={503: {"model": ReadyAnswer}})
async def readyz(request: Request) -> JSONResponse:
    """200 while candidates come from the model; else 503 with the reason."""
    service = service_of(request)
    state, tower, deployment = service.health.state, service.model.tower, service.deployment
    own, served = deployment.own, service.current
    stored = deployment.stored  # while it is loaded, the version before answers
    if served is not None and served.version.checkpoint:
        stored = served.version.identity
    same = stored.digest == own.digest and not stored.model  # put there before it was written down
    answers = stored if state.ready and not same else own
    content = ReadyAnswer(
        ready=state.ready,
        reason=state.reason,
        checkpoint=tower.fingerprint,
        items=tower.items,
        started_with=None if answers.answers_as(own) else own,
        index_recall=service.index_probe.recall,
        warnings=service.index_probe.warnings,
        **answers.model_dump(),
    )
    return JSONResponse(content.model_dump(), 200 if state.ready else 503)


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """All metrics, as Prometheus reads them."""
    content = generate_latest(request.app.state.metrics.registry)
    return Response(content, media_type=CONTENT_TYPE_LATEST)
