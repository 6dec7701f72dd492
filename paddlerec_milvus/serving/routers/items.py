# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Item vectors: all of a checkpoint at once, or some that have changed.

Single items go into the version of the collection that serves, so searches see them at once with
``consistency=Strong`` and else within seconds. An insert starts from the model's own items again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Path, Request

from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import DataError, ModelError, RetrievalError
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.connection import OWN_ID_BYTES
from paddlerec_milvus.serving.auth import Role, needs
from paddlerec_milvus.serving.dependencies import id_of, retry_after, service_of, serving_of
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.item_ids import ItemIds
from paddlerec_milvus.serving.recommender import CandidateService
from paddlerec_milvus.serving.schemas import (
    CountAnswer,
    DeleteAnswer,
    InsertAnswer,
    Item,
    ItemDeleteAnswer,
    ItemsAnswer,
    ItemsRequest,
    RollbackAnswer,
    request_body,
)
from paddlerec_milvus.serving.validation import InvalidRequestError, problem, read

LENGTH_TOLERANCE = 0.01  # of a vector of a model whose vectors have length 1

router = APIRouter()

ItemPath = Annotated[str, Path(json_schema_extra={"x-id": "items"})]


@router.post("/insert", dependencies=[Depends(needs(Role.WRITE))])
async def insert(request: Request) -> InsertAnswer:
    """Put the item vectors of the checkpoint on disk into Milvus, and serve it.

    The model and the vectors before serve until all is in and checked, and are kept for a rollback.
    """
    deployment, began = service_of(request).deployment, time.perf_counter()
    model, times = await asyncio.to_thread(deployment.insert)
    return InsertAnswer(
        inserted=times.rows,
        collection=deployment.collection,
        checkpoint=model.tower.fingerprint,
        seconds=time.perf_counter() - began,
    )


@router.post("/rollback", dependencies=[Depends(needs(Role.ADMIN))])
async def rollback(request: Request) -> RollbackAnswer:
    """Go back to the model and the vectors before the last insert; once more: forward again."""
    version = await asyncio.to_thread(service_of(request).deployment.roll_back)
    return RollbackAnswer(collection=version.name, checkpoint=version.checkpoint)


@router.get("/count", dependencies=[Depends(needs(Role.READ))], operation_id="get_count")
@router.post("/count", dependencies=[Depends(needs(Role.READ))], operation_id="post_count")
async def count(request: Request) -> CountAnswer:
    """The exact number of item vectors that are stored, and whose they are."""
    service = service_of(request)
    try:
        number = await service.within(service.deployment.count)
        return CountAnswer(count=number, **service.deployment.stored.model_dump())
    except RetrievalError as error:  # a reader need not know where Milvus is
        text = "Milvus did not tell the number of vectors"
        raise HTTPException(503, text, retry_after(request)) from error


@router.delete("/delete", dependencies=[Depends(needs(Role.ADMIN))], operation_id="delete_delete")
@router.post("/delete", dependencies=[Depends(needs(Role.ADMIN))], operation_id="post_delete")
async def delete(request: Request) -> DeleteAnswer:
    """Delete all stored item vectors."""
    return DeleteAnswer(deleted=await asyncio.to_thread(service_of(request).deployment.delete))


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
    service = service_of(request)
    served = serving_of(service)
    ids = served.model.ids
    body = await read(request, service.settings, ItemsRequest, ids.kind)
    fingerprint = served.model.tower.fingerprint
    if body.checkpoint not in (None, fingerprint):
        raise HTTPException(
            409, f"checkpoint {body.checkpoint!r:.40} does not serve: {fingerprint!r} does"
        )
    own = [item.id for item in body.items]
    numbers = ids.numbers(own)
    if problems := _misfits(body.items, numbers, served):
        raise InvalidRequestError(problems)
    vectors = await _vectors(served, body.items, numbers)
    known = served.model.catalogue.categories
    categories = [
        known.get(number, "") if item.category is None else item.category
        for item, number in zip(body.items, numbers, strict=True)
    ]
    names = [ids.name(number, one) for number, one in zip(numbers, own, strict=True)]
    with_names = {"own_ids": names} if any(names) else {}
    upsert = partial(served.writable.upsert, vectors, numbers, categories, **with_names)
    await service.within(upsert)
    ids.changed(dict(zip(numbers, own, strict=True)))
    served.model.hidden.changed(stored=numbers)
    served.model.categories.changed(dict(zip(numbers, categories, strict=True)))
    service.freshness.follow(served, numbers[-1], vectors[-1])
    _check_serves_still(service, served)
    return ItemsAnswer(upserted=len(numbers), checkpoint=fingerprint)


@router.delete("/items/{item:path}", dependencies=[Depends(needs(Role.WRITE))])
async def delete_item(request: Request, item: ItemPath) -> ItemDeleteAnswer:
    """Delete an item's vector; one that is not there is no error. It is gone until the next insert.

    No list shows it any more, one of popular items neither.
    """
    service = service_of(request)
    served = serving_of(service)
    ids = served.model.ids
    own = id_of(item, ids.kind, ("path", "item"))
    (number,) = ids.numbers([own])
    if text := _unusable_id(own, number, ids):
        raise InvalidRequestError([problem(("path", "item"), text, value=f"{own!r:.60}")])
    await service.within(lambda: served.writable.delete([number]))
    ids.changed({number: own})
    served.model.hidden.changed(deleted=[number])
    _check_serves_still(service, served)
    return ItemDeleteAnswer(deleted=own)


def _check_serves_still(service: CandidateService, served: ServedVersion) -> None:
    now = service.current
    if now is not None and now.version != served.version:
        raise HTTPException(409, "meanwhile an insert or a rollback has come: send it again")


def _misfits(
    items: Sequence[Item[Any]], numbers: Sequence[int], served: ServedVersion
) -> list[dict[str, Any]]:
    """The first item that cannot be stored beside the model's."""
    dimension, seen = served.model.tower.dimension, set[int]()
    for place, (item, number) in enumerate(zip(items, numbers, strict=True)):
        where = ("body", "items", place)
        if text := _unusable_id(item.id, number, served.model.ids):
            return [problem((*where, "id"), text, value=f"{item.id!r:.60}")]
        if number in seen:
            return [problem((*where, "id"), "this item came before", value=f"{item.id!s:.60}")]
        seen.add(number)
        if item.vector is None:
            continue
        if len(item.vector) != dimension:
            text = f"the model's vectors have {dimension} numbers"
            return [problem((*where, "vector"), text, value=f"{len(item.vector)} numbers")]
        length = float(np.linalg.norm(item.vector))
        if served.model.tower.unit and abs(length - 1) > LENGTH_TOLERANCE:
            text = "the model's vectors have length 1: divide the vector by its length"
            return [problem((*where, "vector"), text, value=f"length {length:.6g}")]
    return []


def _unusable_id(own: OwnId, number: int, ids: ItemIds) -> str:
    """Why an item cannot have this id; empty: it can."""
    if isinstance(own, str) and not 0 < len(own.encode()) <= OWN_ID_BYTES:
        return f"at most {OWN_ID_BYTES} bytes of UTF-8, and at least 1"
    if number < 1:
        return f"a new item's id is at least {1 if ids.is_plain else 0} and below 2^62"
    other = ids.clash(number, own)
    return "" if other is None else f"its number is that of {other!r:.60}: take another id"


async def _vectors(
    served: ServedVersion, items: Sequence[Item[Any]], numbers: Sequence[int]
) -> FloatArray:
    """Vectors [n, D] of ``items``, those given by features made by the model."""
    vectors = np.zeros((len(items), served.model.tower.dimension), np.float32)
    described = [place for place, item in enumerate(items) if item.vector is None]
    for place, item in enumerate(items):
        if item.vector is not None:
            vectors[place] = item.vector
    if described:
        vectors[described] = await _vectors_of_features(served, items, numbers, described)
    return vectors


async def _vectors_of_features(
    served: ServedVersion,
    items: Sequence[Item[Any]],
    numbers: Sequence[int],
    places: Sequence[int],
) -> FloatArray:
    """Vectors of the items at ``places`` by their features; InvalidRequestError: there are none."""
    try:
        if (values := served.model.features) is None:
            raise DataError("the data has no item features; prepare it with --item-features")
        rows = [items[place].features or {} for place in places]
        for place, row in zip(places, rows, strict=True):
            if text := values.unknown_column(row):
                where = ("body", "items", place, "features")
                raise InvalidRequestError([problem(where, text, value=f"{row!r:.60}")])
        ids = np.array([numbers[place] for place in places], np.int64)
        codes = values.codes_of(rows)
        return await asyncio.to_thread(served.model.tower.vectors_of_features, ids, codes)
    except (DataError, ModelError) as error:
        text = f"no vectors can be made of features: {error}"
        raise InvalidRequestError([problem(("body", "items"), text)]) from None
