# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Why an item is a candidate, other lists beside the one that is served, and categories."""

from __future__ import annotations

import numpy as np
import pytest
from in_process import CATEGORIES, ITEMS, TITLES, SmallIndex, TinyEncoder, in_process_app
from running_service import Running

from paddlerec_milvus.data.catalogue import Catalogue, ItemDetails
from paddlerec_milvus.data.id_map import IdMap
from paddlerec_milvus.retrieval.indexes import Hnsw
from paddlerec_milvus.serving import alternatives

HISTORY = [3, 7, 12]
VECTORS = TinyEncoder().item_vectors()


def post(service: Running, path: str, **body: object):
    return service.http.post(path, json=body)


def test_an_explanation_is_what_numpy_says(service: Running):
    found = service.candidates(HISTORY)
    interests = TinyEncoder().interests(np.array([[*HISTORY, 0, 0]]), np.array([3]))[0]
    for item, interest, score in zip(
        found["candidates"][0][:5], found["interest"][0], found["scores"][0], strict=False
    ):
        answer = post(service, "/explain", hist_item=HISTORY, item=item).json()
        assert answer["item"] == item
        assert answer["interest"] == interest
        assert answer["scores"] == pytest.approx((interests @ VECTORS[item]).tolist(), abs=1e-6)
        assert answer["scores"][interest] == pytest.approx(score, abs=1e-6)
        cosines = {click: float(VECTORS[click] @ VECTORS[item]) for click in HISTORY}
        clicks = sorted(HISTORY, key=lambda click: -cosines[click])
        assert [click["id"] for click in answer["clicks"]] == clicks
        for click in answer["clicks"]:
            assert click["title"] == TITLES[click["id"]]
            assert click["similarity"] == pytest.approx(cosines[click["id"]], abs=1e-6)
            assert click["interest"] == int(np.argmax(interests @ VECTORS[click["id"]]))


def test_an_explanation_without_clicks_and_of_no_item(service: Running):
    answer = post(service, "/explain", hist_item=[10**6], item=5).json()
    assert answer == {"item": 5, "interest": None, "scores": [], "clicks": [], "unknown": [10**6]}
    assert post(service, "/explain", hist_item=HISTORY, item=10**6).status_code == 404
    wrong = post(service, "/explain", hist_item=HISTORY, item="5")
    assert wrong.json()["detail"][0]["msg"] == 'ids of items are integers here: send 5, not "5"'
    assert post(service, "/explain", hist_item=[1] * 10_001, item=5).status_code == 422


def test_explanations_speak_the_ids_of_the_log():
    own = [f"b{item}" for item in range(1, ITEMS + 1)]
    with in_process_app(item_ids=IdMap("string", own)) as service:
        answer = post(service, "/explain", hist_item=["b3", "b7", "x"], item="b12").json()
    assert {click["id"] for click in answer["clicks"]} == {"b3", "b7"}
    assert answer["unknown"] == ["x"]


def test_exact_search_and_popular_items_as_alternatives(service: Running):
    assert service.http.get("/alternatives").json() == {
        "before": None,
        "is_exact": True,
        "search": {},
    }
    options = {"top_k": 8, "filter": {"category": ["games"]}, "titles": True, "nearest": True}
    live = service.candidates(HISTORY, **options)
    exact = post(service, "/alternatives", hist_item=[HISTORY], by="exact", **options).json()
    assert exact.pop("whose")["index"] == "exact"
    assert exact == live
    popular = post(service, "/alternatives", hist_item=[HISTORY], by="popular", top_k=3).json()
    assert (popular["candidates"], popular["source"]) == ([[1, 2, 4]], ["popular"])
    assert popular["whose"]["digest"] == ""


def test_an_index_that_finds_less_than_exact_search_is_seen():
    class Half(SmallIndex):
        is_exact = False

    index = Half(VECTORS)
    index.delete(list(range(1, ITEMS + 1, 2)))
    with in_process_app(index) as service:
        live = service.candidates(HISTORY, top_k=10)["candidates"][0]
        answer = post(service, "/alternatives", hist_item=[HISTORY], by="exact", top_k=10)
        best = answer.json()["candidates"][0]
    assert set(live) - set(best)
    assert [item for item in best if item % 2 == 0] == [item for item in live if item in best]


def test_a_search_with_other_parameters_is_named_by_those_that_it_had(monkeypatch):
    index = SmallIndex(VECTORS)
    index.index = Hnsw(ef=16)
    monkeypatch.setattr(alternatives, "_searched_with", lambda retriever, params: index)
    # clicks that are left out are searched for all the same: 10 + 32 hits, which ef has to reach
    with in_process_app(index) as service:
        body = {"hist_item": [HISTORY], "top_k": 10, "by": {"ef": 16}}
        for exclude, ef in ((True, 42), (False, 16)):
            answer = post(service, "/alternatives", exclude_history=exclude, **body).json()
            assert answer["whose"]["index"] == f"HNSW M 16, efConstruction 200, ef {ef}"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"by": "before"}, 409),
        ({"by": {"ef": 64}}, 409),
        ({"by": {}}, 422),
        ({"by": "other"}, 422),
        ({}, 422),
        ({"by": "exact", "hist_item": [[1], [2]]}, 422),
        ({"by": "exact", "top_k": 10**6}, 422),
    ],
)
def test_an_alternative_that_is_not_there_is_refused(service: Running, body, status):
    answer = post(service, "/alternatives", **{"hist_item": [HISTORY], **body})
    assert answer.status_code == status, answer.text


def test_categories_the_largest_first(service: Running):
    answer = service.http.get("/categories").json()
    assert answer["total"] == 3
    sizes = {name: list(CATEGORIES.values()).count(name) for name in set(CATEGORIES.values())}
    assert {one["name"]: one["items"] for one in answer["categories"]} == sizes
    counts = [one["items"] for one in answer["categories"]]
    assert counts == sorted(counts, reverse=True)
    assert len(service.http.get("/categories", params={"limit": 1}).json()["categories"]) == 1


def test_titles_come_with_authors_and_year_and_are_found_by_authors():
    details = {2: ItemDetails("Two", "Ursula Le Guin", "1969"), 3: ItemDetails("Three", "", "-380")}
    catalogue = Catalogue(ITEMS, TITLES.items(), CATEGORIES.items(), details)
    with in_process_app(catalogue=catalogue) as service:
        found = service.http.get("/titles", params={"q": "guin title"}).json()["items"]
        assert [(one["id"], one["authors"], one["year"]) for one in found] == [
            (2, "Ursula Le Guin", "1969")
        ]
        three, four = service.http.get("/titles", params={"id": [3, 4]}).json()["items"]
        assert (three["authors"], three["year"]) == (None, "-380")
        assert (four["authors"], four["year"]) == (None, None)
