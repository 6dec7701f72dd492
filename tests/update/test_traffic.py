# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What /metrics says of requests for lists, and what is worse than before."""

from __future__ import annotations

import pytest

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.serving.observability import Metrics
from paddlerec_milvus.update.traffic import (
    LIMITS,
    Traffic,
    limits_of,
    traffic_of,
    traffic_since,
    worsening,
)


def counted(requests: int, errors: int = 0, fallbacks: int = 0, slow: int = 0) -> Traffic:
    """As the service's own page says it; ``slow`` took 0.4 s, all others 3 ms."""
    from prometheus_client import generate_latest

    metrics = Metrics()
    for number in range(requests):
        status = 503 if number < errors else 200
        metrics.requests.labels("POST", "/candidates", status).inc()
        metrics.request_seconds.labels("/candidates").observe(0.4 if number < slow else 0.003)
    for route in ("/metrics", "/insert"):
        metrics.requests.labels("GET", route, 500).inc()
        metrics.request_seconds.labels(route).observe(60.0)
    metrics.fallbacks.labels("deadline").inc(fallbacks)
    metrics.unranked.labels("absent").inc(requests)  # there is no ranker: nothing to wait for
    return traffic_of(generate_latest(metrics.registry).decode())


def test_only_requests_for_lists_count():
    traffic = counted(200, errors=2, fallbacks=4)
    assert (traffic.requests, traffic.errors, traffic.fallbacks, traffic.unranked) == (200, 2, 4, 0)
    assert 0.002 < traffic.p99 < 0.005
    assert 0.2 < counted(200, slow=3).p99 < 0.5


def test_counts_between_two_moments_and_after_a_restart():
    before, after = counted(100, errors=1), counted(250, errors=5)
    assert after.since(before).requests == 150
    assert after.since(before).share("errors") == pytest.approx(4 / 150)
    assert before.since(after) == before  # the service was started again
    assert after.plus(before).requests == 350


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (counted(300), ""),
        (counted(300, errors=10), "errors: 3.33 %"),
        (counted(300, fallbacks=10), "fallbacks: 3.33 %"),
        (counted(300, slow=30), "p99: 4"),
        (counted(10, errors=10), ""),  # too few to say something
        (counted(0), ""),
    ],
)
def test_what_is_worse(after, word):
    assert (word in worsening(counted(300), after, LIMITS)) is True
    assert bool(worsening(counted(300), after, LIMITS)) is bool(word)


def test_limits_of_the_command_line():
    assert limits_of(["p99=3"]) == {**LIMITS, "p99": 3.0}
    for word in ("p98=2", "errors=x", "errors=-1", "errors"):
        with pytest.raises(SettingsError, match=f"--limit {word}"):
            limits_of([word])


def test_a_service_that_was_started_again_hides_nothing_of_the_others():
    before = {"a": counted(300, errors=30), "b": counted(300)}
    after = traffic_since({"a": counted(5), "b": counted(400, errors=60)}, before)
    assert (after.requests, after.errors) == (105, 60)  # 5 + (400 - 300), 0 + 60
    more = traffic_since({"a": counted(400, errors=1)}, before)  # since then again as many
    assert (more.requests, more.errors) == (400, 1)
