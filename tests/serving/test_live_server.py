# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Items and users that change on a real Milvus server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from running_service import Running, running

from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.exact import normalised
from paddlerec_milvus.serving.settings import ServiceSettings

pytestmark = pytest.mark.server

CHANGES, BATCH = 10_000, 250
numbers = itertools.count(1)


@pytest.fixture
def settings(server, make_settings) -> Iterator[ServiceSettings]:
    """Of a service with collections of its own; those of users are dropped in the end."""
    collection = f"live_{next(numbers)}"
    yield make_settings(f"milvus.uri={server.uri}", f"milvus.collection={collection}")
    connection = Connection(server.uri)
    for name in connection.call("list_collections"):
        if name.startswith(f"{collection}_users"):
            connection.call("drop_collection", name)
    connection.close()


@pytest.fixture
def shop(settings) -> Iterator[Running]:
    """One with vectors."""
    with running(settings) as started:
        assert started.http.post("/insert").status_code == 200
        yield started
        started.http.post("/delete")


@pytest.mark.slow
def test_the_count_is_exact_after_ten_thousand_changes(shop):
    """Inserts, upserts and deletes at random; beside them a dict of what must be there."""
    random = np.random.default_rng(6)
    dimension = shop.service.model.tower.dimension
    expected = dict.fromkeys(range(1, 301))
    changes = {"insert": 0, "upsert": 0, "delete": 0}
    while sum(changes.values()) < CHANGES:
        for item in random.choice(list(expected), 40, replace=False).tolist():
            assert shop.http.delete(f"/items/{item}").status_code == 200
            del expected[item]
            changes["delete"] += 1
        ids = np.unique(random.integers(1, 4_000, BATCH))
        vectors = normalised(random.standard_normal((len(ids), dimension), dtype=np.float32))
        items = [
            {"id": item, "vector": vector, "category": f"c{item % 7}"}
            for item, vector in zip(ids.tolist(), vectors.tolist(), strict=True)
        ]
        assert shop.http.post("/items", json={"items": items}).json()["upserted"] == len(ids)
        known = sum(item in expected for item in ids.tolist())
        changes["upsert"] += known
        changes["insert"] += len(ids) - known
        expected |= dict(zip(ids.tolist(), vectors, strict=True))
        if sum(changes.values()) % 2_000 < BATCH:
            assert shop.http.get("/count").json()["count"] == len(expected)
    assert shop.http.get("/count").json()["count"] == len(expected)
    assert min(changes.values()) > 1_000
    put = {item: vector for item, vector in expected.items() if vector is not None}
    retriever = shop.service.current.retriever
    np.testing.assert_allclose(retriever.vectors(list(put)), list(put.values()), atol=1e-6)
    everything = retriever.search(vectors[:1], len(expected) + 100, consistency="Strong").ids[0]
    assert sorted(everything[everything > 0].tolist()) == sorted(expected)


@pytest.mark.slow
def test_users_of_a_server_are_those_of_lite(settings, service):
    """Clicks are used at once, without waiting for a Strong search, and outlive the service."""
    histories = {user: [user, 2 * user, 3 * user + 7] for user in range(1, 11)}
    expected = service.candidates(*histories.values(), top_k=20)["candidates"]
    with running(settings) as shop:
        assert shop.http.post("/insert").status_code == 200
        for (user, history), ours in zip(histories.items(), expected, strict=True):
            for item in history:
                answer = shop.http.post(f"/users/{user}/events", json={"items": [item]})
                assert answer.status_code == 200, answer.text
            found = shop.http.get(f"/users/{user}/candidates", params={"top_k": 20}).json()
            assert found["source"] == ["model"]
            assert found["candidates"] == [ours]
    with running(settings) as again:
        for user, ours in zip(histories, expected, strict=True):
            params = {"top_k": 20, "consistency": "Strong"}
            found = again.http.get(f"/users/{user}/candidates", params=params).json()
            assert found["candidates"] == [ours]
        again.http.post("/delete")


def test_an_item_that_is_put_is_found_by_a_strong_search(shop):
    new, params = 2**62, {"consistency": "Strong", "top_k": 5}
    shop.http.post("/users/3/events", json={"items": [7]})
    vector = shop.service.users._cache[3].state.interests[0].tolist()
    for _ in range(5):
        answer = shop.http.post("/items", json={"items": [{"id": new, "vector": vector}]})
        assert answer.status_code == 200, answer.text
        found = shop.http.get("/users/3/candidates", params=params).json()
        assert found["candidates"][0][0] == new
        assert shop.http.delete(f"/items/{new}").status_code == 200
        found = shop.http.get("/users/3/candidates", params=params).json()
        assert new not in found["candidates"][0]
