# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What goes over the wire: requests and answers as pydantic models."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Generic, Literal, TypeVar

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    WithJsonSchema,
    model_validator,
)

from paddlerec_milvus.data.id_map import Kind
from paddlerec_milvus.retrieval.connection import CATEGORY_BYTES
from paddlerec_milvus.trained_model import ModelIdentity

EXAMPLE: dict[str, Any] = {"top_k": 50, "hist_item": [[43, 23, 65], [275, 56]]}
OPTIONS_EXAMPLE: dict[str, Any] = {
    "hist_item": [[43, 23, 65]],
    "top_k": 20,
    "exclude": [1, 2, 3],
    "quota": 8,
    "titles": True,
    "nearest": True,
}

USER_EXAMPLE = 7
EVENTS_EXAMPLE: dict[str, Any] = {"items": [43, 23, 65]}

MOST_CATEGORIES = 1_000
MOST_ITEMS = 1_000  # in one request
SECONDS_PER_CANDIDATE = 2.5e-4  # by which a deadline grows, for each of users x top_k
FLOAT32 = float(np.finfo(np.float32).max)


def _short(category: str) -> str:
    if len(category.encode()) > CATEGORY_BYTES:
        raise ValueError(f"at most {CATEGORY_BYTES} bytes of UTF-8")
    return category


# what an id is here: a service speaks the ids of its log, ints or strings
IntId = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
ItemId = Annotated[int | str, WithJsonSchema({"type": ["integer", "string"], "x-id": "items"})]
UserId = Annotated[int | str, WithJsonSchema({"type": ["integer", "string"], "x-id": "users"})]
ID_SCHEMAS = {"int": {"type": "integer", "format": "int64"}, "string": {"type": "string"}}
Id = TypeVar("Id")
Category = Annotated[str, Field(min_length=1, max_length=CATEGORY_BYTES)]
Categories = Annotated[list[Category], Field(min_length=1, max_length=MOST_CATEGORIES), FailFast()]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Consistency = Literal["Strong", "Bounded"]
Source = Literal["model", "popular", "short", "fallback"]
Number = Annotated[float, Field(ge=-FLOAT32, le=FLOAT32, allow_inf_nan=False)]
Vector = Annotated[list[Number], Field(min_length=1, fail_fast=True)]
Features = Annotated[dict[str, str], Field(min_length=1)]
StoredCategory = Annotated[str, AfterValidator(_short)]


class IdRequest(BaseModel, Generic[Id]):
    """A body with ids of items: ``of_kind`` gives the class for a service's kind."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """The plain name: which kind it is, the types in the schema say."""
        return cls.__name__


class Filter(BaseModel):
    """What every candidate must be; with a category that no item has, there are none."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    category: Categories
    """One of these."""


class CandidatesRequest(IdRequest[Id], Generic[Id]):
    """Histories of item ids, a row for each user, oldest click first."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [EXAMPLE, OPTIONS_EXAMPLE]},
    )

    # the first wrong id is told: a list of half a million could have as many
    hist_item: Annotated[list[Annotated[list[Id], FailFast()]], FailFast()]
    """Ids that the model does not know are left out and listed."""
    top_k: Annotated[int, Field(ge=1)] = 50
    """Candidates of each user."""
    exclude_history: bool = True
    """Leave out what the user has clicked, the whole history."""
    exclude: Annotated[list[Id], FailFast()] = []
    """Items that no user shall get."""
    filter: Filter | None = None
    """Only these; where they are fewer than top_k, the list is short."""
    diversity: Weight = 0.0
    """λ: what a pair of different categories in the list is worth, in units of the scores. 0: lists
    are the best by score; ever larger: as many categories as there are. Chosen from the best four
    times top_k (at least 200)."""
    quota: Annotated[int | None, Field(ge=1)] = None
    """The most candidates that one interest of a user may give."""
    titles: bool = False
    """Give titles and categories beside the ids."""
    nearest: bool = False
    """Give the three items nearest to each interest, to name it; clicked ones are among them."""
    consistency: Consistency | None = None
    """Strong: items changed a moment ago are seen, and the search waits for them. By default as the
    service is set, Bounded as a rule."""


class Item(IdRequest[Id], Generic[Id]):
    """An item by its vector, or by its features."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Id
    vector: Annotated[Vector | None, Field(description="As the serving model makes them")] = None
    features: Annotated[
        Features | None,
        Field(description="Values by column, for a model that was trained with item features"),
    ] = None
    category: Annotated[
        StoredCategory | None,
        Field(description="Absent: that of the catalogue, if the item is in it"),
    ] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Item[Id]:
        if (self.vector is None) == (self.features is None):
            raise ValueError("an item needs either a vector or features")
        return self


class ItemsRequest(IdRequest[Id], Generic[Id]):
    """Items that are new, or whose vectors have changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    items: Annotated[list[Item[Id]], Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True)]
    checkpoint: Annotated[
        str | None,
        Field(description="Fingerprint of the model that made the vectors; checked where given"),
    ] = None


class EventsRequest(IdRequest[Id], Generic[Id]):
    """Items that the user has clicked, oldest first."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": [EVENTS_EXAMPLE]}
    )

    items: Annotated[list[Id], Field(min_length=1), FailFast()]
    time: Annotated[
        float | None,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="When it was, in seconds since 1970: the clicks go before those that are "
            "later. Absent: they are the last",
        ),
    ] = None


class UserCandidatesQuery(BaseModel):
    """Options of the candidates for a stored user, as in a request for candidates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top_k: Annotated[int, Field(ge=1)] = 50
    exclude_history: bool = True
    diversity: Weight = 0.0
    quota: Annotated[int | None, Field(ge=1)] = None
    titles: bool = False
    consistency: Consistency | None = None


class NamedItem(BaseModel):
    """An item with its title."""

    id: ItemId
    title: str | None


class CandidatesAnswer(BaseModel):
    """A row for each user, best candidate first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    candidates: list[list[ItemId]]
    scores: list[list[float | None]]
    """The best that an interest gave; null where no model was asked."""
    interest: list[list[int | None]]
    """Which of the user's interests found the candidate, from 0."""
    source: list[Source]
    """popular: no known item in the history; short: too few for the model; fallback: model or
    Milvus did not answer in time. All three give popular items."""
    unknown: list[list[ItemId]]
    """Ids of the history that the model does not know, as they were sent."""
    titles: list[list[str | None]] | None = None
    categories: list[list[str | None]] | None = None
    nearest: list[list[list[NamedItem]]] | None = None
    """A list for each interest; none where no model was asked."""


class InsertAnswer(BaseModel):
    """What was put into Milvus."""

    inserted: int
    collection: str
    checkpoint: str
    """Fingerprint of the model's file."""
    seconds: float


class RollbackAnswer(BaseModel):
    """The version that serves again."""

    collection: str
    """The version's own name."""
    checkpoint: str


class CountAnswer(ModelIdentity):
    """How many item vectors are stored, and whose."""

    count: int


class DeleteAnswer(BaseModel):
    """How many item vectors were there; null where a damaged collection could not tell."""

    deleted: int | None


class ReadyAnswer(ModelIdentity):
    """Whether candidates come from the model, and if not, why; which model that is; warnings."""

    ready: bool
    reason: str
    checkpoint: str
    """The same as ``digest``."""
    items: int
    started_with: ModelIdentity | None = None
    """Another model, with which the service was started, or which it inserted last."""
    index_recall: float | None
    warnings: list[str]


class TitledItem(BaseModel):
    """An item with what is known of it."""

    id: ItemId
    title: str | None
    category: str | None
    authors: str | None = None
    year: str | None = None


class TitlesAnswer(BaseModel):
    """Items, the most popular first; for ``id`` in the order that was asked for."""

    items: list[TitledItem]


class ItemsAnswer(BaseModel):
    """How many items were stored, and whose vectors lie beside them."""

    upserted: int
    checkpoint: str


class ItemDeleteAnswer(BaseModel):
    """The item that is not stored any more."""

    deleted: ItemId


class EventsAnswer(BaseModel):
    """The user after the clicks."""

    user: UserId
    history: int
    """Clicks that are kept of the user."""
    unknown: list[ItemId]
    """Ids that the model does not know, as they were sent; they are not kept."""


class UserDeleteAnswer(BaseModel):
    """The user of whom nothing is stored any more."""

    deleted: UserId


def items_example(item: int | str, dimension: int) -> dict[str, Any]:
    """A request that stores ``item`` by a vector of ``dimension`` numbers and of length 1."""
    vector = [round(dimension**-0.5, 6)] * dimension
    return {"items": [{"id": item, "vector": vector, "category": "books"}]}


Request = TypeVar("Request", bound=BaseModel)


@functools.cache
def of_kind(model: type[Request], kind: Kind) -> type[Request]:
    """``model`` (a class with ids) for a service whose items have ids of this kind."""
    ids: Any = IntId if kind == "int" else str
    return model[ids]  # type: ignore[index,no-any-return]


def in_ids_of(schema: Any, kinds: dict[str, Kind]) -> Any:
    """The OpenAPI ``schema`` with what an id is in place of ints and strings alike."""
    if isinstance(schema, list):
        return [in_ids_of(part, kinds) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "x-id" in schema:
        others = {key: value for key, value in schema.items() if key not in ("type", "x-id")}
        return others | ID_SCHEMAS[kinds[schema["x-id"]]]
    return {key: in_ids_of(part, kinds) for key, part in schema.items()}


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """``model`` (a class with ids) as a request's body in OpenAPI, for a handler that reads it."""
    ids: Any = ItemId
    schema = model[ids].model_json_schema()  # type: ignore[index]
    definitions = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:  # OpenAPI would look for references in another place
        if isinstance(part, list):
            return [inlined(element) for element in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inlined(definitions[part["$ref"].rpartition("/")[2]])
        return {key: inlined(value) for key, value in part.items()}

    return {"required": True, "content": {"application/json": {"schema": inlined(schema)}}}
