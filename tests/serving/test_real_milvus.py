# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a real Milvus alone shows of the calls: its versions, filters, consistency and limits."""

from __future__ import annotations

import numpy as np
import pytest
from running_service import ADMIN, KEYS, READER, WRITER, Running, running

from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving import Client
from paddlerec_milvus.serving.candidates import category_filter
from paddlerec_milvus.serving.client import ServiceError

ITEMS = 300
NEW = 2**63 - 1  # no item of the model
HISTORIES = [[43, 23, 65], [275, 56], [7, 8, 9, 10, 11], [120]]


def test_the_client_inserts_goes_back_and_deletes(empty):
    with Client(empty.url, timeout=30) as client:
        first = client.insert()
        assert first.inserted == client.count() == ITEMS
        histories = np.array([[43, 23], [1, 2]])
        found = client.candidates(histories, 7, exclude=[9], titles=True, exclude_history=False)
        assert [len(row) for row in found.candidates] == [7, 7]
        assert found.source == ["model", "model"]

        with pytest.raises(ServiceError, match="/rollback"):
            client.rollback()
        client.insert()
        assert client.rollback().checkpoint == first.checkpoint
        assert client.count() == ITEMS
        assert client.delete() == ITEMS


def test_versions_change_with_the_right_key_alone(make_settings):
    with running(make_settings(keys=KEYS)) as guarded:

        def status(method: str, path: str, key: str | None) -> int:
            headers = {} if key is None else {"X-API-Key": key}
            return guarded.http.request(method, path, headers=headers).status_code

        def serving() -> tuple[str, object]:
            guarded.service.refresh()  # follows the alias, had it been switched
            count = guarded.http.get("/count", headers={"X-API-Key": READER}).json()
            return guarded.service.current.version.name, count

        for _ in range(2):
            assert status("POST", "/insert", WRITER) == 200
        before = serving()
        for key, refusal in (
            (None, 401),
            ("", 401),
            ("nobody", 401),
            (ADMIN[:-1], 401),
            (READER, 403),
        ):
            for call in SWITCHING:
                assert status(*call, key) == refusal, call
        for call in ADMINS:
            assert status(*call, WRITER) == 403, call
        assert serving() == before

        assert status("POST", "/rollback", ADMIN) == 200
        assert serving()[0] != before[0]
        assert status("POST", "/delete", ADMIN) == 200
        assert guarded.http.get("/count", headers={"X-API-Key": READER}).json()["count"] == 0
        assert status("DELETE", "/delete", ADMIN) == 200


ADMINS = (("POST", "/rollback"), ("POST", "/delete"), ("DELETE", "/delete"))
SWITCHING = (("POST", "/insert"), *ADMINS)


def test_items_change_until_the_next_insert(empty):
    tower = empty.service.model.tower
    vector = [1.0] + [0.0] * (tower.dimension - 1)
    body = {"items": [{"id": 7, "vector": vector}]}
    answer = empty.http.post("/items", json=body)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "no item vectors are stored: POST /insert"
    assert empty.http.delete("/items/7").status_code == 503

    assert empty.http.post("/insert", headers={"Origin": empty.url}).status_code == 200
    histories = np.array([[3] + [0] * (tower.maxlen - 1)])
    vector = tower.interests(histories, np.ones(1, np.int64))[0, 0].tolist()
    before = best(empty)
    changed = before % ITEMS + 1
    items = [{"id": changed, "vector": vector}, {"id": NEW, "vector": vector, "category": "new"}]
    assert empty.http.post("/items", json={"items": items}).json()["upserted"] == 2
    own = empty.service.model.catalogue.categories[changed]
    assert best(empty, filter={"category": [own]}) == changed
    assert best(empty, filter={"category": ["new"]}) == NEW
    assert empty.http.get("/count").json()["count"] == ITEMS + 1
    assert empty.ready()[0] == 200
    assert empty.http.delete(f"/items/{NEW}").json() == {"deleted": NEW}
    assert best(empty) == changed
    assert empty.http.post("/insert").status_code == 200
    assert best(empty) == before


def best(service: Running, **options: object) -> int:
    found = service.candidates([3], top_k=1, consistency="Strong", **options)
    item: int = found["candidates"][0][0]
    return item


def test_features_are_refused_by_a_model_without_them(service):
    body = {"items": [{"id": NEW, "features": {"category": "c1"}}]}
    answer = service.http.post("/items", json=body)
    assert answer.status_code == 422
    assert "trained without item features" in answer.json()["detail"][0]["msg"]
    assert service.http.get("/count").json()["count"] == ITEMS


def test_a_filter_lets_only_its_categories_through(service):
    categories = service.service.model.catalogue.categories
    names = sorted(set(categories.values()))
    whole = service.candidates(*HISTORIES, top_k=ITEMS)
    for allowed in (names[:1], [*names[1:3], "no such category"], names):
        found = service.candidates(*HISTORIES, top_k=ITEMS, filter={"category": allowed})
        assert found["source"] == ["model"] * len(HISTORIES)
        for row, every in zip(found["candidates"], whole["candidates"], strict=True):
            assert row == [item for item in every if categories[item] in allowed]


@pytest.mark.parametrize("consistency", ["Strong", "Bounded", None])
def test_a_consistency_may_be_chosen(service, consistency):
    found = service.candidates(*HISTORIES, consistency=consistency)
    assert found["source"] == ["model"] * len(HISTORIES)
    assert found["candidates"] == service.candidates(*HISTORIES)["candidates"]


@pytest.mark.slow
def test_the_largest_requests_are_answered_by_milvus(make_settings):
    with running(make_settings(timeout=60.0)) as large:
        large.http.timeout = 90.0
        assert large.http.post("/insert").status_code == 200
        found = large.candidates(*[[row % 299 + 1, row] for row in range(1_024)], top_k=20)
        assert found["source"] == ["model"] * 1_024
        found = large.candidates([1], top_k=1_000, exclude_history=False)
        assert len(found["candidates"][0]) == ITEMS
        found = large.candidates(list(range(10_000)), [7], top_k=50)
        assert found["source"] == ["model", "model"]
        assert found["candidates"][0] == []
        assert list(map(len, found["unknown"])) == [10_000 - ITEMS, 0]


ODD = [
    'a"b',
    "a'b",
    "a\\",
    '\\"',
    "two\nlines\r",
    "tab\t",
    "中文",
    "👾",
    '" or item > 0 or category == "',
    "\\u0041",
    "%_*",
    "{x}",
]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["lite", pytest.param("server", marks=pytest.mark.server)])
def test_names_of_categories_are_taken_as_they_are(where, tmp_path, request):
    real = where == "server"
    uri = request.getfixturevalue("server").uri if real else str(tmp_path / "milvus.db")
    ids = np.arange(1, len(ODD) + 1)
    with MilvusRetriever(uri, "odd_categories") as retriever:
        retriever.versions.build(np.eye(len(ODD), dtype=np.float32), ids, ODD)
        query = np.ones((1, len(ODD)), np.float32)
        for number, name in zip(ids, ODD, strict=True):
            expression = category_filter([name])
            found = retriever.search(query, len(ODD), filter=expression, consistency="Strong")
            assert found.ids[found.ids > 0].tolist() == [number], name
        expression = category_filter(ODD)
        every = retriever.search(query, len(ODD), filter=expression, consistency="Strong")
        assert sorted(every.ids[0].tolist()) == ids.tolist()
        many = category_filter(f"{'c' * 250}{number}" for number in range(1_000))
        assert (retriever.search(query, 3, filter=many).ids == -1).all()
        retriever.versions.drop()
