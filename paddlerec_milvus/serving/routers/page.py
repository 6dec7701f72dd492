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
from paddlerec_milvus.serving.auth import Role, needs
from paddlerec_milvus.serving.schemas import (
    USER_EXAMPLE,
    TitledItem,
    TitlesAnswer,
    items_example,
)


@contextlib.asynccontextmanager
async def _described(app: FastAPI) -> AsyncIterator[None]:
    """While the application runs, its description has examples that its model takes."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        tower = app.state.service.model.tower
        return with_examples(plain(), tower.items + 1, tower.dimension)

    app.openapi = described  # type: ignore[method-assign]
    try:
        yield
    finally:
        app.openapi = plain  # type: ignore[method-assign]


router = APIRouter(lifespan=_described)

OWN = "paddlerec_milvus.serving"
SWAGGER = "fastapi_offline"  # Swagger UI; FastAPI's own page has browsers fetch it elsewhere
FOLDERS = {OWN: "page", SWAGGER: "static"}
SCRIPTS = ("page", "calls", "cover", "element", "search", "show", "words", "docs")
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
        list[int], Query(alias="id", max_length=100, description="These items, instead of a search")
    ] = [],  # noqa: B006 - FastAPI makes a new list for each request
) -> TitlesAnswer:
    """Items by words of their titles; without a word the most popular ones."""
    catalogue: Catalogue = request.app.state.service.model.catalogue
    if ids:
        items = [item for item in ids if 1 <= item <= catalogue.total]
    else:
        items = await asyncio.to_thread(catalogue.search_titles, q, limit)
    return TitlesAnswer(
        items=[
            TitledItem(
                id=item,
                title=catalogue.titles.get(item),
                category=catalogue.categories.get(item),
            )
            for item in items
        ]
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


def with_examples(schema: dict[str, Any], item: int, dimension: int) -> dict[str, Any]:
    """The OpenAPI ``schema`` with examples that can be sent: the new ``item``, by a vector [D]."""
    schema, ids = deepcopy(schema), {"item": item, "user": USER_EXAMPLE}
    for operations in schema["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in ids:
                    parameter["example"] = ids[parameter["name"]]
    body = schema["paths"]["/items"]["post"]["requestBody"]["content"]["application/json"]
    body["schema"]["examples"] = [items_example(item, dimension)]
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
