# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page: what is known of an item, why it is there, two lists side by side, filters, Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from in_process import CATEGORIES, ITEMS, SmallIndex, TinyEncoder
from library import AUTHORS, TITLES, library
from page_view import View, viewing
from playwright.sync_api import Browser, expect
from running_service import Running, running, settings_of, until

pytestmark = pytest.mark.slow

PICKS = [3, 7, 12]
ADDRESS = f"/#picked={','.join(map(str, PICKS))}"
ROWS = """side => [...document.querySelectorAll(`#beside section:nth-child(${side}) .rows > li`)]
  .map((row) => [Number(row.dataset.id), row.dataset.move])"""


@pytest.fixture
def view(browser: Browser, books: Running) -> Iterator[View]:
    with viewing(browser, books.url, address=ADDRESS) as opened:
        yield opened


def test_a_cover_holds_title_author_and_year(view: View):
    view.page.get_by_role("button", name="Clear").click()
    view.settled()
    words = view["#cards .cover"].evaluate_all(
        "all => all.map((one) => one.textContent.replaceAll(' ', ''))"
    )
    assert words[2] == "三体Homer700BC"
    assert words[0] == "Book1,ofsomelengthStanisławLem1961"
    expect(view["#cards .by"].first).to_have_text(AUTHORS[1])


def test_details_say_what_is_known_and_why_it_is_there(view: View, books: Running):
    answer = books.candidates(PICKS)
    item, score = answer["candidates"][0][0], answer["scores"][0][0]
    letter = "AB"[answer["interest"][0][0]]
    view["#cards .about"].first.click()
    dialog = view.page.get_by_role("dialog", name=TITLES[item])
    expect(dialog).to_contain_text(AUTHORS[item % 4])
    expect(dialog).to_contain_text(CATEGORIES[item])
    expect(dialog.locator(".cover")).to_be_visible()
    expect(dialog).to_contain_text(f"Interest {letter} found it, with the score {score:.3f}.")
    why = books.http.post("/explain", json={"hist_item": PICKS, "item": item}).json()
    expect(dialog.locator(".scores .score")).to_have_text([f"{one:.3f}" for one in why["scores"]])
    near = [TITLES[click["id"]] for click in why["clicks"]]
    expect(dialog.locator(".near .title")).to_have_text(near)
    dialog.get_by_role("button", name=f"Pick {TITLES[item]}").click()
    until(lambda: view.picked == [*PICKS, item])


def test_details_by_keyboard_alone(view: View):
    opener = view["#cards .about"].nth(1)
    opener.press("Enter")
    dialog = view.page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    for _ in range(6):  # focus stays within
        view.page.keyboard.press("Tab")
        inside = "document.activeElement === document.body || "
        inside += "document.activeElement.closest('dialog') !== null"
        assert view.page.evaluate(inside)
    view.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()


def test_details_of_popular_items_and_of_a_deleted_one_say_so(browser: Browser):
    index = SmallIndex(TinyEncoder().item_vectors())
    with library(index) as service, viewing(browser, service.url, "404") as view:
        view["#cards .about"].first.click()
        expect(view["#about"]).to_contain_text("Most people take it.")
        view.page.keyboard.press("Escape")
        view["#cards .card"].first.click()
        view.settled()
        index.delete([view.cards[0]])
        view["#cards .about"].first.click()
        expect(view["#about"]).to_contain_text("has no vector here")


def test_interests_are_named_by_what_tells_them_apart(browser: Browser, view: View, books: Running):
    answer = books.candidates(PICKS, top_k=10, nearest=True)
    view.slide("Candidates", "Home")
    view.shows(answer)
    names = view["#legend .first"].all_inner_texts()
    assert len(set(names)) == len(names) == 2
    titles, categories = set(TITLES.values()), set(CATEGORIES.values())
    for name in names:
        assert name in titles or set(name.split(", ")) <= categories
    assert not set(names[0].split(", ")) & set(names[1].split(", ")) & categories
    with library(categories=False) as plain, viewing(browser, plain.url, address=ADDRESS) as other:
        authors = {author.split(",")[0] for author in AUTHORS}
        for name in other["#legend .first"].all_inner_texts():
            assert name in titles or set(name.split(", ")) <= authors
        expect(other["#filters"]).to_be_hidden()


def test_filters_and_quota_narrow_the_list_and_are_in_the_address(
    browser: Browser, view: View, books: Running
):
    view["#filters summary"].click()
    view.page.get_by_role("checkbox", name=re.compile("^games")).check()
    filtered = {"filter": {"category": ["games"]}}
    view.shows(books.candidates(PICKS, **filtered))
    view.slide("Most from one interest", "ArrowRight", 1)
    answer = books.candidates(PICKS, quota=5, **filtered)
    view.shows(answer)
    expect(view["#quota-value"]).to_have_text("5")
    view.settled()
    address = view.page.url.removeprefix(books.url)
    assert address == f"{ADDRESS}&quota=5&category=games"
    with viewing(browser, books.url, address=address) as other:
        other.shows(answer)
        expect(other["#filters-chosen"]).to_have_text("1")
        other["#filters summary"].click()
        other["#filters-clear"].click()
        other.shows(books.candidates(PICKS, quota=5))


def test_exact_search_beside_an_index_marks_what_the_index_misses(browser: Browser):
    class Half(SmallIndex):
        is_exact = False

    index = Half(TinyEncoder().item_vectors())
    index.delete(list(range(1, ITEMS + 1, 2)))
    with library(index) as service, viewing(browser, service.url, address=ADDRESS) as view:
        view.slide("Candidates", "Home")
        live = service.candidates(PICKS, top_k=10)["candidates"][0]
        view["#compare"].select_option("exact")
        body = {"hist_item": [PICKS], "top_k": 10, "by": "exact"}
        best = service.http.post("/alternatives", json=body).json()["candidates"][0]
        expect(view["#beside"]).to_be_visible()
        until(lambda: [row[0] for row in view.page.evaluate(ROWS, 2)] == best)
        left, right = view.page.evaluate(ROWS, 1), view.page.evaluate(ROWS, 2)
        assert [row[0] for row in left] == live
        both = set(live) & set(best)
        assert {item for item, move in left if move == "alone"} == set(live) - both
        assert {item for item, move in right if move == "alone"} == set(best) - both
        for (item, move), at in zip(left, range(10), strict=True):
            if item in both:
                there = best.index(item)
                assert move == ("level" if there == at else "higher" if there > at else "lower")
        text = f"{len(both)} of 10 in both lists; {10 - len(both)} in the first alone"
        expect(view["#beside-text"]).to_contain_text(text)
        expect(view["#beside section:nth-child(2) mark"].first).to_contain_text("every item")
        assert view.page.url.endswith("&compare=exact")
        view["#beside .row"].first.click()
        expect(view.page.get_by_role("dialog")).to_contain_text("Interest")


def test_a_list_beside_itself_is_the_same(view: View):
    view["#compare"].select_option("exact")
    expect(view["#beside-text"]).to_have_text("Both lists are the same, in the same order.")
    view["#compare"].select_option("")
    expect(view["#beside"]).to_be_hidden()
    expect(view["#legend"]).to_be_visible()


def test_the_version_before_with_its_model_and_index(browser: Browser, trained, tmp_path):
    first = settings_of(trained, tmp_path, "index.type=FLAT", epoch="0")
    picks, options = [3, 7, 12], {"top_k": 50, "quota": 20}
    with running(first) as service:
        assert service.http.post("/insert").status_code == 200
        before = service.candidates(picks, **options)
    second = settings_of(trained, tmp_path, "index.type=HNSW", epoch="1")
    with running(second) as service:
        assert service.http.post("/insert").status_code == 200
        told = service.http.get("/alternatives").json()
        assert (told["before"]["epoch"], told["before"]["index"]) == (0, "FLAT")
        assert (told["is_exact"], told["search"]) == (False, {"ef": 128})
        body = {"hist_item": [picks], "by": "before", **options}
        answer = service.http.post("/alternatives", json=body).json()
        assert answer["whose"] == told["before"]
        assert answer["candidates"] == before["candidates"]
        assert answer["scores"][0] == pytest.approx(before["scores"][0], abs=1e-5)
        by = {"hist_item": [picks], "by": {"ef": 200}}
        searched = service.http.post("/alternatives", json=by).json()
        assert searched["whose"]["index"] == "HNSW M 16, efConstruction 200, ef 200"
        wrong = {"hist_item": [picks], "by": {"nprobe": 2}}
        refused = service.http.post("/alternatives", json=wrong)
        assert refused.status_code == 409
        assert "it has: ef" in refused.json()["detail"]
        address = "/#picked=3,7,12&quota=20&compare=before"
        with viewing(browser, service.url, address=address) as view:
            until(
                lambda: [row[0] for row in view.page.evaluate(ROWS, 2)] == before["candidates"][0]
            )
            marked = view["#beside section:nth-child(2) mark"]
            expect(marked).to_have_text(["0", "FLAT", told["before"]["digest"]])
            view["#compare"].select_option("ef")
            expect(view["#compare-value"]).to_have_value("64")
            expect(view["#beside section:nth-child(1) mark"]).to_have_text([re.compile("ef 128$")])
            view["#compare-value"].fill("100")
            view["#compare-value"].press("Tab")
            expect(view["#beside section:nth-child(2) h3"]).to_contain_text("ef 100")
            assert service.http.get("/readyz").json()["epoch"] == 1  # nothing has changed


def test_a_comparison_that_is_not_there_says_so(browser: Browser, books: Running):
    with viewing(browser, books.url, "409", address=f"{ADDRESS}&compare=before") as view:
        expect(view["#trouble"]).to_contain_text("there is no version before the serving one")
        expect(view["#cards > li"]).to_have_count(ITEMS - len(PICKS))


def test_chinese_by_the_browser_or_by_the_switch_which_is_remembered(
    browser: Browser, books: Running
):
    with viewing(browser, books.url, address=ADDRESS, locale="zh-CN") as view:
        expect(view["#headline"]).to_have_text("候选")
        assert view.page.evaluate("document.documentElement.lang") == "zh-CN"
        view.page.get_by_role("button", name="English").click()
        expect(view["#headline"]).to_have_text("Candidates")
        expect(view["#cards .about"].first).to_have_text("Details")
        view.page.reload()
        expect(view["#headline"]).to_have_text("Candidates")
    with viewing(browser, books.url, address=ADDRESS, locale="fr-FR") as view:
        expect(view["#headline"]).to_have_text("Candidates")
        view["#compare"].select_option("exact")
        expect(view["#beside"]).to_be_visible()
        view["#language"].click()
        expect(view["#beside-text"]).to_have_text("两个列表完全相同，顺序也相同。")
        expect(view["#cards .about"].first).to_have_text("详情")
        english = view.page.evaluate(ENGLISH_LEFT)
        assert english == [], english


# texts of the page in Latin letters, where all else is Chinese
ENGLISH_LEFT = """
(() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const left = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const parent = node.parentElement;
    if (!/[a-z]{3}/.test(node.data) || !parent.checkVisibility()) continue;
    const data = ".title, .by, .names, .category, svg, dd, code, #model";
    if (parent.closest(`noscript, #language, ${data}`)) continue;
    left.push(node.data.trim());
  }
  return left;
})()
"""


def test_both_languages_say_the_same(view: View):
    keys, places = view.page.evaluate(
        """async () => {
          const { TEXTS } = await import("/page/texts.js");
          const places = (text) => [...new Set(text.match(/\\{\\w+\\}/g) ?? [])].sort().join();
          const keys = Object.values(TEXTS).map((texts) => Object.keys(texts));
          return [keys, keys[0].filter((key) => places(TEXTS.en[key]) !== places(TEXTS.zh[key]))];
        }"""
    )
    assert keys[0] == keys[1]
    assert places == []


def test_without_scripts_there_is_a_search_and_the_way_to_the_calls(
    browser: Browser, books: Running
):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(books.url)
    expect(page.get_by_role("heading", name="This page needs JavaScript")).to_be_visible()
    expect(page.locator("main")).to_be_hidden()
    expect(page.locator("noscript pre")).to_contain_text("curl THIS_PAGE/candidates")
    for link in page.locator("noscript a, .noscript a").all():
        assert books.http.get(f"/{link.get_attribute('href')}").status_code == 200
    page.locator("noscript input").fill("三体")
    page.locator("noscript button").click()
    assert '"id":3' in page.content()
    context.close()
