# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What benchmarks/tune_trials.py measured, as its table shows it and its file holds it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

COLUMNS = {
    "on_others": "on others",
    "users_per_second": "users/s",
    "grid_best": "grid's best",
    "grid_best_users_per_second": "its users/s",
    "relative_rate": "of its rate",
}


class TrialResult(BaseModel):
    """A trial's setting beside the best of the grid's, by the names of ``COLUMNS`` in the file."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: COLUMNS.get(name, name),
        populate_by_name=True,
    )

    target: float
    """The index_recall to meet."""
    seed: int
    """Of the users that it was tuned on."""
    setting: str
    on_others: float
    """Its index_recall on the other users."""
    met: bool
    """Whether that meets the target."""
    users_per_second: float
    grid_best: str
    grid_best_users_per_second: float
    relative_rate: float
    """The first rate over the second; infinite where no setting of the grid meets the target."""
    seconds: float
    """What the trial cost, with each build that it needs."""


class TrialsReport(BaseModel):
    """All trials, and what they were measured on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    data: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    trials: list[TrialResult]
    users_per_second: dict[str, float]
    """Of every setting that was timed at the end."""
    grid_seconds: float
    """What the grid cost when it was measured."""
    paces: dict[str, float]
    """What a build takes now, as a multiple of what it took the grid."""
