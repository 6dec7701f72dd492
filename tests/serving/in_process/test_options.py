# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a caller may want of the lists: categories, diversity, a quota, names for the interests."""

from __future__ import annotations

import csv
import json
import shutil
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from running_service import Running, running

from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving.candidates import category_filter

HISTORIES = [[43, 23, 65], [275, 56], [7, 8, 9, 10, 11], [120]]
USERS = len(HISTORIES)


@pytest.fixture(scope="module")
def categories(trained) -> dict[int, str]:
    with (trained.data / "items.csv").open() as lines:
        return {int(row["item"]): row["category"] for row in csv.DictReader(lines)}


@pytest.fixture(scope="module")
def names(categories) -> list[str]:
    return sorted(set(categories.values()))


def test_a_filter_lets_only_its_categories_through(service, categories, names):
    whole = service.candidates(*HISTORIES, top_k=300)
    for wanted in (names[:1], names[1:3], names):
        found = service.candidates(*HISTORIES, top_k=300, filter={"category": wanted})
        assert found["source"] == ["model"] * USERS
        for row, every in zip(found["candidates"], whole["candidates"], strict=True):
            assert row == [item for item in every if categories[item] in wanted]
    mixed = service.candidates(
        *HISTORIES, top_k=5, filter={"category": [names[0], "no such category"]}
    )
    assert {categories[item] for row in mixed["candidates"] for item in row} == {names[0]}


def test_a_category_that_no_item_has_gives_empty_lists(service):
    found = service.candidates([43], [], filter={"category": ["no such category"]})
    assert found["candidates"] == [[], []]
    assert found["source"] == ["model", "popular"]


def test_popular_items_pass_the_filter_and_are_not_excluded(service, categories, names):
    wanted = [item for item in sorted(categories) if categories[item] in names[:2]]
    found = service.candidates(
        [], top_k=4, exclude=wanted[1:3], filter={"category": names[:2]}, titles=True
    )
    assert found["candidates"] == [[wanted[0], *wanted[3:6]]]
    assert set(found["categories"][0]) <= set(names[:2])


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
        retriever.build(np.eye(len(ODD), 4, dtype=np.float32), ids, ODD)
        query = np.ones((1, 4), np.float32)
        for number, name in zip(ids, ODD, strict=True):
            expression = category_filter([name])
            found = retriever.search(query, len(ODD), filter=expression, consistency="Strong")
            assert found.ids[found.ids > 0].tolist() == [number], name
        expression = category_filter(ODD)
        every = retriever.search(query, len(ODD), filter=expression, consistency="Strong")
        assert sorted(every.ids[0].tolist()) == ids.tolist()
        many = category_filter(f"{'c' * 250}{number}" for number in range(1_000))
        assert (retriever.search(query, 3, filter=many).ids == -1).all()
        retriever.drop()


def pairs(row: list[int], categories: dict[int, str]) -> int:
    return sum(categories[one] != categories[other] for one, other in combinations(row, 2))


def test_diversity_trades_scores_for_categories(service, categories):
    def asked(weight: float):
        found = service.candidates(*HISTORIES, top_k=20, diversity=weight)
        rows = found["candidates"]
        assert [len(set(row)) for row in rows] == [20] * USERS
        return [pairs(row, categories) for row in rows], [sum(row) for row in found["scores"]]

    plain, steps = asked(0), [asked(weight) for weight in (0, 0.01, 0.1, 10)]
    assert steps[0] == plain
    for (fewer, higher), (more, lower) in pairwise(steps):
        assert all(np.less_equal(fewer, more))
        assert all(np.greater_equal(higher, np.subtract(lower, 1e-6)))
    assert all(np.less(plain[0], steps[-1][0]))


def test_with_the_greatest_diversity_every_category_comes_before_a_second_of_one(service, names):
    found = service.candidates(*HISTORIES, top_k=len(names), diversity=1e9, titles=True)
    assert [sorted(row) for row in found["categories"]] == [names] * USERS


def test_an_interest_gives_no_more_than_its_quota(service):
    plain = service.candidates(*HISTORIES, top_k=20)
    for options in ({}, {"diversity": 0.05}):
        found = service.candidates(*HISTORIES, top_k=20, quota=6, **options)
        for row, given in zip(found["candidates"], found["interest"], strict=True):
            assert len(set(row)) == 20
            assert max(map(given.count, given)) <= 6
    assert any(max(map(row.count, row)) > 6 for row in plain["interest"])
    alone = service.candidates([43], top_k=20, quota=2)
    assert len(alone["candidates"][0]) == 2 * 4


def test_the_nearest_items_name_the_interests(service):
    one = service.candidates([43, 23, 65], [], top_k=1, nearest=True, exclude=[5])
    whole = service.candidates(
        [43, 23, 65], top_k=300, exclude_history=False, nearest=True, titles=True
    )
    titles = dict(zip(whole["candidates"][0], whole["titles"][0], strict=True))
    assert one["nearest"][1] == []
    assert one["nearest"][0] == whole["nearest"][0]
    assert len(one["nearest"][0]) == 4
    for named in one["nearest"][0]:
        assert len(named) == 3
        assert all(item["title"] == titles[item["id"]] for item in named)
    best = whole["candidates"][0][0]
    assert best in [named[0]["id"] for named in one["nearest"][0]]
    assert service.candidates([43])["nearest"] is None


def test_short_histories_get_popular_items_where_the_service_says_so(make_settings):
    with running(make_settings(least_history=3)) as service:
        service.http.post("/insert")
        found = service.candidates([43, 23, 65], [43, 23, 999], [999], [], top_k=2)
        assert found["source"] == ["model", "short", "popular", "popular"]
        assert found["candidates"][1:] == [[1, 2]] * 3
        long = service.candidates([43] * 3, [1, 43], top_k=2, nearest=True)
        assert long["source"] == ["model", "short"]
        assert long["candidates"][1] == [2, 3]
        assert long["nearest"][1] == []
        service.http.post("/delete")
        found = service.candidates([43, 23, 65], [43], [])
        assert found["source"] == ["fallback", "short", "popular"]


@pytest.fixture(scope="module")
def bare(trained, tmp_path_factory):
    """A service that knows no titles and no categories."""
    from running_service import settings_of

    folder = tmp_path_factory.mktemp("bare")
    without = shutil.ignore_patterns("items.csv")
    data = Path(shutil.copytree(trained.data, folder / "data", ignore=without))
    prepared = type(trained)(data, trained.checkpoints)
    with running(settings_of(prepared, folder)) as started:
        assert started.http.post("/insert").status_code == 200
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
