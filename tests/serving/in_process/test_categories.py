# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A filter of categories: Milvus is sent those that items have, and nobody pays for the others."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from in_process import CATEGORIES, SmallIndex, TinyEncoder, in_process_app

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.serving import item_categories
from paddlerec_milvus.serving.batching import RequestLoad
from paddlerec_milvus.serving.item_categories import ItemCategories
from paddlerec_milvus.serving.schemas import CandidatesRequest, Filter
from paddlerec_milvus.serving.validation import user_batch

NAMES = sorted(set(CATEGORIES.values()))
LONG = [f"{'书籍分类' * 20}{number}" for number in range(1_000)]


class WatchedIndex(SmallIndex):
    """Keeps the filters of searches; tells categories unless it ``is_away``."""

    def __init__(self) -> None:
        super().__init__(TinyEncoder().item_vectors())
        self.filters: list[str] = []
        self.asked: list[str] = []
        self.is_away = False

    def search(self, queries, k, *, filter="", consistency=None):
        self.filters.append(filter)
        return super().search(queries, k, filter=filter, consistency=consistency)

    def other_categories(self, known, consistency):
        self.asked.append(consistency)
        if self.is_away:
            raise RetrievalError("Milvus did not answer")
        return {name for name in self.categories.values() if name and name not in known}


@pytest.fixture
def index() -> WatchedIndex:
    return WatchedIndex()


@pytest.fixture
def shop(index):
    with in_process_app(index) as started:
        yield started


def filtered(shop, *names: str, **options):
    return shop.candidates([3, 7], top_k=40, filter={"category": list(names)}, **options)


def test_names_that_no_item_has_do_not_reach_milvus(shop, index):
    expected = filtered(shop, "books")
    index.filters.clear()
    found = filtered(shop, *LONG[:999], "books")
    assert found == expected
    assert index.filters == ['category in ["books"]'] * len(index.filters)
    assert index.filters
    index.filters.clear()
    found = filtered(shop, *LONG, nearest=True)
    assert index.filters == []
    assert found["candidates"] == found["scores"] == [[]]
    assert found["source"] == ["model"]
    assert found["nearest"] == [[[], []]]


def test_a_category_that_this_service_stored_is_known_at_once(shop, index):
    assert filtered(shop, "new")["candidates"] == [[]]
    vector = index.vectors_by_id[5].tolist()
    shop.http.post("/items", json={"items": [{"id": 90, "vector": vector, "category": "new"}]})
    assert filtered(shop, "new")["candidates"] == [[90]]


def test_a_category_that_another_service_stored_is_found_out(shop, index, monkeypatch):
    index.upsert([index.vectors_by_id[5]], [90], ["elsewhere"])
    assert filtered(shop, "elsewhere")["candidates"] == [[90]]
    index.upsert([index.vectors_by_id[6]], [91], ["later"])
    for _ in range(9):
        filtered(shop, "no such name")
    assert index.asked == ["Bounded"]  # not for each request
    assert filtered(shop, "later", consistency="Strong")["candidates"] == [[91]]
    assert index.asked == ["Bounded", "Strong"]
    index.upsert([index.vectors_by_id[7]], [92], ["last"])
    monkeypatch.setattr(item_categories, "SEEN_SECONDS", 0.0)
    assert filtered(shop, "last")["candidates"] == [[92]]


def test_while_milvus_does_not_tell_names_are_sent_as_they_are(shop, index):
    index.is_away = True
    index.upsert([index.vectors_by_id[5]], [90], ["elsewhere"])
    assert filtered(shop, "elsewhere", "字" * 100)["candidates"] == [[90]]
    assert json.loads(index.filters[-1].removeprefix("category in ")) == ["elsewhere"]


def test_a_request_with_many_names_is_large(shop):
    """As they came: also those that nobody has take their time."""
    model = shop.service.model
    for names, is_large in ((NAMES, False), (LONG, True)):
        request = CandidatesRequest[int](hist_item=[[3]], filter=Filter(category=names))
        load = RequestLoad.of(user_batch(request, 5, model.catalogue, model.ids))
        assert load.is_large == is_large


def test_one_look_is_for_all_who_wait(index):
    categories = ItemCategories(Catalogue(40, categories=CATEGORIES.items()))
    categories.follow(index)
    with ThreadPoolExecutor(4) as callers:
        list(callers.map(lambda _: categories.resolve(strong=False), range(8)))
    assert index.asked == ["Bounded"]
