# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What goes over the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

EXAMPLE: dict[str, Any] = {"top_k": 50, "hist_item": [[43, 23, 65], [675, 3456]]}

ItemId = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
# the first wrong id is told: a list of half a million could have as many
Ids = Annotated[list[ItemId], FailFast()]
Histories = Annotated[list[Ids], FailFast()]
Source = Literal["model", "popular", "fallback"]


class CandidatesRequest(BaseModel):
    """Histories of item ids, a row for each user, oldest click first."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE]}
    )

    hist_item: Histories
    """Ids that the model does not know are left out and counted."""
    top_k: Annotated[int, Field(ge=1, description="Candidates of each user")] = 50
    exclude_history: Annotated[
        bool, Field(description="Leave out what the user has clicked, the whole history")
    ] = True
    exclude: Annotated[Ids, Field(description="Items that no user shall get")] = []
    titles: Annotated[bool, Field(description="Give titles beside the ids")] = False


class CandidatesAnswer(BaseModel):
    """A row for each user, best candidate first."""

    candidates: list[list[int]]
    scores: list[list[float | None]]
    """Null where no model was asked."""
    interest: list[list[int | None]]
    """Which of the user's interests found the candidate, from 0."""
    source: list[Source]
    """popular: no known item in the history; fallback: model or Milvus did not answer in time."""
    unknown: list[int]
    """Ids of the history that the model does not know."""
    titles: list[list[str | None]] | None = None


class InsertAnswer(BaseModel):
    """What was put into Milvus."""

    inserted: int
    collection: str
    checkpoint: str
    """Fingerprint of the model's file."""
    seconds: float


class CountAnswer(BaseModel):
    """How many item vectors are stored."""

    count: int


class DeleteAnswer(BaseModel):
    """How many item vectors were there; null where a damaged collection could not tell."""

    deleted: int | None


class ReadyAnswer(BaseModel):
    """Whether candidates come from the model, and if not, why."""

    ready: bool
    reason: str
    checkpoint: str
    items: int
