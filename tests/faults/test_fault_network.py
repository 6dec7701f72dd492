# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A network that fails between the service and a real Milvus, under 50 requests a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from fault_table.proxy import Fault, Proxy
from fault_table.steady_requests import SteadyRequests
from forked_service import HISTORIES, Folder, ForkedService
from running_service import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

DEADLINE = 1.0
SLACK = 15.0  # that an answer may take beyond the deadline where a machine stands still
SEEN = 60.0  # within which /readyz tells of a fault, and of its end
BODIES = [{"hist_item": [history], "top_k": 10} for history in HISTORIES]


class Through(NamedTuple):
    service: ForkedService
    proxy: Proxy


@pytest.fixture(scope="module")
def through(server, trained, tmp_path_factory) -> Iterator[Through]:
    """A service that reaches the server through a proxy."""
    place = tmp_path_factory.mktemp("through")
    with Proxy(server.port, delay=10 * DEADLINE) as proxy:
        environment = Folder(trained, place).environment(proxy.uri, "faults_network", DEADLINE)
        with ForkedService(environment, place / "log") as service:
            service.insert()
            yield Through(service, proxy)
            assert service.http.post("/delete").status_code == 200


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.CUT, Fault.REFUSE, Fault.DELAY])
def test_a_fault_costs_no_request_more_than_its_deadline(through, fault):
    service, proxy = through
    until(lambda: service.status("/readyz") == 200)
    with SteadyRequests(service.url, BODIES) as asking:
        until(lambda: len(asking.answers) > 25)
        proxy.fault = fault
        try:
            gone = service.seconds_until("/readyz", 503, SEEN)
            noticed = time.monotonic()
            until(lambda: len(asking.since(noticed)) > 25)
        finally:
            proxy.fault = Fault.NONE
        back = service.seconds_until("/readyz", 200, SEEN)
        recovered = time.monotonic()
        # a search on a connection that is still silent may open the breaker once more
        until(lambda: asking.settled(recovered), SEEN)
    print(
        f"{fault.name}: {len(asking.answers)} requests, longest {asking.longest():.2f} s, "
        f"/readyz 503 after {gone:.2f} s, 200 again {back:.2f} s after the fault's end"
    )
    assert not asking.failed()
    assert asking.longest() < DEADLINE + SLACK
    assert asking.since(noticed)[5].source == "fallback"
    assert asking.answers[0].source == "model"


def test_connections_that_are_cut_once_are_opened_again(through):
    service, proxy = through
    until(lambda: service.status("/readyz") == 200)
    with SteadyRequests(service.url, BODIES) as asking:
        until(lambda: len(asking.answers) > 25)
        proxy.fault = Fault.CUT
        proxy.fault = Fault.NONE
        cut = time.monotonic()
        until(lambda: asking.settled(cut), SEEN)
    assert not asking.failed()
    assert asking.longest() < DEADLINE + SLACK


def test_every_call_answers_within_its_deadline(through):
    """Calls that only Milvus can answer, more at a time than threads, and it is silent."""
    service, proxy = through
    until(lambda: service.status("/readyz") == 200)
    vector = [1.0] + [0.0] * 127
    calls = [
        ("GET", "/count", None),
        ("POST", "/users/7/events", {"items": [3]}),
        ("GET", "/users/8/candidates?consistency=Strong", None),
        ("GET", "/users/9/candidates", None),
        ("POST", "/items", {"items": [{"id": 3, "vector": vector}]}),
        ("DELETE", "/items/4", None),
    ]

    def ask(call: tuple[str, str, object]) -> tuple[str, int, float]:
        began = time.monotonic()
        status = service.http.request(call[0], call[1], json=call[2]).status_code
        return call[1], status, time.monotonic() - began

    with SteadyRequests(service.url, BODIES) as asking, ThreadPoolExecutor(64) as callers:
        until(lambda: len(asking.answers) > 25)
        proxy.fault = Fault.SILENT
        try:
            answers = list(callers.map(ask, calls * 10))
            service.seconds_until("/readyz", 503, SEEN)
            answers += list(callers.map(ask, calls * 10))
        finally:
            proxy.fault = Fault.NONE
        back = service.seconds_until("/readyz", 200, SEEN)
    longest = max(seconds for _, _, seconds in answers)
    print(f"longest call {longest:.2f} s, /readyz 200 again after {back:.2f} s")
    for path, status, seconds in answers:
        assert status == (200 if "/candidates" in path else 503), (path, status)
        assert seconds < DEADLINE + SLACK, (path, seconds)
    assert not asking.failed()
    assert asking.longest() < DEADLINE + SLACK
