# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The calls as they were once described can still be sent, and are answered as described."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import Any

import pytest
from openapi_changes import KEPT, breaking_changes, description

BODY = ("paths", "/candidates", "post", "requestBody", "content", "application/json", "schema")
QUERY = ("paths", "/users/{user}/candidates", "get", "parameters")
ANSWER = ("components", "schemas", "CandidatesAnswer")
REMOVED = object()


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    return document


def test_no_caller_is_broken(kept):
    """What is new passes; ``make openapi`` keeps it from then on.

    A change that must break callers is one of a major version, and is said in CHANGELOG.md.
    """
    assert breaking_changes(kept, description()) == []


def changed(document: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at ``place``."""
    copy = deepcopy(document)
    *way, last = place
    inner: Any = copy
    for step in way:
        inner = inner[step]
    if value is REMOVED:
        del inner[last]
    else:
        inner[last] = value
    return copy


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("paths", "/candidates"), REMOVED, "POST /candidates: removed"),
        (("paths", "/count", "get"), REMOVED, "GET /count: removed"),
        ((*BODY, "properties", "quota"), REMOVED, "body.quota: removed"),
        ((*BODY, "required"), ["hist_item", "quota"], "body.quota: required now"),
        ((*BODY, "properties", "top_k", "type"), "string", "top_k: was integer, is string"),
        ((*BODY, "properties", "top_k", "maximum"), 100, "top_k: maximum was None, is 100"),
        ((*BODY, "properties", "top_k", "minimum"), 2, r"top_k: minimum was 1\.0, is 2"),
        ((*BODY, "properties", "top_k", "default"), 20, "top_k: default was 50, is 20"),
        ((*BODY, "properties", "diversity", "type"), "integer", "was number, is integer"),
        ((*BODY, "properties", "quota", "anyOf", 1), {"type": "string"}, "quota: was null"),
        ((*BODY, "properties", "exclude", "items", "type"), "string", r"exclude\[\]: was integer"),
        (
            (*BODY, "properties", "filter", "anyOf", 0, "properties", "category", "maxItems"),
            9,
            "1000",
        ),
        (
            (*BODY, "properties", "consistency", "anyOf", 0, "enum"),
            ["Strong"],
            r"consistency: was one of \['Strong', 'Bounded'\], is one of \['Strong'\]",
        ),
        ((*BODY[:4], "content"), {"text/plain": {}}, "body application/json: removed"),
        ((*QUERY, 2), REMOVED, "query exclude_history: removed"),
        ((*QUERY, 1, "required"), True, "query top_k: required now"),
        ((*QUERY, 1, "schema", "minimum"), 5, "query top_k: minimum was 1, is 5"),
        ((*ANSWER, "properties", "scores"), REMOVED, "200.scores: removed"),
        ((*ANSWER, "properties", "source", "type"), "string", "200.source: was array, is string"),
        ((*ANSWER, "required"), [], "200.candidates: may be missing"),
        (
            (*ANSWER, "properties", "candidates", "items", "items"),
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            r"200.candidates\[\]\[\]: was integer, is null",
        ),
        (("components", "schemas", "TitledItem", "properties", "id"), REMOVED, "id: removed"),
        (("paths", "/readyz", "get", "responses", "503"), REMOVED, "GET /readyz 503: removed"),
    ],
)
def test_what_breaks_a_caller_is_seen(kept, place, value, problem):
    found = breaking_changes(kept, changed(kept, place, value))
    assert any(re.search(problem, one) for one in found), found


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("paths", "/new"), {"get": {"responses": {}}}),
        (("paths", "/titles", "head"), {"responses": {}}),
        ((*BODY, "properties", "new"), {"type": "integer"}),
        ((*BODY, "properties", "top_k", "minimum"), 0),
        ((*BODY, "properties", "top_k", "type"), "number"),
        ((*BODY, "properties", "quota", "anyOf", 0, "minimum"), REMOVED),
        (
            (*BODY, "properties", "consistency", "anyOf", 0, "enum"),
            ["Strong", "Bounded", "Session"],
        ),
        ((*BODY[:5], "text/csv"), {"schema": {}}),
        ((*QUERY[:-1], "responses", "429"), {"description": "slower"}),
        ((*ANSWER, "properties", "new"), {"type": "string"}),
        ((*ANSWER, "properties", "source", "items", "enum"), ["model", "popular", "ranked"]),
        ((*ANSWER, "properties", "titles", "anyOf"), [{"type": "null"}]),
        ((*ANSWER, "description"), "Other words."),
    ],
)
def test_what_is_added_or_loosened_breaks_nobody(kept, place, value):
    assert breaking_changes(kept, changed(kept, place, value)) == []
