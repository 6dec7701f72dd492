# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""An item that one replica deletes is in no list of any replica that Milvus answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from in_process import CATEGORIES, ITEMS, in_process_app
from running_service import Running
from test_shown_lists import ENCODER, small_ranking

from paddlerec_milvus.serving.hidden_items import HiddenItems

HISTORY = [3, 7, 11]


@pytest.fixture
def replicas(index) -> Iterator[tuple[Running, Running]]:
    """Two services that search the same items, and rank."""
    settings: dict[str, Any] = {"encoder": ENCODER, "ranking_timeout": 60.0}
    with (
        in_process_app(index, ranking=small_ranking(), **settings) as one,
        in_process_app(index, ranking=small_ranking(), **settings) as other,
    ):
        yield one, other


def lists_of(service: Running, *histories: list[int], **options: Any) -> list[list[int]]:
    """Those of both calls, one after the other."""
    body = {"hist_item": list(histories), "top_k": 10, **options}
    answer = service.http.post("/recommend", json=body)
    assert answer.status_code == 200, answer.text
    ranked = [[item["id"] for item in row] for row in answer.json()["recommendations"]]
    candidates: list[list[int]] = service.candidates(*histories, **{"top_k": 10, **options})[
        "candidates"
    ]
    return candidates + ranked


def delete(service: Running, *items: int) -> None:
    for item in items:
        assert service.http.delete(f"/items/{item}").status_code == 200


def test_a_deleted_item_is_in_no_list_of_any_replica(replicas) -> None:
    one, other = replicas
    before = lists_of(other, HISTORY, [], top_k=20)
    assert before[1] == before[3] == list(range(1, 21))
    gone = [1, before[0][0], before[2][0]]
    delete(one, *gone)
    for service in replicas:
        lists = lists_of(service, HISTORY, [], top_k=20)
        assert [len(row) for row in lists] == [20] * 4
        assert not any(set(gone) & set(row) for row in lists)
    shown = [item for item in range(1, ITEMS + 1) if item not in gone][:20]
    assert lists[1] == lists[3] == shown


def test_nor_in_one_with_a_filter_or_when_most_of_the_popular_ones_are_gone(replicas) -> None:
    one, other = replicas
    gone = list(range(1, 31))
    delete(one, *gone)
    assert lists_of(other, [], top_k=4) == [[31, 32, 33, 34]] * 2
    books = [item for item in range(31, ITEMS + 1) if CATEGORIES[item] == "books"]
    options: dict[str, Any] = {"filter": {"category": ["books"]}}
    assert lists_of(other, [], **options) == [books] * 2
    rest = [item for item in range(31, ITEMS + 1) if item != 31]
    assert lists_of(other, [], exclude=[31]) == [rest[:10]] * 2


def test_an_item_that_is_stored_again_comes_back_in_every_replica(replicas, index) -> None:
    one, other = replicas
    vector = index.vectors_by_id[1].tolist()
    delete(one, 1)
    assert all(1 not in row for service in replicas for row in lists_of(service, []))
    answer = other.http.post("/items", json={"items": [{"id": 1, "vector": vector}]})
    assert answer.status_code == 200
    assert all(row[0] == 1 for service in replicas for row in lists_of(service, []))


def test_what_is_known_to_be_deleted_stays_hidden_while_milvus_is_away(replicas, index) -> None:
    one, other = replicas
    delete(one, 1)
    lists_of(other, [])
    index.is_away = True
    for service in replicas:
        body = {"hist_item": [HISTORY, []], "top_k": 10}
        answer = service.http.post("/recommend", json=body).json()
        assert answer["source"] == ["other_channels", "popular"]
        rows = [[item["id"] for item in row] for row in answer["recommendations"]]
        fallback = service.candidates(HISTORY, [], top_k=10)
        assert fallback["source"] == ["fallback", "popular"]
        for row in rows + fallback["candidates"]:
            assert row
            assert 1 not in row


def test_a_replica_that_starts_after_the_delete_knows_of_it_before_anybody_asks(index) -> None:
    index.delete([1])
    with in_process_app(index, encoder=ENCODER) as late:
        index.is_away = True
        fallback = late.candidates(HISTORY, top_k=10)
    assert fallback["source"] == ["fallback"]
    assert 1 not in fallback["candidates"][0]


def test_what_is_known_of_a_version_is_kept_when_milvus_comes_back(index) -> None:
    hidden = HiddenItems()
    hidden.follow(index, "items_v1")
    hidden.changed(deleted=[1])
    hidden.follow(index, "items_v1")
    assert hidden.known == {1}
    hidden.follow(index, "items_v2")
    assert hidden.known == frozenset()
