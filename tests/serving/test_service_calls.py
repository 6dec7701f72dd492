# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The four calls and what a list holds."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.id_map import IdMap
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.serving.candidates import popular_items
from paddlerec_milvus.serving.item_ids import ItemIds
from paddlerec_milvus.serving.schemas import CandidatesRequest
from paddlerec_milvus.serving.validation import user_batch
from paddlerec_milvus.zoo import ModelFolder

ITEMS = 300


def test_the_four_calls_in_the_order_of_the_article(empty):
    assert empty.http.post("/count").json()["count"] == 0
    inserted = empty.http.post("/insert").json()
    assert inserted["inserted"] == ITEMS
    assert inserted["collection"] == "mind_items"
    assert empty.http.get("/count").json() == empty.http.post("/count").json()
    assert empty.http.get("/count").json()["count"] == ITEMS

    found = empty.http.post(
        "/candidates", json={"top_k": 50, "hist_item": [[43, 23, 65], [275, 56]]}
    ).json()
    assert [len(row) for row in found["candidates"]] == [50, 50]
    assert found["source"] == ["model", "model"]

    assert empty.http.post("/delete").json() == {"deleted": ITEMS}
    assert empty.http.get("/count").json()["count"] == 0
    assert empty.http.delete("/delete").json() == {"deleted": 0}


@pytest.fixture(scope="module")
def offline(service, trained):
    """Encoder, exact retriever and held-out users of the same checkpoint."""
    settings = service.service.settings
    encoder = Encoder(settings.model, ModelFolder(settings.model.model_dir))
    encoder.load(trained.checkpoints / "0")
    vectors = encoder.item_vectors()
    exact = ExactRetriever(vectors[1:], np.arange(1, len(vectors)))
    users = read_held_out(trained.data / "test")
    return encoder, exact, users


@pytest.mark.parametrize("exclude", [True, False])
def test_online_lists_are_the_offline_ones(service, offline, exclude):
    encoder, exact, users = offline
    histories = users.history_list()[:30]
    padded, lengths = (array[:30] for array in users.histories(encoder.maxlen))
    expected = search_users(
        exact, encoder.interests(padded, lengths), 40, histories if exclude else None
    )
    asked = [history.tolist() for history in histories]
    found = service.candidates(*asked, top_k=40, exclude_history=exclude)
    assert found["candidates"] == expected.ids.tolist()
    assert found["interest"] == expected.interests.tolist()
    np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-6)
    assert found["source"] == ["model"] * 30
    alone = [service.candidates(each, top_k=40, exclude_history=exclude) for each in asked[:5]]
    assert [each["candidates"][0] for each in alone] == found["candidates"][:5]


def test_the_history_and_what_is_excluded_stay_out_and_the_list_is_full(service):
    history = list(range(1, 101))
    excluded = list(range(101, 200))
    found = service.candidates(history, [5], top_k=30, exclude=excluded)
    for row in found["candidates"]:
        assert len(set(row)) == 30
        assert not set(row) & set(excluded)
    assert not set(found["candidates"][0]) & set(history)  # the whole, not the last 20 of it
    with_history = service.candidates(history, top_k=300, exclude_history=False)
    assert sorted(with_history["candidates"][0]) == list(range(1, ITEMS + 1))


def test_only_the_last_known_clicks_make_the_interests(service):
    last = list(range(30, 50))  # maxlen is 20
    whole = service.candidates([*range(1, 30), *last, 999_999], exclude_history=False)
    assert whole["candidates"] == service.candidates(last, exclude_history=False)["candidates"]
    assert whole["unknown"] == [[999_999]]


def test_users_without_a_known_item_get_popular_ones(service):
    found = service.candidates([], [0, -5, 301, 2**63 - 1], [7], top_k=5, exclude=[2, 4])
    assert found["candidates"][:2] == [[1, 3, 5, 6, 7]] * 2
    assert found["scores"][:2] == found["interest"][:2] == [[None] * 5] * 2
    assert found["source"] == ["popular", "popular", "model"]
    assert found["unknown"] == [[], [0, -5, 301, 2**63 - 1], []]
    assert service.candidates(top_k=5)["candidates"] == []


@pytest.mark.parametrize(
    ("top_k", "exclude", "items", "expected"),
    [
        (3, set(), range(1, 10), [1, 2, 3]),
        (3, {1, 3}, range(1, 10), [2, 4, 5]),
        (9, {2}, range(1, 5), [1, 3, 4]),
        (2, {1, 2, 3, 4}, range(1, 5), []),
        (2, {4}, np.array([2, 4, 8, 9]), [2, 8]),
    ],
)
def test_popular_items_are_the_first_that_may_come(top_k, exclude, items, expected):
    assert popular_items(top_k, exclude, items) == expected


def test_what_all_users_exclude_is_held_once():
    request = CandidatesRequest[int](hist_item=[[1, 2], [3]], exclude=[2, 9])
    first, second = user_batch(request, 20, Catalogue(ITEMS), ItemIds(IdMap(), ITEMS)).exclude
    assert (set(first), len(first), set(second)) == ({1, 2, 9}, 3, {2, 3, 9})
    assert first & {1, 3, 9} == {1, 9}
    assert first._shared is second._shared


def test_titles_come_beside_the_ids_when_asked_for(service, trained):
    lines = (trained.data / "items.csv").read_text().splitlines()
    first = lines[1].split(",", 2)[2].rpartition(",")[0].strip('"')
    assert service.candidates([], top_k=1, titles=True)["titles"] == [[first]]
    assert service.candidates([], top_k=1)["titles"] is None


def test_examples_of_the_documentation_work(service):
    described = service.http.get("/openapi.json").json()
    assert service.http.get("/docs").status_code == 200
    schema = described["paths"]["/candidates"]["post"]["requestBody"]["content"]
    for example in schema["application/json"]["schema"]["examples"]:
        assert service.http.post("/candidates", json=example).status_code == 200
    calls = {(path, method) for path, each in described["paths"].items() for method in each}
    assert calls >= {
        *(("/insert", "post"), ("/candidates", "post"), ("/count", "post"), ("/count", "get")),
        *(("/delete", "post"), ("/delete", "delete"), ("/healthz", "get"), ("/readyz", "get")),
    }


@pytest.mark.slow
def test_requests_leave_nothing_behind(service):
    # what pytest keeps of their log are no lists; what paddle.to_tensor leaks is one each time
    def lists_after(requests: int) -> int:
        for _ in range(requests):
            service.candidates([3, 4], [5])
        gc.collect()
        return sum(isinstance(each, list) for each in gc.get_objects())

    kept = lists_after(50)
    assert lists_after(200) - kept < 100


def test_the_garbage_collector_leaves_out_the_model_and_its_libraries(service):
    assert service.candidates([3])["source"] == ["model"]
    assert gc.get_freeze_count() > len(gc.get_objects())
