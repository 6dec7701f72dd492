# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Every example of /openapi.json, which "Try it out" at /docs sends, is answered with success."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from in_process import ITEMS, SmallIndex, TinyEncoder, in_process_app
from running_service import Running


class Example(NamedTuple):
    method: str
    path: str
    body: Any
    """None: the call takes none."""


def examples_of(schema: dict[str, Any]) -> Iterator[Example]:
    """All, in an order in which each can be answered: what deletes everything comes last."""
    paths = sorted(schema["paths"], key=lambda path: path.endswith("/delete"))
    for path in paths:
        for method, operation in schema["paths"][path].items():
            where = path.format(**path_examples(operation))
            for body in bodies_of(operation):
                yield Example(method.upper(), where, body)


def path_examples(operation: dict[str, Any]) -> dict[str, Any]:
    given = operation.get("parameters", [])
    return {each["name"]: each["example"] for each in given if each["in"] == "path"}


def bodies_of(operation: dict[str, Any]) -> list[Any]:
    if "requestBody" not in operation:
        return [None]
    found: list[Any] = operation["requestBody"]["content"]["application/json"]["schema"]["examples"]
    return found


def described(service: Running) -> dict[str, Any]:
    schema: dict[str, Any] = service.http.get("/openapi.json").json()
    return schema


def test_every_example_can_be_tried_out(shop):
    sent = list(examples_of(described(shop)))
    calls = {(example.method, example.path) for example in sent}
    assert {("POST", "/insert"), ("POST", "/rollback"), ("POST", "/items")} < calls
    new = f"/items/{ITEMS + 1}"
    assert {("DELETE", new), ("POST", "/users/7/events"), ("DELETE", "/users/7")} < calls
    for method, path, body in sent:
        answer = shop.http.request(method, path, json=body)
        if path in NEED_MILVUS:
            assert (answer.status_code, body) == (409, None)
            assert "without Milvus" in answer.json()["detail"]
        else:
            assert answer.status_code == 200, (method, path, answer.text)


NEED_MILVUS = ("/insert", "/rollback", "/delete")


def test_the_example_of_items_is_of_the_model_that_serves():
    encoder = TinyEncoder(dimension=16)
    with in_process_app(SmallIndex(encoder.item_vectors()), encoder) as service:
        (body,) = bodies_of(described(service)["paths"]["/items"]["post"])
        (item,) = body["items"]
        assert item["id"] == ITEMS + 1  # no item of the model's is written over
        assert len(item["vector"]) == 16
        assert np.linalg.norm(item["vector"]) == pytest.approx(1, abs=1e-4)
        assert service.http.post("/items", json=body).json()["upserted"] == 1
        assert service.http.get("/count").json()["count"] == ITEMS + 1
