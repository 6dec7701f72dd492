# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The calls of real time: items that change, users who click, candidates for a stored user.

Items go into the version of the collection that serves, so searches see them at once with
``consistency=Strong`` and else within seconds. An insert starts from the model's own items again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response

from paddlerec_milvus.errors import DataError, ModelError, RetrievalError
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.user_store import LARGEST_USER
from paddlerec_milvus.serving.auth import needs
from paddlerec_milvus.serving.deployment import Generation
from paddlerec_milvus.serving.keys import Role
from paddlerec_milvus.serving.live_schemas import (
    LARGEST_ITEM,
    EventsRequest,
    Item,
    ItemsRequest,
    UserCandidatesQuery,
)
from paddlerec_milvus.serving.recommender import Service
from paddlerec_milvus.serving.schemas import (
    CandidatesAnswer,
    CandidatesRequest,
    EventsAnswer,
    ItemDeleteAnswer,
    ItemsAnswer,
    UserDeleteAnswer,
    request_body,
)
from paddlerec_milvus.serving.validation import InvalidRequestError, problem, read

logger = logging.getLogger(__name__)

LENGTH_TOLERANCE = 0.01  # of a vector of a model whose vectors have length 1

router = APIRouter()

ItemPath = Annotated[int, Path(ge=1, le=LARGEST_ITEM)]
UserPath = Annotated[int, Path(ge=0, le=LARGEST_USER)]


@router.post(
    "/items",
    dependencies=[Depends(needs(Role.WRITE))],
    openapi_extra={"requestBody": request_body(ItemsRequest)},
)
async def put_items(request: Request) -> ItemsAnswer:
    """Store items that are new or whose vectors have changed, at most 1,000, all or none.

    A vector is one of the serving model's. Where that was trained with item features, an item may
    be given by these instead. They stay until the next insert.
    """
    service = _service(request)
    asked = await read(request, service.settings, ItemsRequest)
    generation = _serving(service)
    fingerprint = generation.model.tower.fingerprint
    if asked.checkpoint not in (None, fingerprint):
        raise HTTPException(
            409, f"checkpoint {asked.checkpoint!r:.40} does not serve: {fingerprint!r} does"
        )
    if problems := _misfits(asked.items, generation):
        raise InvalidRequestError(problems)
    vectors = await _vectors(generation, asked.items)
    named = generation.model.catalogue.categories
    categories = [
        named.get(item.id, "") if item.category is None else item.category for item in asked.items
    ]
    ids = [item.id for item in asked.items]
    await service.within(lambda: generation.retriever.upsert(vectors, ids, categories))
    _check_serves_still(service, generation)
    return ItemsAnswer(upserted=len(ids), checkpoint=fingerprint)


@router.delete("/items/{item}", dependencies=[Depends(needs(Role.WRITE))])
async def delete_item(request: Request, item: ItemPath) -> ItemDeleteAnswer:
    """Delete an item's vector; one that is not there is no error. It stays until the next insert.

    Popular items, which need no vector, are not changed.
    """
    service = _service(request)
    generation = _serving(service)
    await service.within(lambda: generation.retriever.delete([item]))
    _check_serves_still(service, generation)
    return ItemDeleteAnswer(deleted=item)


@router.post(
    "/users/{user}/events",
    dependencies=[Depends(needs(Role.WRITE))],
    openapi_extra={"requestBody": request_body(EventsRequest)},
)
async def add_events(request: Request, user: UserPath) -> EventsAnswer:
    """Add clicks to a user's history; the next candidates use them.

    After a 503 they may have been stored or not.
    """
    service = _service(request)
    asked = await read(request, service.settings, EventsRequest)
    if len(asked.items) > (limit := service.settings.max_history):
        text = f"at most {limit:,} ids in a call"
        raise InvalidRequestError(
            [problem(("body", "items"), text, "too_large", f"{len(asked.items):,}")]
        )
    appended = await service.users.append(user, asked.items, service.model)
    return EventsAnswer(user=user, history=appended.history, unknown=appended.unknown)


@router.get(
    "/users/{user}/candidates",
    dependencies=[Depends(needs(Role.READ))],
    response_model=CandidatesAnswer,
)
async def user_candidates(
    request: Request, user: UserPath, asked: Annotated[UserCandidatesQuery, Query()]
) -> Response:
    """Candidates by the clicks that are stored of a user: one row, as ``/candidates`` gives it."""
    service, began = _service(request), time.monotonic()
    if asked.top_k > (limit := service.settings.max_top_k):
        text = f"at most {limit:,} candidates"
        raise InvalidRequestError(
            [problem(("query", "top_k"), text, "too_large", f"{asked.top_k:,}")]
        )
    generation = service.current
    model = generation.model if generation else service.model
    strong = asked.consistency == "Strong"
    try:
        state, known = await service.users.interests_of(user, model, strong=strong), True
    except RetrievalError:
        state, known = None, False
    except Exception:  # whatever a model folder raises
        logger.exception("no interests of a user")
        state, known = None, False
    took = time.monotonic() - began
    wanted = CandidatesRequest(
        hist_item=[[] if state is None else state.history.tolist()], **asked.model_dump()
    )
    interests = None if state is None or generation is None else state.interests[None]
    end = began + service.settings.timeout
    reply = await service.candidates_of(wanted, interests, generation, end)
    content = reply.content if known else _as_fallback(reply.content)
    stages = request.state.stages = {"user": took, **reply.stages}
    timing = ", ".join(f"{name};dur={1000 * seconds:.3f}" for name, seconds in stages.items())
    return Response(content, media_type="application/json", headers={"Server-Timing": timing})


@router.delete("/users/{user}", dependencies=[Depends(needs(Role.ADMIN))])
async def forget_user(request: Request, user: UserPath) -> UserDeleteAnswer:
    """Delete all that is stored of a user; one who is not known is no error."""
    await _service(request).users.forget(user)
    return UserDeleteAnswer(deleted=user)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _serving(service: Service) -> Generation:
    """What serves; RetrievalError: nothing does."""
    if (generation := service.current) is None:
        raise RetrievalError(service.generations.state.reason)
    return generation


def _check_serves_still(service: Service, generation: Generation) -> None:
    now = service.current
    if now is not None and now.version != generation.version:
        raise HTTPException(409, "meanwhile an insert or a rollback has come: send it again")


def _misfits(items: Sequence[Item], generation: Generation) -> list[dict[str, Any]]:
    """The first item that cannot be stored beside the model's."""
    dimension, seen = generation.model.tower.dimension, set[int]()
    for place, item in enumerate(items):
        where = ("body", "items", place)
        if item.id in seen:
            return [problem((*where, "id"), "this item came before", given=str(item.id))]
        seen.add(item.id)
        if item.vector is None:
            continue
        if len(item.vector) != dimension:
            text = f"the model's vectors have {dimension} numbers"
            return [problem((*where, "vector"), text, given=f"{len(item.vector)} numbers")]
        length = float(np.linalg.norm(item.vector))
        if generation.model.tower.unit and abs(length - 1) > LENGTH_TOLERANCE:
            text = "the model's vectors have length 1: divide the vector by its length"
            return [problem((*where, "vector"), text, given=f"length {length:.6g}")]
    return []


async def _vectors(generation: Generation, items: Sequence[Item]) -> FloatArray:
    """Vectors [n, D] of ``items``, those given by features made by the model."""
    vectors = np.zeros((len(items), generation.model.tower.dimension), np.float32)
    described = [place for place, item in enumerate(items) if item.vector is None]
    for place, item in enumerate(items):
        if item.vector is not None:
            vectors[place] = item.vector
    if described:
        vectors[described] = await _made(generation, items, described)
    return vectors


async def _made(generation: Generation, items: Sequence[Item], places: Sequence[int]) -> FloatArray:
    """Vectors of the items at ``places`` by their features; InvalidRequestError: there are none."""
    try:
        if (values := generation.model.features) is None:
            raise DataError("the data has no item features; prepare it with --item-features")
        rows = [items[place].features or {} for place in places]
        for place, row in zip(places, rows, strict=True):
            if text := values.unknown_column(row):
                where = ("body", "items", place, "features")
                raise InvalidRequestError([problem(where, text, given=f"{row!r:.60}")])
        ids = np.array([items[place].id for place in places], np.int64)
        codes = values.codes_of(rows)
        return await asyncio.to_thread(generation.model.tower.vectors_of_features, ids, codes)
    except (DataError, ModelError) as error:
        text = f"no vectors can be made of features: {error}"
        raise InvalidRequestError([problem(("body", "items"), text)]) from None


def _as_fallback(content: bytes) -> bytes:
    """The answer marked: the user may have clicks, and Milvus did not tell."""
    answer = CandidatesAnswer.model_validate_json(content)
    return answer.model_copy(update={"source": ["fallback"]}).model_dump_json().encode()
