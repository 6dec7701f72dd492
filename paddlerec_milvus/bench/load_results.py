# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What clients saw that put load on a server, as results keep it: latencies and throughput.

Times are in milliseconds where the name does not say seconds.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ResultModel(BaseModel):
    """A part of a result; a field that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LatencySummary(ResultModel):
    """Latencies of a load; ``requests`` were answered, ``failures`` were not."""

    requests: int
    failures: int
    p50: float
    p95: float
    p99: float
    p99_9: float
    mean: float
    max: float
    histogram: str
    """Of microseconds, as HdrHistogram encodes it."""
    harness_ms: float | None = None
    """What the measuring loop itself adds to a request."""


class Throughput(ResultModel):
    """A number of clients in a closed loop: medians of ``runs``."""

    clients: int
    users_per_second: float
    runs: list[float]
    failures: int
    p50: float
    p99: float


class BatchThroughput(ResultModel):
    """One client that searches for many ``users`` in one call."""

    users: int
    users_per_second: float
    failures: int


class OpenLoop(LatencySummary):
    """Requests on a timetable of ``rate`` users a second, whatever the answers do."""

    rate: float
    clients: int
    planned: int | None = None
