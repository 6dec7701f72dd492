# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What goes over the wire for ranked lists."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from paddlerec_milvus.serving.schemas import Consistency, Filter, Id, IdRequest, ItemId

RANKED_EXAMPLE: dict[str, Any] = {"hist_item": [[43, 23, 65]], "top_k": 10}

RankedSource = Literal["ranked", "unranked", "other_channels", "popular", "short", "fallback"]


class RecommendRequest(IdRequest[Id], Generic[Id]):
    """Histories of item ids, a row for each user, oldest click first."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [RANKED_EXAMPLE]},
    )

    hist_item: Annotated[list[Annotated[list[Id], FailFast()]], FailFast()]
    """Ids that the model does not know are left out and listed."""
    top_k: Annotated[int, Field(ge=1)] = 10
    """Items of each user; what the user has clicked is never among them."""
    exclude: Annotated[list[Id], FailFast()] = Field(default=[])
    """Items that no user shall get."""
    filter: Filter | None = None
    """Only these; where they are fewer than top_k, the list is short."""
    consistency: Consistency | None = None
    """Strong: items changed a moment ago are seen, and the search waits for them."""
    explain: bool = False
    """Say what moved the first 50 items of each list, too."""


class RecommendQuery(BaseModel):
    """Options of the ranked list for a stored user, as in a request for one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top_k: Annotated[int, Field(ge=1)] = 10
    consistency: Consistency | None = None
    explain: bool = False


class MovingFeatures(BaseModel):
    """A group of features, and what it did to an item's score."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    group: str
    """interests: scores of the vector model; transitions, next: what came after the clicks, and at
    once; neighbours: what the same users clicked; channel_ranks: places in these lists;
    graph_filter: what the graph of all clicks says; popularity, category, history; trend: the age
    of the item, and whether its clicks grow."""
    contribution: float
    """The ranker's score, less that of the item with the middle values of the user's candidates in
    these features; below 0: they put it lower."""


class RankedItem(BaseModel):
    """An item of a ranked list, and why it is there."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: ItemId
    title: str | None
    score: float | None
    """The ranker's, of an unranked list the vector model's; null where no model was asked."""
    channels: dict[str, int]
    """Which channels had it, and at which place of their lists, from 1."""
    interest: int | None
    """The user's interest that is nearest to it, from 0."""
    follows: ItemId | None
    """The click after which users click it most; null: none of the last ones."""
    why: list[MovingFeatures] | None = None
    """At most three groups of features that moved it most, the largest first; null: the request has
    no ``explain``, the list is not ranked, or it is below the first 50."""


class RecommendAnswer(BaseModel):
    """A row for each user, best item first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    recommendations: list[list[RankedItem]]
    source: list[RankedSource]
    """ranked; unranked: the ranker is absent, failed, was too late or a shadow, and the items are
    the vector model's in its order; other_channels: Milvus did not answer, and what the other
    channels have is ranked; popular, short, fallback as in /candidates."""
    ranker: str | None
    """Which ranker that is, 16 hex digits; null: the model that answers has none."""
    unknown: list[list[ItemId]]
    """Ids of the history that the model does not know, as they were sent."""
