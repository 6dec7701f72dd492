# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Requests that nobody would write, and what a service must make of them: no 5xx.

The tests here are for the fixture ``target``: a test file that imports them says what it is.
A hundred or so as a rule; FUZZ_EXAMPLES=10000 sends at least as many to each.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error, response_schema_conformance

__all__ = [  # noqa: RUF022  # as they run: those by the description may store items
    "cases",
    "test_the_largest_bodies_are_answered_or_refused",
    "test_an_extreme_value_anywhere_is_refused_or_answered",
    "test_what_is_right_is_answered",
    "test_what_is_odd_is_answered_or_refused",
    "test_any_bytes_and_headers_are_refused",
    "test_calls_by_the_description_are_answered_as_described",
    "test_a_body_for_a_call_that_takes_none_changes_nothing_of_it",
]

VARIABLE = "FUZZ_EXAMPLES"
EXAMPLES = int(os.environ.get(VARIABLE, "100"))
LONG = EXAMPLES > 2_000

logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request is too much


@dataclass
class Target:
    """A service with ``items`` item vectors."""

    url: str
    http: httpx.Client
    items: int

    def call(self, case: schemathesis.Case) -> Any:
        """The answer to a request of schemathesis."""
        return case.call(base_url=self.url)

    def requests(self) -> dict[str, int]:
        """Answered requests by status."""
        counted: dict[str, int] = {}
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith("serving_requests_total{"):
                status = line.partition('status="')[2].partition('"')[0]
                counted[status] = counted.get(status, 0) + int(float(line.split()[-1]))
        return counted


def fuzzed(share: float) -> settings:
    """Requests of a test; not all its examples become one, so the shares are above 1 together."""
    return settings(
        max_examples=int(share * EXAMPLES), deadline=None, suppress_health_check=list(HealthCheck)
    )


def body_of(**fields: Any) -> str:
    return json.dumps({"hist_item": [], **fields})


LARGEST = [
    body_of(hist_item=[[row % 300, row, row + 1] for row in range(1_024)], top_k=5),
    body_of(hist_item=[list(range(10_000)) for _ in range(60)], top_k=5),
    body_of(hist_item=[list(range(100_000))]),
    body_of(hist_item=[[1]] * 100_000),
    body_of(hist_item=[[2**63 - 1] * 10_000 for _ in range(20)]),
    body_of(hist_item=[[1]], exclude=list(range(1, 10_001))),
    body_of(hist_item=[[9**999] * 1_000]),
    body_of(hist_item=["x" * 4_000_000]),
    body_of(hist_item=[[float(number) for number in range(100_000)]]),
    body_of(hist_item=[[1]] * 64, top_k=1_000, titles=True, nearest=True, diversity=0.1),
    " " * 5_000_000,
    "[" * 4_000_000,
    '{"hist_item":' * 100_000,
    '{"hist_item": [' + "[" * 100_000 + "]" * 100_000 + "]}",
    '{"hist_item": [[' + "9" * 4_300 + "]]}",
    '{"hist_item": [[' + "9" * 1_000_000 + "]]}",
]
EXTREMES = [
    *("NaN", "Infinity", "-Infinity", "1e999", "-0.0", "1.0", "true", "null", '"1"', "{}", "[]"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" * 400, '"\\ud800"'),
    *("[" * 150 + "]" * 150, "[" * 5_000 + "]" * 5_000, '{"a":' * 150 + "1" + "}" * 150),
]


@pytest.mark.parametrize("body", LARGEST, ids=range(len(LARGEST)))
def test_the_largest_bodies_are_answered_or_refused(target, body):
    assert target.http.post("/candidates", content=body).status_code in (200, 413, 422)


@pytest.mark.parametrize("value", EXTREMES, ids=range(len(EXTREMES)))
def test_an_extreme_value_anywhere_is_refused_or_answered(target, value):
    names = ("hist_item", "top_k", "exclude", "exclude_history", "filter", "diversity", "quota")
    bodies = [f'{{"hist_item": [[1]], "{name}": {value}}}' for name in names]
    bodies += [
        f'{{"hist_item": {text}}}' for text in (f"[{value}]", f"[[{value}]]", f"[[1, {value}]]")
    ]
    bodies += [f'{{"hist_item": [[1]], "filter": {{"category": [{value}]}}}}', value]
    for body in bodies:
        content = body.encode("utf-8", "surrogatepass")
        answer = target.http.post("/candidates", content=content)
        assert answer.status_code in (200, 422), body[:200]
    for path in ("/items", "/users/3/events"):
        content = f'{{"items": [{value}]}}'.encode("utf-8", "surrogatepass")
        assert target.http.post(path, content=content).status_code in (200, 422)


integers = st.integers(-5, 310) | st.integers() | st.sampled_from([2**63 - 1, -(2**63), 2**64])
values = st.recursive(
    st.none() | st.booleans() | integers | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
ids = st.lists(st.integers(-5, 310), max_size=80)
options = {
    "top_k": st.integers(1, 1_000),
    "exclude": ids,
    "exclude_history": st.booleans(),
    "titles": st.booleans(),
    "nearest": st.booleans(),
    "quota": st.none() | st.integers(1, 60),
    "diversity": st.floats(0, allow_nan=False, allow_infinity=False),
    "filter": st.none()
    | st.fixed_dictionaries({"category": st.lists(st.text(min_size=1), min_size=1)}),
    "consistency": st.sampled_from([None, "Strong", "Bounded"]),
}
right = st.fixed_dictionaries({"hist_item": st.lists(ids, max_size=3)}, optional=options)
odd = st.fixed_dictionaries(
    {"hist_item": st.lists(ids | values, max_size=4) | values},
    optional={name: each | values for name, each in options.items()} | {"other": values},
)


@fuzzed(0.3)
@given(body=right)
def test_what_is_right_is_answered(target, body):
    answer = target.http.post("/candidates", content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    found, users = answer.json(), len(body["hist_item"])
    columns = ["candidates", "scores", "interest", "source", "unknown"]
    columns += ["titles", "categories"] if body.get("titles") else []
    columns += ["nearest"] if body.get("nearest") else []
    assert {name: len(found[name]) for name in columns} == dict.fromkeys(columns, users)
    for row, given_by, history in zip(
        found["candidates"], found["interest"], body["hist_item"], strict=True
    ):
        left_out = set(body.get("exclude", []))
        left_out |= set(history) if body.get("exclude_history", True) else set()
        possible = len(set(range(1, target.items + 1)) - left_out)
        assert not set(row) & left_out
        assert len(row) == len(set(row)) <= min(body.get("top_k", 50), possible)
        if body.get("filter") is None and body.get("quota") is None:
            assert len(row) == min(body.get("top_k", 50), possible)
        if body.get("quota") is not None and None not in given_by:
            assert max(map(given_by.count, given_by), default=0) <= body["quota"]


@fuzzed(0.3)
@given(body=odd)
def test_what_is_odd_is_answered_or_refused(target, body):
    answer = target.http.post("/candidates", content=json.dumps(body))
    assert answer.status_code in (200, 422), answer.text
    assert len(answer.content) < 2**20 or answer.status_code == 200


@fuzzed(0.4)
@given(
    content=st.binary(max_size=300) | values.map(lambda value: json.dumps(value).encode()),
    path=st.sampled_from(["/candidates", "/items", "/users/3/events"]),
    headers=st.dictionaries(
        st.sampled_from(["Content-Type", "X-API-Key", "Authorization", "X-Request-ID", "Origin"]),
        st.binary(max_size=40).map(lambda value: value.replace(b"\n", b"").replace(b"\r", b"")),
    ),
)
def test_any_bytes_and_headers_are_refused(target, content, path, headers):
    try:
        answer = target.http.post(path, content=content, headers=headers)
    except httpx.LocalProtocolError:  # no header at all
        return
    assert answer.status_code in (400, 401, 422)


SWITCHING = ("/insert", "/rollback", "/delete")  # these would leave nothing to ask for


@pytest.fixture(scope="module")
def cases(target) -> st.SearchStrategy[schemathesis.Case]:
    """Requests by the service's own description, right ones and wrong ones."""
    described = schemathesis.openapi.from_dict(target.http.get("/openapi.json").json())
    described = described.exclude(path_regex="|".join(SWITCHING))
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 8
    modes = list(schemathesis.GenerationMode)
    return st.one_of(
        operation.as_strategy(generation_mode=mode) for operation in operations for mode in modes
    )


@fuzzed(0.2)
@given(data=st.data())
def test_calls_by_the_description_are_answered_as_described(target, cases, data):
    case = data.draw(cases)
    case.validate_response(
        target.call(case), checks=[not_a_server_error, response_schema_conformance]
    )


@pytest.mark.parametrize("path", SWITCHING)
def test_a_body_for_a_call_that_takes_none_changes_nothing_of_it(target, path):
    answer = target.http.post(path, content=b"\xff{", headers={"Origin": "https://other.example"})
    assert answer.status_code == 401
