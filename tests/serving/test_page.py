# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page in a real browser: search, pick, candidates, colours, settings, keys, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from page_view import View, viewing
from playwright.sync_api import Browser, Locator, expect
from running_service import Running, until

pytestmark = pytest.mark.slow

FIRST = ("Category 2, item 1", "Category 2, item 2", "Category 1, item 1")


@pytest.fixture
def view(browser: Browser, service: Running) -> Iterator[View]:
    with viewing(browser, service.url) as opened:
        yield opened


def test_without_picks_it_invites_and_shows_popular_items(view: View):
    expect(view["#welcome"]).to_be_visible()
    expect(view["#headline"]).to_have_text("Popular items")
    expect(view["#legend"]).to_be_hidden()
    assert view.picked == []
    assert view.cards == list(range(1, 51))
    expect(view["#model"]).to_contain_text("Ready: 300 items of mind, epoch 0, data data, FLAT")


def test_an_example_fills_it(view: View):
    view["#example"].click()
    expect(view["#headline"]).to_have_text("Candidates")
    expect(view["#welcome"]).to_be_hidden()
    first = view.picked
    assert len(first) == 6
    view["#another"].click()
    until(lambda: view.picked != first)


def test_search_pick_and_see_candidates(view: View, service: Running):
    found = view.find("category 2, item")
    expect(found.first.locator("mark").first).to_have_text("Category")
    assert all("Category 2" in title for title in found.all_inner_texts())
    found.first.click()
    view.settled()
    assert len(view.picked) == 1
    expect(view["#search"]).to_have_value("")
    answer = service.candidates(view.picked, top_k=50, titles=True)
    view.shows(answer)
    expect(view["#cards .title"].first).to_have_text(answer["titles"][0][0])
    expect(view["#cards .score"].first).to_have_text(f"{answer['scores'][0][0]:.3f}")
    expect(view["#source"]).to_contain_text("out of 1 pick")


def test_a_search_without_an_answer_says_so(view: View):
    view["#search"].fill("no such title")
    expect(view["#found"]).to_have_text("No title has “no such title” in it")
    view["#search"].press("Enter")
    assert view.picked == []


def test_a_candidate_that_is_clicked_joins_the_picks(view: View):
    view.pick(FIRST[0])
    (chosen, *_) = view.cards
    view["#cards button"].first.click()
    until(lambda: chosen not in view.cards)
    assert view.picked[-1] == chosen
    assert len(view.picked) == 2


def test_picks_are_removed_one_by_one_and_all(view: View):
    view.pick(*FIRST)
    before = view.picked
    view.page.get_by_role("button", name=f"Remove {FIRST[1]}").click()
    assert view.picked == [before[0], before[2]]
    view["#clear"].click()
    assert view.picked == []
    expect(view["#welcome"]).to_be_visible()
    expect(view["#search"]).to_be_focused()


def test_each_interest_has_a_colour_a_letter_and_a_name(view: View, service: Running):
    view.pick(*FIRST)
    answer = service.candidates(view.picked, top_k=50, nearest=True)
    view.shows(answer)
    letters = view["#cards .badge"].all_inner_texts()
    assert letters == ["ABCD"[interest] for interest in answer["interest"][0]]
    colour = "badges => badges.map((badge) => getComputedStyle(badge).backgroundColor)"
    colours = view["#cards .badge"].evaluate_all(colour)
    legend = view["#legend .badge"].evaluate_all(colour)
    assert len(set(legend)) == len(legend) == 4
    assert colours == [legend[interest] for interest in answer["interest"][0]]
    for entry, near in zip(view["#legend button"].all(), answer["nearest"][0], strict=True):
        expect(entry).to_contain_text(near[0]["title"])


def test_the_legend_shows_only_what_one_interest_found(view: View, service: Running):
    view.pick(*FIRST)
    answer = service.candidates(view.picked, top_k=50)
    view.shows(answer)
    pairs = list(zip(answer["candidates"][0], answer["interest"][0], strict=True))
    chosen = pairs[0][1]
    entry = view[f"#legend button[data-interest='{chosen}']"]
    entry.click()
    expect(entry).to_have_attribute("aria-pressed", "true")
    assert view.cards == [item for item, interest in pairs if interest == chosen]
    entry.click()
    assert view.cards == answer["candidates"][0]


def test_diversity_changes_the_list(view: View, service: Running):
    view.pick(*FIRST)
    plain = service.candidates(view.picked, top_k=50)
    view.shows(plain)
    view.slide("Diversity", "End")
    diverse = service.candidates(view.picked, top_k=50, diversity=2.0)
    assert diverse["candidates"] != plain["candidates"]
    view.shows(diverse)
    expect(view["#diversity-value"]).to_have_text("2")
    view.slide("Diversity", "Home")
    view.shows(plain)


def test_more_and_fewer_candidates(view: View):
    view.pick(FIRST[0])
    view.slide("Candidates", "End")
    expect(view["#cards > li"]).to_have_count(100)
    view.slide("Candidates", "Home")
    expect(view["#cards > li"]).to_have_count(10)


def test_picks_may_come_back(view: View, service: Running):
    view.pick(*FIRST)
    view.page.get_by_label("Leave out what was picked").uncheck()
    answer = service.candidates(view.picked, top_k=50, exclude_history=False)
    assert set(view.picked) & set(answer["candidates"][0])
    view.shows(answer)


def test_the_time_of_each_stage_is_shown(view: View):
    view.pick(FIRST[0])
    stages = ("tower", "search", "merge", "the rest")
    expect(view["#timing .stage"]).to_have_text([re.compile(rf"^{name} \d") for name in stages])
    shares = view["#timing .bar span"].evaluate_all(
        "parts => parts.map((part) => part.getBoundingClientRect().width)"
    )
    assert len(shares) == 4
    assert min(shares) >= 2


def test_by_keyboard_alone(view: View):
    keyboard = view.page.keyboard
    keyboard.press("Tab")
    for place in ("#skip", "#model", "#language", "#search"):
        expect(view[place]).to_be_focused()
        keyboard.press("Tab")
    keyboard.press("Shift+Tab")
    keyboard.press("ArrowDown")
    options = view["#found [role=option]"]
    expect(options.first).to_have_attribute("aria-selected", "true")
    keyboard.press("ArrowUp")
    expect(options.last).to_have_attribute("aria-selected", "true")
    keyboard.press("Escape")
    expect(view["#found"]).to_be_hidden()
    keyboard.type("category 3")
    expect(options.first).to_contain_text("Category 3")  # not yet those of "category"
    keyboard.press("ArrowDown")
    active = view["#search"].get_attribute("aria-activedescendant")
    expect(view[f"#{active}"]).to_have_attribute("aria-selected", "true")
    title = view[f"#{active} .title"].inner_text()
    keyboard.press("Enter")
    expect(view["#picked .title"]).to_have_text(title)
    expect(view["#headline"]).to_have_text("Candidates")
    view["#skip"].press("Enter")
    while view.page.evaluate("document.activeElement.closest('#cards') === null"):
        keyboard.press("Tab")
    keyboard.press("Enter")
    expect(view["#picked > li"]).to_have_count(2)
    until(lambda: view.page.evaluate("document.activeElement.closest('#cards') !== null"))
    view.page.get_by_role("button", name=f"Remove {title}").press("Enter")
    expect(view["#picked button"]).to_be_focused()


def test_enter_before_the_answer_picks_its_first_title(view: View):
    view["#search"].focus()
    view.page.keyboard.type("category 4, item 1")
    view.page.keyboard.press("Enter")
    expect(view["#picked .title"]).to_contain_text("Category 4, item 1")


def test_an_address_restores_what_was_seen(browser: Browser, service: Running, view: View):
    view.pick(*FIRST)
    view.slide("Diversity", "ArrowRight", 4)
    view.slide("Candidates", "ArrowLeft", 3)
    view.page.get_by_label("Leave out what was picked").uncheck()
    expect(view["#cards > li"]).to_have_count(20)
    view.settled()
    address = view.page.url.removeprefix(service.url)
    picked = ",".join(map(str, view.picked))
    assert address == f"/#picked={picked}&top_k=20&diversity=0.1&exclude_history=false"
    with viewing(browser, service.url, address=address) as other:
        assert other.cards == view.cards
        assert other.picked == view.picked
        expect(other["#picked .title"]).to_have_text(FIRST)
        expect(other["#diversity-value"]).to_have_text("0.1")
        expect(other["#top-k-value"]).to_have_text("20")
        expect(other["#exclude"]).not_to_be_checked()


@pytest.mark.parametrize(
    "address",
    [
        "/#picked=,,x,-3,1e5,0,<b>&top_k=many&diversity=-1",
        "/#picked=999999999999999&top_k=1e99&diversity=Infinity",
        "/#%%%&&=&picked",
    ],
)
def test_a_spoilt_address_gives_a_whole_page(browser: Browser, service: Running, address: str):
    with viewing(browser, service.url, address=address) as view:
        expect(view["#trouble"]).to_be_hidden()
        assert len(view.cards) >= 50


def test_the_browsers_back_button_takes_a_pick_back(view: View):
    view.pick(*FIRST[:2])
    two = view.picked
    view.page.go_back()
    until(lambda: view.picked == two[:1])
    view.page.go_forward()
    until(lambda: view.picked == two)
    view.settled()


def try_out(view: View, operation: str) -> Locator:
    """Execute a call at /docs with what is filled in; the table of its answer."""
    call = view[f"#operations-default-{operation}"]
    call.locator(".opblock-summary-control").click()
    call.get_by_role("button", name="Execute").click()
    answer = call.locator(".live-responses-table")
    expect(answer.locator("td.response-col_status").last).to_contain_text("200")
    return answer


def test_all_calls_can_be_tried_at_docs(browser: Browser, service: Running):
    with viewing(browser, service.url) as view:
        view.page.goto(f"{service.url}/docs")
        described = service.http.get("/openapi.json").json()["paths"]
        calls = sum(len(methods) for methods in described.values())
        expect(view[".opblock"]).to_have_count(calls)
        expect(try_out(view, "candidates_candidates_post")).to_contain_text('"candidates"')


def test_items_and_users_can_be_changed_at_docs(browser: Browser, empty: Running):
    assert empty.http.post("/insert").status_code == 200
    with viewing(browser, empty.url) as view:
        view.page.goto(f"{empty.url}/docs")
        expect(try_out(view, "put_items_items_post")).to_contain_text('"upserted": 1')
        assert empty.http.get("/count").json()["count"] == 301
        expect(try_out(view, "delete_item_items__item__delete")).to_contain_text('"deleted": 301')
        events = try_out(view, "add_events_users__user__events_post")
        expect(events).to_contain_text('"history": 3')
        found = try_out(view, "user_candidates_users__user__candidates_get")
        expect(found).to_contain_text('"model"')
