# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Index settings timed side by side, so that a change of the machine's pace meets all alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from paddlerec_milvus.bench.client_pool import Load, LoadResult, LoadRunner
from paddlerec_milvus.retrieval.indexes import Index

WARM_UP = 20  # requests of a client before a window

Outcomes = dict[int, list[LoadResult]]  # number of clients → one for each window


class Timing(NamedTuple):
    """How fast a setting is: medians over some windows."""

    users_per_second: float
    """Of the number of ``clients`` with the most."""
    clients: int
    p99_ms: float
    """Of one client; nan where one alone was not timed."""
    failed: str = ""
    """Why its requests failed, empty where none did."""


def race(
    runners: Sequence[tuple[Index, LoadRunner]],
    k: int,
    clients: Sequence[int],
    seconds: float,
    windows: int,
) -> list[Timing]:
    """Time settings side by side, each with each number of ``clients``.

    They take turns, in each second round from the last to the first, so that a change of the
    machine's pace meets all of them alike. One whose requests fail takes no further turn.
    """
    seen: list[Outcomes] = [{count: [] for count in clients} for _ in runners]
    for number in range(windows):
        for at in range(len(runners))[:: -1 if number % 2 else 1]:
            index, loads = runners[at]
            for count in clients:
                if not _failures(seen[at]):
                    orders = [Load(index, k, seconds=seconds, first=97 * n) for n in range(count)]
                    seen[at][count].append(loads.run(orders, WARM_UP))
    return [_timing(outcomes) for outcomes in seen]


def _timing(seen: Outcomes) -> Timing:
    if failed := _failures(seen):
        return Timing(0.0, 0, math.nan, failed)
    rate, count = max((statistics.median(o.rate for o in seen[n]), n) for n in seen)
    p99s = [outcome.latency().p99 for outcome in seen.get(1, [])]
    return Timing(rate, count, statistics.median(p99s) if p99s else math.nan)


def _failures(seen: Outcomes) -> str:
    """What failed, or that nothing was answered; empty: neither."""
    outcomes = [outcome for windows in seen.values() for outcome in windows]
    failures = sum(outcome.failures for outcome in outcomes)
    if failures:
        total = failures + sum(outcome.requests for outcome in outcomes)
        why = next(outcome.first_failure for outcome in outcomes if outcome.failures)
        return f"{failures:,} of {total:,} requests failed: {why}"
    return "" if all(o.requests for o in outcomes) else "no request was answered in time"
