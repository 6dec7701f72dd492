# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "serving_requests",
            "Answered requests",
            ["method", "route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "serving_request_seconds",
            "From a request's head to the end of its answer",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "serving_stage_seconds",
            "What a request for candidates waited for: tower, search, merge",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.users = Counter(
            "serving_users", "Lists of candidates by their source", ["source"], registry=registry
        )
        self.fallbacks = Counter(
            "serving_fallbacks",
            "Requests answered with popular items: not_ready, deadline, failure",
            ["reason"],
            registry=registry,
        )
        self.version = Gauge(
            "serving_collection_version",
            "3 while items_v3 answers, 0 while popular items do",
            registry=registry,
        )
        self.breaker = Gauge(
            "serving_breaker_open", "1 while no search is tried", registry=registry
        )
        self.ready = Gauge("serving_ready", "1 while /readyz says so", registry=registry)
