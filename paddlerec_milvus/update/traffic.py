# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a service has counted of its requests, from /metrics, and whether it does worse than before.

Of requests for lists alone: errors are answers of status 5xx, fallbacks requests that popular items
answered in place of the model, unranked those that the ranker did not answer in time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ConfigDict

from paddlerec_milvus.errors import SettingsError

LEAST_REQUESTS = 20  # for a share to say something
LEAST_FOR_P99 = 200
LEAST_P99 = 0.02  # seconds; below that nobody waits, and a machine's other work shows
COUNTS = ("requests", "errors", "fallbacks", "unranked")
WAITING = ("deadline", "failure", "not_ready")  # reasons that are the model's, Milvus' or ranker's
LIMITS: Mapping[str, float] = {"errors": 0.01, "fallbacks": 0.01, "unranked": 0.05, "p99": 2.0}
"""The most that each share may lie above the one before; ``p99``: times the one before."""


class Traffic(BaseModel):
    """Counts since a service's start, or between two moments."""

    model_config = ConfigDict(frozen=True)

    requests: float = 0.0
    errors: float = 0.0
    fallbacks: float = 0.0
    unranked: float = 0.0
    buckets: dict[str, float] = {}
    """Requests that took at most so many seconds, by the bound as it is written."""

    def since(self, before: Traffic) -> Traffic:
        """What came after ``before``; all of it where the service was started again since."""
        if any(getattr(self, name) < getattr(before, name) for name in COUNTS):
            return self
        return Traffic(
            requests=self.requests - before.requests,
            errors=self.errors - before.errors,
            fallbacks=self.fallbacks - before.fallbacks,
            unranked=self.unranked - before.unranked,
            buckets={
                bound: count - before.buckets.get(bound, 0.0)
                for bound, count in self.buckets.items()
            },
        )

    def plus(self, other: Traffic) -> Traffic:
        """Both, as of two processes."""
        bounds = self.buckets.keys() | other.buckets.keys()
        return Traffic(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            fallbacks=self.fallbacks + other.fallbacks,
            unranked=self.unranked + other.unranked,
            buckets={
                bound: self.buckets.get(bound, 0.0) + other.buckets.get(bound, 0.0)
                for bound in bounds
            },
        )

    def share(self, name: str) -> float:
        """Of ``requests``; 0 without any."""
        return float(getattr(self, name)) / self.requests if self.requests else 0.0

    @property
    def p99(self) -> float:
        """Seconds, between the bounds of its bucket as Prometheus takes it; nan without any."""
        ordered = sorted((float(bound), count) for bound, count in self.buckets.items())
        if not ordered or not ordered[-1][1]:
            return math.nan
        rank, below, lower = 0.99 * ordered[-1][1], 0.0, 0.0
        for bound, count in ordered:
            if count >= rank:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (rank - below) / max(count - below, 1e-9)
            below, lower = count, bound
        return lower

    def __str__(self) -> str:
        """Requests, shares in per cent, and p99 in ms."""
        text = f"{self.requests:,.0f} requests"
        if not self.requests:
            return text
        shares = (f"{name} {100 * self.share(name):.2f} %" for name in LIMITS if name != "p99")
        return f"{text}, {', '.join(shares)}, p99 {1000 * self.p99:.1f} ms"


def traffic_since(now: Mapping[str, Traffic], before: Mapping[str, Traffic]) -> Traffic:
    """What all services, by their URLs, have counted since ``before``.

    One that was started again since, or is not in ``before``, brings all that it has counted.
    """
    whole = Traffic()
    for url, traffic in now.items():
        whole = whole.plus(traffic.since(before.get(url, Traffic())))
    return whole


def traffic_of(text: str) -> Traffic:
    """What the page /metrics of one process says."""
    counts = dict.fromkeys(COUNTS, 0.0)
    buckets: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels, value = sample.labels, float(sample.value)
            if sample.name == "serving_request_seconds_bucket" and _gives_lists(labels):
                buckets[labels["le"]] = buckets.get(labels["le"], 0.0) + value
            elif sample.name == "serving_requests_total" and _gives_lists(labels):
                counts["requests"] += value
                counts["errors"] += value if labels["status"].startswith("5") else 0.0
            elif sample.name in ("serving_fallbacks_total", "serving_unranked_total"):
                name = sample.name.split("_")[1]
                counts[name] += value if labels["reason"] in WAITING else 0.0
    return Traffic(**counts, buckets=buckets)


def _gives_lists(labels: Mapping[str, str]) -> bool:
    route = labels["route"]
    return route.endswith(("candidates", "recommend", "recommendations"))


def named_number(word: str) -> tuple[str, float]:
    """The parts of ``name=number``; nan where there is no number."""
    name, _, text = word.partition("=")
    try:
        return name, float(text)
    except ValueError:
        return name, math.nan


def limits_of(words: Sequence[str]) -> dict[str, float]:
    """``errors=0.01 p99=2 …`` over the defaults; SettingsError: a word is no such pair."""
    limits = dict(LIMITS)
    for word in words:
        name, value = named_number(word)
        if name not in LIMITS or not 0 <= value < math.inf:
            raise SettingsError(
                f"--limit {word}: expected one of {', '.join(LIMITS)} and a number, such as "
                "errors=0.01 or p99=2"
            )
        limits[name] = value
    return limits


def worsening(before: Traffic, after: Traffic, limits: Mapping[str, float]) -> str:
    """What is worse in ``after`` than ``limits`` allow, in words; empty: nothing."""
    problems = []
    if after.requests >= LEAST_REQUESTS:
        for name in ("errors", "fallbacks", "unranked"):
            was, now = before.share(name), after.share(name)
            if now > was + limits[name]:
                problems.append(
                    f"{name}: {100 * now:.2f} % of {after.requests:,.0f} requests, before "
                    f"{100 * was:.2f} % (the limit is {100 * limits[name]:g} points more)"
                )
    if min(before.requests, after.requests) >= LEAST_FOR_P99:
        was, now = before.p99, after.p99
        if now > max(limits["p99"] * was, LEAST_P99):
            problems.append(
                f"p99: {1000 * now:.1f} ms, before {1000 * was:.1f} ms (the limit is "
                f"{limits['p99']:g} times that)"
            )
    return "; ".join(problems)
