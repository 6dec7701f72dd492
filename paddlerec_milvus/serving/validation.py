# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A request's body, read within its limit and checked; JSON is parsed and checked in one pass."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from paddlerec_milvus.data.id_map import Kind
from paddlerec_milvus.serving.item_ids import int_of
from paddlerec_milvus.serving.schemas import CandidatesRequest, of_kind
from paddlerec_milvus.serving.settings import ServiceSettings

MOST_PROBLEMS = 20  # problems in an answer
SHOWN = 60  # characters of a wrong value

Model = TypeVar("Model", bound=BaseModel)


class InvalidRequestError(Exception):
    """A body that cannot be used; ``problems`` are told to the caller, with status 422."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(problems)} problems in the request")
        self.problems = problems


async def body_of(request: Request, limit: int) -> bytes:
    """The whole body; 413 as soon as it is above ``limit`` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise HTTPException(413, f"the body is above {limit:,} bytes: send fewer users at once")
        parts.append(part)
    return b"".join(parts)


async def read(
    request: Request, settings: ServiceSettings, model: type[Model], kind: Kind
) -> Model:
    """The body as a ``model`` with ids of ``kind``; InvalidRequestError names field and value."""
    body = await body_of(request, settings.max_body)
    return await asyncio.to_thread(_validated, body, of_kind(model, kind))


def _validated(body: bytes, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequestError(_problems(error, model)) from None


def parse(body: bytes, settings: ServiceSettings, kind: Kind) -> CandidatesRequest[Any]:
    """The checked request with ids of ``kind``; InvalidRequestError: field, value and limit."""
    request = _validated(body, of_kind(CandidatesRequest, kind))
    if problems := _above_limits(request, settings):
        raise InvalidRequestError(problems)
    return request


def _problems(error: ValidationError, model: type[BaseModel]) -> list[dict[str, Any]]:
    if error.error_count() > MOST_PROBLEMS:  # to list them could take more memory than the request
        text = f"{error.error_count():,} fields are wrong; known fields: "
        return [problem(("body",), text + ", ".join(model.model_fields))]
    return [
        problem(("body", *one["loc"]), _words(one), one["type"], f"{one['input']!r:.{SHOWN}}")
        for one in error.errors(include_url=False, include_context=False)
    ]


def _words(error: ErrorDetails) -> str:
    """Of an id of the other kind, what to send; else pydantic's own words."""
    place, wrong = error["loc"], error["input"]
    is_id = place[:1] in (("hist_item",), ("exclude",)) or (
        place[:1] == ("items",) and (len(place) == 2 or place[2:] == ("id",))
    )
    if is_id and error["type"] == "int_type" and isinstance(wrong, str):
        return f"ids of items are integers here: {_unquoted(wrong)}"
    if is_id and error["type"] == "string_type" and type(wrong) is int:
        return f'ids of items are strings here: send "{wrong!s:.20}", not {wrong!s:.20}'
    return error["msg"]


def _unquoted(text: str) -> str:
    if int_of(text) is None:
        return "this is a string"
    return f'send {text}, not "{text}"'


def _above_limits(
    request: CandidatesRequest[Any], settings: ServiceSettings
) -> list[dict[str, Any]]:
    problems = []

    def check(place: tuple[str | int, ...], what: str, count: int, limit: int) -> None:
        if count > limit:
            text = f"at most {limit:,} {what}"
            problems.append(problem(("body", *place), text, "too_large", f"{count:,}"))

    check(("top_k",), "candidates", request.top_k, settings.max_top_k)
    check(("hist_item",), "users in a request", len(request.hist_item), settings.max_users)
    check(("exclude",), "ids", len(request.exclude), settings.max_history)
    longest = max(map(len, request.hist_item), default=0)
    if longest > settings.max_history:
        row = next(r for r, ids in enumerate(request.hist_item) if len(ids) == longest)
        check(("hist_item", row), "ids of a user", longest, settings.max_history)
    return problems


def problem(
    place: tuple[str | int, ...], message: str, kind: str = "value_error", value: str = ""
) -> dict[str, Any]:
    """One entry of a 422's ``detail``, as FastAPI's own are; ``given`` shows the wrong value."""
    return {"loc": list(place), "msg": message, "type": kind, "given": value}
