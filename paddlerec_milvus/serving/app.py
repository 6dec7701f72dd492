# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The candidate service as a FastAPI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

from fastapi import Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse
from limits import parse_many

from paddlerec_milvus import __version__
from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.id_map import IdMap, Kind
from paddlerec_milvus.errors import RefusedError, RetrievalError, SettingsError, UserError
from paddlerec_milvus.ranking.ranking_model import RankingModel
from paddlerec_milvus.retrieval.base import Retriever
from paddlerec_milvus.serving.async_user_store import (
    InMemoryUserStore,
    UserStorage,
    milvus_users,
)
from paddlerec_milvus.serving.callers import within_rates
from paddlerec_milvus.serving.dependencies import retry_after, service_of
from paddlerec_milvus.serving.deployment import Deployment, FixedDeployment
from paddlerec_milvus.serving.gate import Gate
from paddlerec_milvus.serving.histories import HistoryService
from paddlerec_milvus.serving.item_index import BusyError
from paddlerec_milvus.serving.milvus_deployment import MilvusDeployment
from paddlerec_milvus.serving.model_sources import ExportSource
from paddlerec_milvus.serving.observability import REQUEST_ID, Metrics, RequestRecorder
from paddlerec_milvus.serving.ranked_service import RankedService
from paddlerec_milvus.serving.recommender import CandidateService
from paddlerec_milvus.serving.redis_histories import RedisHistories
from paddlerec_milvus.serving.routers import (
    candidates,
    comparisons,
    health,
    items,
    page,
    recommendations,
    users,
)
from paddlerec_milvus.serving.server_limits import RequestLimits, ServedApp
from paddlerec_milvus.serving.settings import ServiceSettings, without_secrets
from paddlerec_milvus.serving.tower import UserTower, import_paddle
from paddlerec_milvus.serving.user_states import UserStates
from paddlerec_milvus.serving.validation import AS_TEXT, InvalidRequestError

LEAST_ZIPPED = 4_096  # bytes; a list for few users comes sooner as it is
ZIP_LEVEL = 4  # of 9: a third of the time for a tenth more bytes

DESCRIPTION = "Candidates for users from a trained model and the item vectors that lie in Milvus."


def create_app(
    settings: ServiceSettings,
    retriever: Retriever | None = None,
    encoder: UserTower | None = None,
    *,
    catalogue: Catalogue | None = None,
    user_store: UserStorage | None = None,
    item_ids: IdMap | None = None,
    user_kind: Kind = "int",
    ranking: RankingModel | None = None,
) -> FastAPI:
    """The application; model and Milvus are opened when it starts and closed when it ends.

    With ``retriever`` and ``encoder`` it serves these: it needs no checkpoint, no paddle and no
    Milvus. ``catalogue`` holds the titles and categories of their items, ``user_store`` the clicks
    of users, which are otherwise in memory alone; where the settings name a Redis they are there.
    ``item_ids`` are what the items are called, without them their numbers; ``user_kind`` is what
    the ids of users are, ``ranking`` ranks the candidates. SettingsError: one of both is missing.
    """
    if (retriever is None) != (encoder is None):
        raise SettingsError(
            "create_app: retriever and encoder belong together, as the retriever holds the "
            "encoder's items: give both, or none to use the checkpoint and Milvus of the settings"
        )
    metrics = Metrics()
    deployment: Callable[[], Deployment]
    if retriever is None or encoder is None:
        if not isinstance(settings.source, ExportSource):
            import_paddle()
        deployment = partial(MilvusDeployment, settings, metrics)
    else:
        deployment = partial(
            FixedDeployment, retriever, encoder, catalogue, metrics, item_ids, user_kind, ranking
        )
        user_store = user_store or InMemoryUserStore()
    start = partial(_started, settings, metrics, deployment, user_store)
    app = ServedApp(
        title="paddlerec-milvus: candidates",
        description=DESCRIPTION,
        version=__version__,
        lifespan=partial(_lifespan, settings, start),
        docs_url=None,  # page.py has its own, without files from elsewhere
        redoc_url=None,
        dependencies=(
            [Depends(within_rates(parse_many(settings.rate)))] if settings.rate else None
        ),
    )
    app.state.settings = settings
    app.state.metrics = metrics
    for room in (candidates, recommendations, comparisons, items, users, health, page):
        app.include_router(room.router)
    _add_middleware(app, settings, metrics)
    app.add_exception_handler(InvalidRequestError, _invalid)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(UserError, _failed)
    return app


def _add_middleware(app: FastAPI, settings: ServiceSettings, metrics: Metrics) -> None:
    """What every request passes, the last one first."""
    app.add_middleware(RequestLimits, settings=settings)
    app.add_middleware(GZipMiddleware, minimum_size=LEAST_ZIPPED, compresslevel=ZIP_LEVEL)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.strip() for origin in settings.cors.split(",")],
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[
                *("Authorization", "Content-Type", "Idempotency-Key", "X-API-Key"),
                *(AS_TEXT, REQUEST_ID),
            ],
            expose_headers=["Idempotent-Replayed", "Retry-After", "Server-Timing", REQUEST_ID],
        )
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(RequestRecorder, metrics=metrics)


def _started(
    settings: ServiceSettings,
    metrics: Metrics,
    deployment: Callable[[], Deployment],
    user_store: UserStorage | None,
) -> CandidateService:
    """``user_store``: None for the users beside the items in Milvus."""
    users: HistoryService
    if settings.histories.get_secret_value():
        users = RedisHistories(settings)
    elif user_store is None:
        users = UserStates(settings, partial(milvus_users, settings))
    else:
        users = UserStates(settings, lambda: user_store)
    return CandidateService(settings, metrics, deployment(), users)


@contextlib.asynccontextmanager
async def _lifespan(
    settings: ServiceSettings, start: Callable[[], CandidateService], app: FastAPI
) -> AsyncIterator[None]:
    try:
        service = await asyncio.to_thread(start)
    except UserError as error:
        app.state.refused = without_secrets(error, settings.model)
        raise
    app.state.service, app.state.ranked = service, RankedService(service)
    watching = [
        asyncio.create_task(service.watch()),
        asyncio.create_task(service.index_probe.watch(lambda: service.current)),
    ]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await asyncio.wait(watching)
        await service.freshness.close()
        await app.state.ranked.close()
        await asyncio.to_thread(service.close)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    problems = error.problems if isinstance(error, InvalidRequestError) else []
    return JSONResponse({"detail": problems}, 422)


async def _busy(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 409)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Milvus does not answer: 503; what the caller, or who runs the service, has to mend: 409."""
    away = isinstance(error, RetrievalError) and not isinstance(error, RefusedError)
    text = without_secrets(error, service_of(request).settings.model)
    headers = retry_after(request) if away else None
    return JSONResponse({"detail": text}, 503 if away else 409, headers)
