# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page of a model with a ranker: both orders side by side, and why an item stands there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from library import TITLES, library, small_ranking
from page_checks import DESK, PHONE, nothing_is_serious, serious_findings, tab_comes_to_all
from page_view import View, viewing
from playwright.sync_api import Browser, expect
from running_service import Running, until
from test_page_details import ADDRESS, ENGLISH_LEFT, PICKS

from paddlerec_milvus.ranking.channels import INTERESTS, QUOTAS

pytestmark = pytest.mark.slow

RANKING = small_ranking()
ROWS = """side => [...document.querySelectorAll(`#ranked section:nth-child(${side}) .rows > li`)]
  .map((row) => [Number(row.dataset.id), row.querySelector(".move").textContent])"""


@pytest.fixture(scope="module")
def ranked() -> Iterator[Running]:
    """The books with a ranker that has time enough on any machine."""
    with library(ranking=RANKING, ranking_timeout=60.0) as started:
        yield started


@pytest.fixture
def view(browser: Browser, ranked: Running) -> Iterator[View]:
    with viewing(browser, ranked.url, address=ADDRESS) as opened:
        yield opened


def recommended(service: Running, **options: Any) -> list[dict[str, Any]]:
    body = {"hist_item": [PICKS], "top_k": 50, "explain": True, **options}
    items: list[dict[str, Any]] = service.http.post("/recommend", json=body).json()[
        "recommendations"
    ][0]
    return items


def mark(place: int, before: int) -> str:
    if place == before:
        return "same place"
    return f"{before - place} higher" if before > place else f"{place - before} lower"


def test_both_orders_and_how_far_an_item_moved(view: View, ranked: Running) -> None:
    items = recommended(ranked)
    expected = [
        [item["id"], mark(place, item["channels"]["interests"])]
        for place, item in enumerate(items[:10], 1)
    ]
    assert {text.split()[-1] for _, text in expected} >= {"higher", "lower"}
    until(lambda: view.page.evaluate(ROWS, 1) == expected)
    places = {item["id"]: place for place, item in enumerate(items, 1)}
    own = ranked.candidates(PICKS, top_k=10)["candidates"][0]
    assert view.page.evaluate(ROWS, 2) == [
        [item, "same place" if places[item] == at else f"ranked: {places[item]}"]
        for at, item in enumerate(own, 1)
    ]


def test_settings_of_candidates_leave_the_model_s_own_order(view: View, ranked: Running) -> None:
    before = [view.page.evaluate(ROWS, side) for side in (1, 2)]
    view.slide("Diversity", "End")
    view.page.get_by_label("Leave out what was picked").uncheck()
    view.shows(ranked.candidates(PICKS, top_k=50, diversity=2.0, exclude_history=False))
    view.settled()
    assert [view.page.evaluate(ROWS, side) for side in (1, 2)] == before
    view.slide("Candidates", "Home")
    until(lambda: "not in the first 10" in [text for _, text in view.page.evaluate(ROWS, 2)])
    view["#filters summary"].click()
    view.page.get_by_role("checkbox", name=re.compile("^games")).check()
    games = recommended(ranked, top_k=10, filter={"category": ["games"]})
    until(lambda: [row[0] for row in view.page.evaluate(ROWS, 1)] == [one["id"] for one in games])


def test_an_item_says_why_it_stands_there(view: View, ranked: Running) -> None:
    items = recommended(ranked)
    at = next(at for at, item in enumerate(items[:10]) if item["follows"] is not None)
    item = items[at]
    view["#ranked section:nth-child(1) .row"].nth(at).click()
    dialog = view.page.get_by_role("dialog", name=TITLES[item["id"]])
    own = item["channels"]["interests"]
    expect(dialog).to_contain_text(f"Place {at + 1} of the ranked list, {own} in the model's own")
    follows = f"People often click it after your pick {TITLES[item['follows']]}."
    expect(dialog).to_contain_text(follows)
    numbers = [f"{one['contribution']:+.2f}".replace("-", "−") for one in item["why"]]
    expect(dialog.locator(".moves .score")).to_have_text(numbers)
    places = [f"place {place}" for place in item["channels"].values()]
    expect(dialog.locator(".channels .score")).to_have_text(places)
    expect(dialog).to_contain_text(f"Interest {'AB'[item['interest']]} found it")
    expect(dialog.locator(".scores .score")).to_have_count(2)
    view.page.keyboard.press("Escape")
    view[f"#cards > li[data-id='{item['id']}'] .about"].click()
    expect(dialog).to_contain_text(follows)


def test_an_item_that_another_channel_brought_is_marked(
    view: View, ranked: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = RANKING.channels._replace(quotas={**QUOTAS, INTERESTS: 4})
    monkeypatch.setattr(RANKING, "channels", few)
    others = [one["id"] for one in recommended(ranked)[:10] if "interests" not in one["channels"]]
    view.slide("Candidates", "ArrowLeft")
    marked = view["#ranked li[data-move='alone']"]
    expect(marked).to_have_count(len(others))
    expect(marked.first.locator(".move")).to_have_text("other channels")
    marked.first.locator(".row").click()
    expect(view["#about"]).to_contain_text("other channels than your interests brought it")
    expect(view["#about .channels"]).not_to_contain_text("Your interests")
    expect(view["#about"]).to_contain_text("lies nearest to it")


def test_without_picks_there_is_nothing_to_rank(view: View) -> None:
    expect(view["#ranked"]).to_be_visible()
    view["#clear"].click()
    view.settled()
    expect(view["#ranked"]).to_be_hidden()
    expect(view["#no-ranker"]).to_be_hidden()


def test_without_a_ranker_one_sentence_says_how_to_get_one(
    browser: Browser, books: Running
) -> None:
    with viewing(browser, books.url, address=ADDRESS) as view:
        expect(view["#no-ranker"]).to_contain_text("One is trained by tools/rank.py")
        expect(view["#ranked"]).to_be_hidden()
        view["#cards .card"].first.click()
        view.settled()
        expect(view["#picked > li"]).to_have_count(len(PICKS) + 1)
        assert len([one for one in view.requests if one.endswith("/recommend")]) == 1


def test_a_ranker_that_fails_and_a_search_that_is_away_are_said(
    view: View, ranked: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranking, retriever = ranked.service.model.ranking, ranked.service.deployment.served.retriever
    with monkeypatch.context() as patch:
        patch.setattr(ranking.ranker, "scores", lambda rows: 1 / 0)
        view.slide("Candidates", "ArrowLeft")
        expect(view["#ranked-text"]).to_contain_text("The ranker failed or was too late")
        expect(view["#ranked .rows"]).to_have_count(0)
    with monkeypatch.context() as patch:
        patch.setattr(ranked.service, "refresh", lambda: None)  # its own search would fail, too
        patch.setattr(retriever, "search", lambda *arguments, **options: 1 / 0)
        view.slide("Candidates", "ArrowLeft")
        expect(view["#ranked-text"]).to_contain_text("The search by your interests did not answer")
        expect(view["#ranked .rows"]).to_have_count(1)
        expect(view["#ranked .row"]).to_have_count(10)
        assert {text for _, text in view.page.evaluate(ROWS, 1)} == {""}
    until(lambda: ranked.ready()[0] == 200)
    view.slide("Candidates", "ArrowLeft")
    expect(view["#ranked .rows"]).to_have_count(2)
    view["#ranked .row"].first.click()
    expect(view["#about .moves li"]).not_to_have_count(0)
    view.page.keyboard.press("Escape")
    view["#language"].click()
    expect(view["#ranked h4"]).to_have_text(["排序后", "模型自己的顺序"])
    view["#ranked .row"].first.click()
    expect(view["#about .scores"]).to_be_visible()
    assert [text for text in view.page.evaluate(ENGLISH_LEFT) if "Book" not in text] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_it_is_for_everybody(
    browser: Browser, ranked: Running, size: dict[str, int], scheme: str
) -> None:
    options: dict[str, Any] = {"viewport": size, "color_scheme": scheme}
    with viewing(browser, ranked.url, address=f"{ADDRESS}&top_k=10", **options) as view:
        expect(view["#ranked"]).to_be_visible()
        nothing_is_serious(view, size)
        assert serious_findings(view) == []
        tab_comes_to_all(view)
        view["#ranked .row"].first.click()
        expect(view["#about .scores"]).to_be_visible()
        nothing_is_serious(view, size)
        assert serious_findings(view) == []
