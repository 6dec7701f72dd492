# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What tuning ends at, as its table shows it and its file holds it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from paddlerec_milvus.machine_state import MachineState

COLUMNS = {
    "confidence": "sure",
    "users_per_second": "users/s",
    "p99_ms": "p99 ms",
    "estimate_mib": "estimated MiB",
    "rss_mib": "server grew by MiB",
}


class SettingResult(BaseModel):
    """A setting that meets the target, by the names of ``COLUMNS`` in table and file."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: COLUMNS.get(name, name),
        populate_by_name=True,
    )

    index: str
    """In words, with its parameters."""
    index_recall: float
    confidence: float
    """How likely it meets the target on as many other users, 0 to 1."""
    users_per_second: float
    clients: int
    """The number of clients with that throughput."""
    p99_ms: float
    """Of one client."""
    estimate_mib: float
    rss_mib: float | None
    """What the server's memory grew by; None where it cannot be seen."""
    seconds: float
    """What finding it cost, its build included, and timing left out."""
    quality: dict[str, float]
    """Means over users, by metric."""


class TuningReport(BaseModel):
    """All that tuning measured, the fastest setting first, and what it was measured on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    settings: list[SettingResult]
    failed: list[str]
    """Why an index is not among them."""
    data: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    machine_state: MachineState | None = None
    """While it was measured; None: not recorded."""
