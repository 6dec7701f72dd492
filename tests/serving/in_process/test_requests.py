# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a caller may send: whatever it is, the answer is a list or says what was wrong."""

from __future__ import annotations

import json

import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from in_process import ITEMS, in_process_app

HUGE = "9" * 5_000


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ('{"hist_item": [[1], [2, true]]}', ["hist_item", 1, 1]),
        ('{"hist_item": [[1.0]]}', ["hist_item", 0, 0]),
        ('{"hist_item": [["1"]]}', ["hist_item", 0, 0]),
        ('{"hist_item": [[[1]]]}', ["hist_item", 0, 0]),
        ('{"hist_item": [[null]]}', ["hist_item", 0, 0]),
        ('{"hist_item": [[NaN]]}', ["hist_item", 0, 0]),
        ('{"hist_item": [[Infinity]]}', ["hist_item", 0, 0]),
        ('{"hist_item": [[9223372036854775808]]}', ["hist_item", 0, 0]),
        ('{"hist_item": [[-9223372036854775809]]}', ["hist_item", 0, 0]),
        ('{"hist_item": [1, 2]}', ["hist_item", 0]),
        ('{"hist_item": 1}', ["hist_item"]),
        ('{"top_k": 5}', ["hist_item"]),
        ('{"hist_item": [], "top_k": 0}', ["top_k"]),
        ('{"hist_item": [], "top_k": 1001}', ["top_k"]),
        ('{"hist_item": [], "top_k": true}', ["top_k"]),
        ('{"hist_item": [], "titles": 1}', ["titles"]),
        ('{"hist_item": [], "exclude": [1.5]}', ["exclude", 0]),
        ('{"hist_item": [], "histories": []}', ["histories"]),
        (f'{{"hist_item": [[{HUGE}]]}}', []),
        ("[" * 100_000, []),
        ("", []),
        ("[]", []),
        ('{"hist_item": "\\ud800"}', []),
    ],
)
def test_a_wrong_body_is_told_with_its_field(service, body, place):
    answer = service.http.post("/candidates", content=body)
    assert answer.status_code == 422, answer.text
    problem = answer.json()["detail"][0]
    assert problem["loc"] == ["body", *place]
    assert problem["msg"]


def test_the_value_is_told_too_and_cut_where_it_is_long(service):
    body = {"hist_item": [["x" * 10_000]], "top_k": "many"}
    first, second = service.http.post("/candidates", json=body).json()["detail"]
    assert first["given"] == repr("x" * 10_000)[:60]
    assert second["given"] == "'many'"


def test_many_wrong_fields_are_counted_instead_of_listed(service):
    body = {"hist_item": []} | {f"field{number}": 1 for number in range(50_000)}
    answer = service.http.post("/candidates", json=body)
    assert answer.status_code == 422
    assert "50,000 fields are wrong; known fields: hist_item, top_k" in answer.text
    wrong = {"hist_item": [["x"] * 9_000] * 60}
    assert len(service.http.post("/candidates", json=wrong).json()["detail"]) == 1


def test_limits_are_told():
    limits = {"max_users": 2, "max_history": 3, "max_top_k": 4, "max_body": 200}
    with in_process_app(**limits) as small:
        for body, text in (
            ({"hist_item": [[], [], []]}, "at most 2 users in a request"),
            ({"hist_item": [[], [1, 2, 3, 4]]}, "at most 3 ids of a user"),
            ({"hist_item": [[]], "exclude": [1, 2, 3, 4]}, "at most 3 ids"),
            ({"hist_item": [[]], "top_k": 5}, "at most 4 candidates"),
        ):
            answer = small.http.post("/candidates", json=body)
            assert answer.status_code == 422
            assert text in answer.text
        for content in (b" " * 201, iter([b" " * 150, b" " * 51])):  # with a length, and chunked
            answer = small.http.post("/candidates", content=content)
            assert answer.status_code == 413
            assert "above 200 bytes" in answer.text
        assert small.http.post("/candidates", content=b" " * 200).status_code == 422


def test_the_largest_requests_are_answered():
    with in_process_app(timeout=60.0) as large:
        found = large.candidates(*[[row % ITEMS + 1, row] for row in range(1_024)], top_k=20)
        assert found["source"] == ["model"] * 1_024
        found = large.candidates([1], top_k=1_000, exclude_history=False)
        assert len(found["candidates"][0]) == ITEMS  # the whole catalogue
        found = large.candidates(list(range(10_000)), [7], top_k=50)
        assert found["source"] == ["model", "model"]
        assert found["candidates"][0] == []  # all of the catalogue was clicked
        assert list(map(len, found["unknown"])) == [10_000 - ITEMS, 0]


ids = st.one_of(
    st.integers(),
    st.integers(-5, ITEMS + 10),
    st.booleans(),
    st.floats(),
    st.none(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)
histories = st.lists(st.lists(st.integers(-5, ITEMS + 10), max_size=60), max_size=5)
bodies = st.fixed_dictionaries(
    {"hist_item": histories | st.lists(st.lists(ids, max_size=4) | ids, max_size=4)},
    optional={
        "top_k": st.integers(1, 1_000) | ids,
        "exclude": st.lists(st.integers(1, ITEMS), max_size=9) | ids,
        "exclude_history": st.booleans() | ids,
        "titles": st.booleans() | ids,
    },
)


def _is_good(body) -> bool:
    def whole(value) -> bool:
        return type(value) is int and -(2**63) <= value < 2**63

    rows, excluded = body["hist_item"], body.get("exclude", [])
    return (
        all(type(row) is list and all(map(whole, row)) for row in rows)
        and type(excluded) is list
        and all(map(whole, excluded))
        and whole(body.get("top_k", 1))
        and 1 <= body.get("top_k", 1) <= 1_000
        and all(type(body.get(name, True)) is bool for name in ("exclude_history", "titles"))
    )


@fuzzed(0.75)
@given(body=bodies)
def test_generated_requests_are_answered_or_refused_and_never_fail(service, body):
    answer = service.http.post("/candidates", content=json.dumps(body))
    assert answer.status_code == (200 if _is_good(body) else 422), answer.text
    if answer.status_code == 422:
        return
    found, top_k = answer.json(), body.get("top_k", 50)
    users = len(body["hist_item"])
    assert {len(found[name]) for name in ("candidates", "scores", "interest", "source")} == {users}
    for row, history in zip(found["candidates"], body["hist_item"], strict=True):
        left_out = set(body.get("exclude", []))
        left_out |= set(history) if body.get("exclude_history", True) else set()
        assert len(row) == len(set(row)) == min(top_k, len(set(range(1, ITEMS + 1)) - left_out))
        assert not set(row) & left_out


@fuzzed(0.5)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_refused_and_never_fail(service, body):
    assert service.http.post("/candidates", content=body).status_code == 422
