# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Requests and answers of calls that explain a list, set another beside it, or filter it."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from paddlerec_milvus.serving.schemas import (
    CandidatesAnswer,
    CandidatesRequest,
    Id,
    IdRequest,
    ItemId,
    NamedItem,
)
from paddlerec_milvus.trained_model import ModelIdentity

EXPLAIN_EXAMPLE: dict[str, Any] = {"hist_item": [43, 23, 65], "item": 7}
BY_EXAMPLE: dict[str, Any] = {"hist_item": [[43, 23, 65]], "top_k": 20, "by": "exact"}

By = Literal["before", "exact", "popular"]
SearchParameters = Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(min_length=1)]


class ExplainRequest(IdRequest[Id], Generic[Id]):
    """A user's history of item ids, oldest click first, and the item to explain."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": [EXPLAIN_EXAMPLE]}
    )

    hist_item: Annotated[list[Id], FailFast()]
    item: Id


class NearClick(NamedItem):
    """A click of the history that lies near an item."""

    similarity: float
    """Cosine of both vectors."""
    interest: int
    """The user's interest to which the click lies nearest, from 0."""


class ExplainAnswer(BaseModel):
    """Why a model would give an item to a user."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    item: ItemId
    interest: int | None
    """The interest that gives it the best score, from 0; null: no click is known to the model."""
    scores: list[float]
    """What each interest gives it."""
    clicks: list[NearClick]
    """At most five of the clicks that the model looks at, those nearest to the item first."""
    unknown: list[ItemId]
    """Ids of the history that the model does not know, as they were sent."""


class AlternativesAnswer(BaseModel):
    """What the list that is served can be compared with."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    before: ModelIdentity | None
    """The version that a rollback would go back to; null: there is none."""
    is_exact: bool
    """Whether the search that serves finds the true neighbours."""
    search: dict[str, int]
    """The parameters that a search of its index takes, in Milvus' words, as they are set."""


class AlternativeRequest(CandidatesRequest[Id], Generic[Id]):
    """One user's history, the options of a request for candidates, and who shall answer it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": [BY_EXAMPLE]}
    )

    hist_item: Annotated[list[Annotated[list[Id], FailFast()]], Field(min_length=1, max_length=1)]
    by: By | SearchParameters
    """before: the version that a rollback would go back to, model and index; exact: the serving
    model, with all of its own items compared; popular: no model; or the serving index, searched
    with these parameters."""


class AlternativeAnswer(CandidatesAnswer):
    """Candidates as another model or index gives them."""

    whose: ModelIdentity
    """Model, data and index; empty: popular items, which need none."""


class CategorySize(BaseModel):
    """A category and how many of the model's items have it."""

    name: str
    items: int


class CategoriesAnswer(BaseModel):
    """Categories, the largest first."""

    total: int
    """How many there are in all."""
    categories: list[CategorySize]
