# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page at /, the titles that it searches in, and the calls' own page at /docs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from copy import deepcopy
from functools import cache
from importlib import resources
from pathlib import PurePath
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.serving.auth import Role, needs
from paddlerec_milvus.serving.comparison_schemas import CategoriesAnswer, CategorySize
from paddlerec_milvus.serving.dependencies import id_of
from paddlerec_milvus.serving.model_cache import ServingModel
from paddlerec_milvus.serving.schemas import (
    USER_EXAMPLE,
    TitledItem,
    TitlesAnswer,
    in_ids_of,
    items_example,
)
from paddlerec_milvus.serving.validation import wants_text


@contextlib.asynccontextmanager
async def _described(app: FastAPI) -> AsyncIterator[None]:
    """While the application runs, its description has examples that its model takes."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        return with_examples(plain(), app.state.service.model)

    app.openapi = described  # type: ignore[method-assign]
    try:
        yield
    finally:
        app.openapi = plain  # type: ignore[method-assign]


router = APIRouter(lifespan=_described)

OWN = "paddlerec_milvus.serving"
SWAGGER = "fastapi_offline"  # Swagger UI; FastAPI's own page has browsers fetch it elsewhere
FOLDERS = {OWN: "page", SWAGGER: "static"}
SCRIPTS = (
    *("page", "calls", "compare", "cover", "details", "element", "filters", "language", "naming"),
    *("ranked", "search", "settings", "show", "state", "texts", "words", "docs"),
)
FILES = {
    **{f"{name}.js": OWN for name in SCRIPTS},
    **{"page.css": OWN, "icon.svg": OWN},
    **{"swagger-ui.css": SWAGGER, "swagger-ui-bundle.js": SWAGGER},
}
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
DOCS_POLICY = f"{POLICY}; img-src 'self' data:"  # Swagger UI's style sheet holds its pictures
HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for anew by its ETag
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.get("/titles", dependencies=[Depends(needs(Role.READ))])
async def titles(
    request: Request,
    q: Annotated[str, Query(max_length=200, description="Words, each a part of the title")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ids: Annotated[
        list[str], Query(alias="id", max_length=100, description="These items, instead of a search")
    ] = [],  # noqa: B006 - FastAPI makes a new list for each request
) -> TitlesAnswer:
    """Items by words of their titles; without a word the most popular ones."""
    model: ServingModel = request.app.state.service.model
    catalogue: Catalogue = model.catalogue
    as_text = wants_text(request)
    named = model.ids.written(as_text=as_text)
    if ids:
        kind = "string" if as_text else model.ids.kind
        own = [id_of(text, kind, ("query", "id", place)) for place, text in enumerate(ids)]
        items = [item for item in named.numbers(own) if 1 <= item <= catalogue.total]
    else:
        items = await asyncio.to_thread(catalogue.search_titles, q, limit)
    return TitlesAnswer(
        items=[
            _titled(catalogue, item, own_id)
            for item, own_id in zip(items, named.own_ids(items), strict=True)
            if own_id is not None
        ]
    )


def _titled(catalogue: Catalogue, item: int, own_id: OwnId) -> TitledItem:
    details = catalogue.details.get(item)
    return TitledItem(
        id=own_id,
        title=catalogue.titles.get(item),
        category=catalogue.categories.get(item),
        authors=(details and details.authors) or None,
        year=(details and details.year) or None,
    )


@router.get("/categories", dependencies=[Depends(needs(Role.READ))])
async def categories(
    request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> CategoriesAnswer:
    """The categories of the model's items, the largest first."""
    catalogue: Catalogue = request.app.state.service.model.catalogue
    sizes = catalogue.category_sizes()
    return CategoriesAnswer(
        total=len(sizes),
        categories=[CategorySize(name=name, items=items) for name, items in sizes[:limit]],
    )


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """Search titles, pick a history, see candidates."""
    return _answer(request, OWN, "index.html", POLICY)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """All calls, shown by Swagger UI."""
    return _answer(request, OWN, "docs.html", DOCS_POLICY)


@router.get("/page/{file}", include_in_schema=False)
async def part(request: Request, file: str) -> Response:
    """What the two pages are made of."""
    if file not in FILES:
        raise HTTPException(404)
    return _answer(request, FILES[file], file, POLICY)


def with_examples(schema: dict[str, Any], model: ServingModel) -> dict[str, Any]:
    """The OpenAPI ``schema`` in the kinds of ids of ``model``, with examples that can be sent."""
    item_ids, dimension = model.ids, model.tower.dimension
    text = item_ids.kind == "string"
    item: int | str = "new-1" if text else model.tower.items + 1
    ids = {"item": item, "user": USER_EXAMPLE if model.user_kind == "int" else f"u-{USER_EXAMPLE}"}
    schema = in_ids_of(deepcopy(schema), {"items": item_ids.kind, "users": model.user_kind})
    schema["info"]["description"] += (
        f" Ids of items are {item_ids.kind}s here, ids of users {model.user_kind}s."
    )
    for operations in schema["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in ids:
                    parameter["example"] = ids[parameter["name"]]
    body = schema["paths"]["/items"]["post"]["requestBody"]["content"]["application/json"]
    body["schema"]["examples"] = [items_example(item, dimension)]
    if not item_ids.is_plain:
        known = [own for own in item_ids.own_ids(range(1, 4)) if own is not None]
        for path, field in (("/candidates", "hist_item"), ("/users/{user}/events", "items")):
            body = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            body["schema"]["examples"] = [{field: [known] if field == "hist_item" else known}]
    return schema


class _File(NamedTuple):
    content: bytes
    etag: str


@cache
def _file(package: str, name: str) -> _File:
    content = (resources.files(package) / FOLDERS[package] / name).read_bytes()
    return _File(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _answer(request: Request, package: str, name: str, policy: str) -> Response:
    """The file; 304 without it for a browser that has it."""
    content, etag = _file(package, name)
    headers = {**HEADERS, "Content-Security-Policy": policy, "ETag": etag}
    etags = request.headers.get("if-none-match", "").split(",")
    if {"*", etag} & {tag.strip().removeprefix("W/") for tag in etags}:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=MEDIA_TYPES[PurePath(name).suffix])
