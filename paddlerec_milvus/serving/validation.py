# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A request's body, read within its limit, checked, and made a batch of users as arrays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.id_map import Kind, OwnId
from paddlerec_milvus.retrieval.base import IntArray
from paddlerec_milvus.serving.item_ids import ItemIds, int_of
from paddlerec_milvus.serving.schemas import CandidatesRequest, of_kind
from paddlerec_milvus.serving.settings import ServiceSettings

MOST_PROBLEMS = 20  # problems in an answer
SHOWN = 60  # characters of a wrong value

AS_TEXT = "X-Ids-As-Text"  # a header: the caller's language has no integers of 64 bits

Model = TypeVar("Model", bound=BaseModel)


class InvalidRequestError(Exception):
    """A body that cannot be used; ``problems`` are told to the caller, with status 422."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(problems)} problems in the request")
        self.problems = problems


def wants_text(request: Request) -> bool:
    """Whether ids of the answer shall be strings, as JavaScript needs it above 2^53."""
    return request.headers.get(AS_TEXT, "") == "1"


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
    return parse_as(CandidatesRequest, body, settings, kind)


def parse_as(model: type[Model], body: bytes, settings: ServiceSettings, kind: Kind) -> Model:
    """:func:`parse` for another ``model`` with ``hist_item``, ``exclude`` and ``top_k``."""
    request: Model = _validated(body, of_kind(model, kind))
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
    is_id = place[:1] in (("hist_item",), ("exclude",), ("item",)) or (
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


def _above_limits(request: Any, settings: ServiceSettings) -> list[dict[str, Any]]:
    problems = []

    def check(place: tuple[str | int, ...], what: str, count: int, limit: int) -> None:
        if count > limit:
            text = f"at most {limit:,} {what}"
            problems.append(problem(("body", *place), text, "too_large", f"{count:,}"))

    check(("top_k",), "candidates", request.top_k, settings.max_top_k)
    if request.top_k <= settings.max_top_k and len(request.hist_item) <= settings.max_users:
        lists = len(request.hist_item) * request.top_k
        check((), "candidates in all, users times top_k", lists, settings.max_candidates)
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


class BatchIds(Protocol):
    """The ids of a request: as the log has them, or as text."""

    def numbers(self, own_ids: Sequence[OwnId]) -> list[int]:
        """A number for each id, whether the model knows it or not; 0 for one that no item has."""
        ...

    def own_ids(self, numbers: Iterable[int]) -> list[OwnId | None]:
        """The id behind each number; None: nobody knows it."""
        ...


class UserBatch(NamedTuple):
    """The B users of a request."""

    request: CandidatesRequest[Any]
    ids: BatchIds
    """By which the request's ids were read, and its answer's are written."""
    histories: IntArray
    """[B, maxlen], the last known ids, padded with 0."""
    lengths: IntArray
    """[B]; 0: no known id."""
    rows: IntArray
    """[n], the users with clicks enough for the model."""
    exclude: list[Set[int]]
    """B sets of numbers that must not come back; of items that the model does not know, too."""
    unknown: list[list[OwnId]]
    """[B], ids that are none of the model's."""
    unresolved: list[int]
    """Numbers in histories that may be items which were added since the model was made."""
    categories: tuple[str, ...] | None = None
    """Those of the request's filter that stored items have; None: there is no filter."""
    hidden: frozenset[int] = frozenset()
    """Items that are known to be deleted."""

    def not_popular(self, row: int) -> Set[int]:
        """What a list of popular items for that user leaves out."""
        return self.exclude[row] | self.hidden if self.hidden else self.exclude[row]


class ExcludedItems(Set[int]):
    """``shared`` and a history; the former, maybe long, are those of all users of a request."""

    def __init__(self, shared: frozenset[int], own: frozenset[int]) -> None:
        self._shared, self._own = shared, own - shared

    def __contains__(self, item: object) -> bool:
        """Whether the item must not come back."""
        return item in self._own or item in self._shared

    def __iter__(self) -> Iterator[int]:
        """All ids, the shared ones first."""
        return chain(self._shared, self._own)

    def __len__(self) -> int:
        """The number of different ids."""
        return len(self._shared) + len(self._own)

    @classmethod
    def _from_iterable(cls, items: Iterable[int]) -> Set[int]:  # type: ignore[override]
        return frozenset(items)


def user_batch(
    request: CandidatesRequest[Any],
    maxlen: int,
    catalogue: Catalogue,
    item_ids: ItemIds,
    least_history: int = 1,
    *,
    as_text: bool = False,
) -> UserBatch:
    """The arrays of ``request`` for a model of the items of ``catalogue``, ids by ``item_ids``.

    ``as_text``: ids that are ints are written as strings, in the answer, too.

    Users with fewer known clicks than ``least_history`` are not for the model.
    InvalidRequestError: the request needs categories, and there are none.
    """
    _check_categories(request, catalogue)
    ids: BatchIds = item_ids.written(as_text=as_text)
    shared = frozenset(ids.numbers(request.exclude))
    exclude: list[Set[int]] = []
    known_histories, unknown, rows, strangers = [], [], [], set[int]()
    for row, history in enumerate(request.hist_item):
        numbers = ids.numbers(history)
        known = item_ids.known(numbers)
        if 0 in known:
            unknown.append([own for own, number in zip(history, known, strict=True) if not number])
            strangers |= {n for n, number in zip(numbers, known, strict=True) if not number}
            known = [number for number in known if number]
        else:
            unknown.append([])
        known_histories.append(known)
        exclude.append(_excluded(shared, numbers) if request.exclude_history else shared)
        if len(known) >= max(1, least_history):
            rows.append(row)
    histories, lengths = pad_histories(known_histories, maxlen)
    return UserBatch(
        request,
        ids,
        histories,
        lengths,
        np.array(rows, np.int64),
        exclude,
        unknown,
        item_ids.unresolved(strangers) if strangers else [],
    )


def _excluded(shared: frozenset[int], history: Sequence[int]) -> Set[int]:
    own = frozenset(history)
    return ExcludedItems(shared, own) if shared else own  # a plain set answers faster


def _check_categories(request: CandidatesRequest[Any], catalogue: Catalogue) -> None:
    if catalogue.categories:
        return
    text = (
        "no item has a category here: leave this out, or prepare the data with titles and "
        "categories (items.csv)"
    )
    needing = {"filter": request.filter is not None, "diversity": request.diversity > 0}
    if any(needing.values()):
        fields = [name for name, is_needing in needing.items() if is_needing]
        raise InvalidRequestError([problem(("body", name), text) for name in fields])
