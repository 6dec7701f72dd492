# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Items that come, change and go while the service runs."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from in_process import CATEGORIES, ITEMS, in_process_app
from running_service import Running

from paddlerec_milvus.errors import RefusedError, RetrievalError

NEW = 2**63 - 1  # no item of the model
RETRY = "1"  # seconds, the next whole one after the tests' 0.2


def vector_for(service: Running, history: list[int]) -> list[float]:
    """The vector of an item that a user of ``history`` gets first: its last interest."""
    answering = service.service.current
    assert answering is not None
    histories = np.zeros((1, answering.model.tower.maxlen), np.int64)
    histories[0, : len(history)] = history
    lengths = np.array([len(history)], np.int64)
    (interests,) = answering.model.tower.interests(histories, lengths)
    vector: list[float] = interests[-1].tolist()
    return vector


def put(service: Running, *items: dict[str, Any], **others: Any) -> dict[str, Any]:
    answer = service.http.post("/items", json={"items": list(items), **others})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def first(service: Running, history: list[int]) -> int:
    found = service.candidates(history, top_k=5, consistency="Strong")
    best: int = found["candidates"][0][0]
    return best


def count(service: Running) -> int:
    found: int = service.http.get("/count").json()["count"]
    return found


def test_an_item_that_is_put_is_found_and_one_that_is_deleted_is_not(shop):
    vector, checkpoint = vector_for(shop, [3, 7]), shop.http.get("/readyz").json()["checkpoint"]
    assert first(shop, [3, 7]) != NEW
    answer = put(shop, {"id": NEW, "vector": vector, "category": "fresh"}, checkpoint=checkpoint)
    assert answer == {"upserted": 1, "checkpoint": checkpoint}
    assert first(shop, [3, 7]) == NEW
    assert count(shop) == ITEMS + 1

    for _ in range(2):
        answer = shop.http.delete(f"/items/{NEW}")
        assert answer.status_code == 200
        assert answer.json() == {"deleted": NEW}
    assert first(shop, [3, 7]) != NEW
    assert count(shop) == ITEMS


def test_the_vector_of_an_item_of_the_model_can_change(shop):
    vector, far = vector_for(shop, [3, 7]), first(shop, [3, 7]) % ITEMS + 1
    put(shop, {"id": far, "vector": vector})
    assert first(shop, [3, 7]) == far
    assert count(shop) == ITEMS
    assert shop.ready()[0] == 200


def test_an_item_keeps_the_category_of_the_catalogue_unless_it_brings_one(shop, index):
    vector = vector_for(shop, [3, 7])
    put(
        shop,
        *({"id": 5, "vector": vector}, {"id": NEW, "vector": vector}),
        *({"id": 6, "vector": vector, "category": "new"}, {"id": 8, "vector": vector}),
    )
    expected = {5: CATEGORIES[5], 6: "new", 8: CATEGORIES[8], NEW: ""}
    assert {item: index.categories[item] for item in expected} == expected
    found = shop.candidates([3, 7], filter={"category": ["new"]}, consistency="Strong")
    assert found["candidates"] == [[6]]


def wrong_items(vector: list[float]) -> dict[str, Any]:
    good = {"id": 7, "vector": vector}
    return {
        "short": {"items": [good | {"vector": vector[:-1]}]},
        "long": {"items": [good | {"vector": [*vector, 0.0]}]},
        "empty": {"items": [good | {"vector": []}]},
        "nan": {"items": [good | {"vector": [math.nan, *vector[1:]]}]},
        "infinite": {"items": [good | {"vector": [-math.inf, *vector[1:]]}]},
        "huge": {"items": [good | {"vector": [1e300, *vector[1:]]}]},
        "length": {"items": [good | {"vector": [2 * value for value in vector]}]},
        "zero": {"items": [good | {"vector": [0.0] * len(vector)}]},
        "words": {"items": [good | {"vector": ["1"] * len(vector)}]},
        "nested": {"items": [good | {"vector": [vector]}]},
        "id 0": {"items": [good | {"id": 0}]},
        "id 2^63": {"items": [good | {"id": 2**63}]},
        "id huge": {"items": [good | {"id": 10**400}]},
        "id float": {"items": [good | {"id": 7.5}]},
        "id word": {"items": [good | {"id": "7"}]},
        "twice": {"items": [good, good]},
        "category": {"items": [good | {"category": "ä" * 129}]},
        "nothing": {"items": [{"id": 7}]},
        "both": {"items": [good | {"features": {"category": "a"}}]},
        "no items": {"items": []},
        "too many": {"items": [{"id": 1 + place, "vector": [1.0]} for place in range(1_001)]},
        "unknown field": {"items": [good | {"titel": "a"}]},
        "unknown part": {"items": [good], "checkpiont": "a"},
        "a list": [good],
    }


@pytest.mark.parametrize("name", wrong_items([]))
def test_what_cannot_be_stored_is_refused_whole(service, name):
    vector = vector_for(service, [3, 7])
    body = wrong_items(vector)[name]
    if isinstance(body, dict) and name not in ("too many", "no items"):
        body["items"] = [{"id": NEW, "vector": vector}, *body["items"]]
    answer = service.http.post("/items", content=json.dumps(body))
    assert answer.status_code == 422
    (found,) = answer.json()["detail"]
    assert found["loc"][0] == "body"
    assert len(answer.text) < 1_000
    assert count(service) == ITEMS


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"items": "\\ud800"}', b"[" * 10_000])
def test_a_body_that_is_no_json_is_refused(service, content):
    assert service.http.post("/items", content=content).status_code == 422


@pytest.mark.parametrize("item", ["0", "-1", str(2**63), "9" * 5_000, "x", "1.5", "%00"])
def test_an_id_that_is_none_is_refused(service, item):
    assert service.http.delete(f"/items/{item}").status_code == 422
    assert count(service) == ITEMS


def test_vectors_of_another_model_are_refused(service):
    vector = vector_for(service, [3])
    body = {"items": [{"id": 7, "vector": vector}], "checkpoint": "0123456789abcdef"}
    answer = service.http.post("/items", json=body)
    assert answer.status_code == 409
    assert "0123456789abcdef" in answer.json()["detail"]


def test_features_are_refused_where_the_data_has_none(service):
    body = {"items": [{"id": NEW, "features": {"category": "c1"}}]}
    answer = service.http.post("/items", json=body)
    assert answer.status_code == 422
    assert "the data has no item features" in answer.json()["detail"][0]["msg"]
    assert count(service) == ITEMS


def test_a_body_above_the_limit_is_refused():
    with in_process_app(max_body=1_000) as service:
        body = {"items": [{"id": 7, "vector": [0.5] * 400}]}
        assert service.http.post("/items", json=body).status_code == 413


def test_a_milvus_that_cannot_just_now_is_worth_another_try(shop, monkeypatch):
    """503 with Retry-After; what it refuses for good is 409."""
    writable = shop.service.current.writable
    item = {"id": NEW, "vector": vector_for(shop, [3, 7])}
    for error, status in ((RetrievalError("busy"), 503), (RefusedError("no such index"), 409)):

        def fail(*arguments: Any, error: Exception = error, **options: Any) -> int:
            raise error

        monkeypatch.setattr(writable, "upsert", fail)
        answer = shop.http.post("/items", json={"items": [item]})
        assert answer.status_code == status
        assert answer.headers.get("Retry-After", "") == ("" if status == 409 else RETRY)
    monkeypatch.setattr(shop.service.deployment, "count", fail)
    answer = shop.http.get("/count")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, RETRY)
