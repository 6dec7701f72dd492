# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What goes over the wire for changes of items and for users that the service knows."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from paddlerec_milvus.retrieval.connection import CATEGORY_BYTES
from paddlerec_milvus.serving.schemas import Consistency, Ids, Weight

MOST_ITEMS = 1_000  # in one request
LARGEST_ITEM = 2**63 - 1
FLOAT32 = float(np.finfo(np.float32).max)


def _short(category: str) -> str:
    if len(category.encode()) > CATEGORY_BYTES:
        raise ValueError(f"at most {CATEGORY_BYTES} bytes of UTF-8")
    return category


StoredId = Annotated[int, Field(ge=1, le=LARGEST_ITEM)]
Number = Annotated[float, Field(ge=-FLOAT32, le=FLOAT32, allow_inf_nan=False)]
Vector = Annotated[list[Number], Field(min_length=1, fail_fast=True)]
Features = Annotated[dict[str, str], Field(min_length=1)]
Category = Annotated[str, AfterValidator(_short)]

USER_EXAMPLE = 7
EVENTS_EXAMPLE: dict[str, Any] = {"items": [43, 23, 65]}


def items_example(item: int, dimension: int) -> dict[str, Any]:
    """A request that stores ``item`` by a vector of ``dimension`` numbers and of length 1."""
    vector = [round(dimension**-0.5, 6)] * dimension
    return {"items": [{"id": item, "vector": vector, "category": "books"}]}


class Item(BaseModel):
    """An item by its vector, or by its features."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: StoredId
    vector: Annotated[Vector | None, Field(description="As the serving model makes them")] = None
    features: Annotated[
        Features | None,
        Field(description="Values by column, for a model that was trained with item features"),
    ] = None
    category: Annotated[
        Category | None, Field(description="Absent: that of the catalogue, if the item is in it")
    ] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Item:
        if (self.vector is None) == (self.features is None):
            raise ValueError("an item needs either a vector or features")
        return self


class ItemsRequest(BaseModel):
    """Items that are new, or whose vectors have changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    items: Annotated[list[Item], Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True)]
    checkpoint: Annotated[
        str | None,
        Field(description="Fingerprint of the model that made the vectors; checked where given"),
    ] = None


class EventsRequest(BaseModel):
    """Items that the user has clicked, oldest first."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": [EVENTS_EXAMPLE]}
    )

    items: Annotated[Ids, Field(min_length=1)]


class UserCandidatesQuery(BaseModel):
    """How the candidates of a stored user are wanted: as in a request for candidates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top_k: Annotated[int, Field(ge=1)] = 50
    exclude_history: bool = True
    diversity: Weight = 0.0
    quota: Annotated[int | None, Field(ge=1)] = None
    titles: bool = False
    consistency: Consistency | None = None
