# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a caller may want of the lists: categories, diversity, a quota, names for the interests."""

from __future__ import annotations

import json
from itertools import combinations, pairwise

import numpy as np
import pytest
from in_process import CATEGORIES, ITEMS, in_process_app
from running_service import Running

from paddlerec_milvus.data.catalogue import Catalogue

HISTORIES = [[3, 7, 12], [27, 16], [7, 8, 9, 10, 11], [12, 31]]
USERS = len(HISTORIES)
NAMES = sorted(set(CATEGORIES.values()))


def test_a_filter_lets_only_its_categories_through(service):
    whole = service.candidates(*HISTORIES, top_k=ITEMS)
    for wanted in (NAMES[:1], NAMES[1:3], NAMES):
        found = service.candidates(*HISTORIES, top_k=ITEMS, filter={"category": wanted})
        assert found["source"] == ["model"] * USERS
        for row, every in zip(found["candidates"], whole["candidates"], strict=True):
            assert row == [item for item in every if CATEGORIES[item] in wanted]
    mixed = service.candidates(
        *HISTORIES, top_k=5, filter={"category": [NAMES[0], "no such category"]}
    )
    assert {CATEGORIES[item] for row in mixed["candidates"] for item in row} == {NAMES[0]}


def test_a_category_that_no_item_has_gives_empty_lists(service):
    found = service.candidates([33], [], filter={"category": ["no such category"]})
    assert found["candidates"] == [[], []]
    assert found["source"] == ["model", "popular"]


def test_popular_items_pass_the_filter_and_are_not_excluded(service):
    wanted = [item for item in sorted(CATEGORIES) if CATEGORIES[item] in NAMES[:2]]
    found = service.candidates(
        [], top_k=4, exclude=wanted[1:3], filter={"category": NAMES[:2]}, titles=True
    )
    assert found["candidates"] == [[wanted[0], *wanted[3:6]]]
    assert set(found["categories"][0]) <= set(NAMES[:2])


def pairs(row: list[int]) -> int:
    return sum(CATEGORIES[one] != CATEGORIES[other] for one, other in combinations(row, 2))


def test_diversity_trades_scores_for_categories(service):
    def asked(weight: float):
        found = service.candidates(*HISTORIES, top_k=8, diversity=weight)
        rows = found["candidates"]
        assert [len(set(row)) for row in rows] == [8] * USERS
        return [pairs(row) for row in rows], [sum(row) for row in found["scores"]]

    plain, steps = asked(0), [asked(weight) for weight in (0, 0.01, 0.1, 10)]
    assert steps[0] == plain
    for (fewer, higher), (more, lower) in pairwise(steps):
        assert all(np.less_equal(fewer, more))
        assert all(np.greater_equal(higher, np.subtract(lower, 1e-6)))
    assert all(np.less(plain[0], steps[-1][0]))


def test_with_the_greatest_diversity_every_category_comes_before_a_second_of_one(service):
    found = service.candidates(*HISTORIES, top_k=len(NAMES), diversity=1e9, titles=True)
    assert [sorted(row) for row in found["categories"]] == [NAMES] * USERS


def test_an_interest_gives_no_more_than_its_quota(service):
    plain = service.candidates(*HISTORIES, top_k=10)
    for options in ({}, {"diversity": 0.05}):
        found = service.candidates(*HISTORIES, top_k=10, quota=6, **options)
        for row, given in zip(found["candidates"], found["interest"], strict=True):
            assert len(set(row)) == 10
            assert max(map(given.count, given)) <= 6
    assert any(max(map(row.count, row)) > 6 for row in plain["interest"])
    alone = service.candidates([33, 5], top_k=20, quota=2)
    assert len(alone["candidates"][0]) == 2 * 2


def test_the_nearest_items_name_the_interests(service):
    one = service.candidates([33, 23, 5], [], top_k=1, nearest=True, exclude=[6])
    whole = service.candidates(
        [33, 23, 5], top_k=ITEMS, exclude_history=False, nearest=True, titles=True
    )
    titles = dict(zip(whole["candidates"][0], whole["titles"][0], strict=True))
    assert one["nearest"][1] == []
    assert one["nearest"][0] == whole["nearest"][0]
    assert len(one["nearest"][0]) == 2
    for named in one["nearest"][0]:
        assert len(named) == 3
        assert all(item["title"] == titles[item["id"]] for item in named)
    best = whole["candidates"][0][0]
    assert best in [named[0]["id"] for named in one["nearest"][0]]
    assert service.candidates([33])["nearest"] is None


def test_short_histories_get_popular_items_where_the_service_says_so(index):
    with in_process_app(index, least_history=3) as service:
        found = service.candidates([33, 23, 5], [33, 23, 999], [999], [], top_k=2)
        assert found["source"] == ["model", "short", "popular", "popular"]
        assert found["candidates"][1:] == [[1, 2]] * 3
        long = service.candidates([33] * 3, [1, 33], top_k=2, nearest=True)
        assert long["source"] == ["model", "short"]
        assert long["candidates"][1] == [2, 3]
        assert long["nearest"][1] == []
        index.is_away = True
        found = service.candidates([33, 23, 5], [33], [])
        assert found["source"] == ["fallback", "short", "popular"]


@pytest.fixture(scope="module")
def bare():
    """A service that knows no titles and no categories."""
    with in_process_app(catalogue=Catalogue(ITEMS)) as started:
        yield started


@pytest.mark.parametrize("option", [{"filter": {"category": ["a"]}}, {"diversity": 0.1}])
def test_without_categories_it_is_said_that_there_are_none(bare: Running, option):
    answer = bare.http.post("/candidates", json={"hist_item": [[1]], **option})
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["body", *option]
    assert "no item has a category here" in problem["msg"]
    assert "items.csv" in problem["msg"]


def test_without_categories_all_else_works(bare: Running):
    options = {"diversity": 0, "filter": None, "titles": True, "nearest": True, "quota": 5}
    found = bare.candidates([1], top_k=3, **options)
    assert found["titles"] == found["categories"] == [[None] * 3]
    assert found["nearest"][0][0][0]["title"] is None


@pytest.mark.parametrize(
    ("option", "place"),
    [
        ('"diversity": -0.1', ["diversity"]),
        ('"diversity": NaN', ["diversity"]),
        ('"diversity": Infinity', ["diversity"]),
        ('"diversity": "1"', ["diversity"]),
        ('"quota": 0', ["quota"]),
        ('"quota": 1.0', ["quota"]),
        ('"nearest": 3', ["nearest"]),
        ('"consistency": "strong"', ["consistency"]),
        ('"consistency": "Session"', ["consistency"]),
        ('"filter": "a"', ["filter"]),
        ('"filter": {}', ["filter", "category"]),
        ('"filter": {"category": "a"}', ["filter", "category"]),
        ('"filter": {"category": []}', ["filter", "category"]),
        ('"filter": {"category": [""]}', ["filter", "category", 0]),
        ('"filter": {"category": [1]}', ["filter", "category", 0]),
        ('"filter": {"category": ["a"], "title": ["b"]}', ["filter", "title"]),
    ],
)
def test_a_wrong_option_is_told_with_its_field(service, option, place):
    answer = service.http.post("/candidates", content=f'{{"hist_item": [[1]], {option}}}')
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", *place]


def test_more_categories_than_may_be_asked_for(service):
    body = {"hist_item": [[1]], "filter": {"category": ["a"] * 1_001}}
    answer = service.http.post("/candidates", json=body)
    assert answer.status_code == 422
    assert "at most 1000" in answer.text


@pytest.mark.parametrize("consistency", ["Strong", "Bounded", None])
def test_a_consistency_may_be_chosen(service, consistency):
    body = {"hist_item": HISTORIES, "consistency": consistency}
    found = json.loads(service.http.post("/candidates", json=body).content)
    assert found["source"] == ["model"] * USERS
    assert found["candidates"] == service.candidates(*HISTORIES)["candidates"]
