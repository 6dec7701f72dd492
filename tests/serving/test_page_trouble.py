# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the page says when something is wrong, and how it looks where there is little room."""

from __future__ import annotations

import pytest
from page_checks import FAINT_TEXTS, PHONE, SMALL_TARGETS, fits
from page_view import viewing
from playwright.sync_api import Browser, Route, expect
from running_service import Running, running, until

from paddlerec_milvus.serving.auth import Keys

pytestmark = pytest.mark.slow

PICK = "Category 2, item 1"
KEY = "a-key-to-read-with"


def test_a_service_that_is_away_and_comes_back(browser: Browser, service: Running):
    with viewing(browser, service.url, "ERR_INTERNET_DISCONNECTED") as view:
        view.pick(PICK)
        before = view.cards
        view.page.context.set_offline(True)
        view["#cards button"].first.click()
        expect(view["#trouble"]).to_contain_text("The service is away.")
        assert len(view.picked) == 2
        assert view.cards == before
        expect(view["#trouble"]).to_contain_text("What is below is of an earlier answer.")
        expect(view["#model"]).to_have_text("No answer")
        view["#search"].fill("category")
        expect(view["#trouble"]).to_be_visible()
        view.page.context.set_offline(False)
        view["#retry"].click()
        expect(view["#trouble"]).to_be_hidden()
        view.shows(service.candidates(view.picked, top_k=50))


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(browser: Browser, make_settings):
    settings = make_settings(keys=Keys.parse(f"read:{KEY}"))
    with running(settings) as closed, viewing(browser, closed.url, "401|503") as view:
        expect(view["#trouble"]).to_contain_text("A key is needed.")
        field = view.page.get_by_label("API key")
        expect(field).to_be_focused()
        field.fill("a wrong one")
        field.press("Enter")
        expect(view["#trouble"]).to_contain_text("This key does not fit.")
        field.fill(KEY)
        view.page.get_by_role("button", name="Use this key").click()
        expect(view["#trouble"]).to_be_hidden()
        assert len(view.cards) == 50
        assert not [asked for asked in view.requests if KEY in asked]
        assert KEY not in view.page.content()
        kept = "[Object.values(sessionStorage), Object.values(localStorage), document.cookie]"
        assert view.page.evaluate(kept) == [[KEY], [], ""]
        view.find("category")
        view["#search"].press("Escape")
        view["#key-forget"].click()
        expect(view["#trouble"]).to_contain_text("A key is needed.")
        assert view.page.evaluate("sessionStorage.length") == 0


def test_a_refused_request_names_its_field(browser: Browser, make_settings):
    with (
        running(make_settings(max_top_k=20)) as small,
        viewing(browser, small.url, "422|503") as view,
    ):
        expect(view["#trouble"]).to_contain_text("top_k: at most 20 candidates.")
        view.slide("Candidates", "Home")
        expect(view["#trouble"]).to_be_hidden()
        assert len(view.cards) == 10


def test_popular_items_in_place_of_the_models_are_called_so(browser: Browser, empty: Running):
    with viewing(browser, empty.url, "503") as view:
        expect(view["#model"]).to_contain_text("Not ready: no item vectors are stored")
        view.pick(PICK)
        expect(view["#headline"]).to_have_text("Popular items")
        expect(view["#source"]).to_contain_text("The model could not be asked just now")
        expect(view["#cards .badge:visible"]).to_have_count(0)
        expect(view["#legend"]).to_be_hidden()


def test_a_service_that_gets_ready_is_told_so(browser: Browser, empty: Running):
    with viewing(browser, empty.url, "503") as view:
        assert empty.http.post("/insert").status_code == 200
        view.pick(PICK)
        expect(view["#headline"]).to_have_text("Candidates")
        expect(view["#model"]).to_contain_text("Ready: 300 items of mind, epoch 0")


def test_too_few_picks_are_called_so(browser: Browser, make_settings):
    with running(make_settings(least_history=2)) as started:
        assert started.http.post("/insert").status_code == 200
        with viewing(browser, started.url) as view:
            view.pick(PICK)
            expect(view["#source"]).to_contain_text("Too few picks for the model yet")
            view.pick("Category 1, item 1")
            expect(view["#headline"]).to_have_text("Candidates")


def test_an_answer_that_comes_after_a_newer_one_is_dropped(browser: Browser, service: Running):
    with viewing(browser, service.url) as view:
        held: list[Route] = []
        view.page.route("**/candidates", lambda route: held.append(route), times=1)
        view.find(PICK).first.click()
        until(lambda: len(held) == 1 and view.page.wait_for_timeout(1) is None)
        view.find("Category 3, item 1").first.click()
        newer = service.candidates(view.picked, top_k=50)
        view.shows(newer)
        late = service.candidates(view.picked[:1], top_k=50)
        assert late["candidates"] != newer["candidates"]
        held[0].fulfill(json=late)
        view.page.wait_for_timeout(50)
        assert view.cards == newer["candidates"][0]
        expect(view["#trouble"]).to_be_hidden()


def test_a_title_is_text_whatever_is_in_it(browser: Browser, make_settings, trained, tmp_path):
    bad = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    rows = (trained.data / "items.csv").read_text().splitlines()
    rows[1:4] = [f"1,1,{bad},<b>bold</b>", f"2,2,{'endless' * 40},{'category' * 30}", "3,3,,"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "items.csv").write_text("\n".join(rows) + "\n")
    settings = make_settings()
    runner = {"train_data_dir": str(tmp_path / "data" / "train")}
    model = settings.model.model_copy(
        update={"runner": settings.model.runner.model_copy(update=runner)}
    )
    with (
        running(settings.model_copy(update={"model": model})) as service,
        viewing(browser, service.url, "503", viewport=PHONE) as view,
    ):
        expect(view["#cards .title"].nth(0)).to_have_text(bad)
        expect(view["#cards .title"].nth(2)).to_have_text("Item 3")
        for _ in range(3):
            view["#cards button"].first.click()
            view.settled()
        expect(view["#picked .title"].first).to_have_text(bad)
        assert view.find("script").all_inner_texts()[0].startswith(bad)
        fits(view)


def test_a_phone_shows_all_of_it(browser: Browser, service: Running):
    with viewing(browser, service.url, viewport=PHONE, has_touch=True, is_mobile=True) as view:
        fits(view)
        view["#example"].tap()
        expect(view["#legend"]).to_be_visible()
        fits(view)
        view.find("category 1")
        fits(view)
        view["#search"].press("Escape")
        expect(view["#top-k"]).to_be_hidden()
        view["#settings > summary"].tap()
        expect(view["#top-k"]).to_be_visible()
        fits(view)
        small = view.page.evaluate(SMALL_TARGETS)
        assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_by_day_and_night(browser: Browser, make_settings, scheme: str):
    settings = make_settings(keys=Keys.parse(f"read:{KEY}"))
    with (
        running(settings) as closed,
        viewing(browser, closed.url, "401|503", color_scheme=scheme) as view,
    ):
        assert view.page.evaluate(FAINT_TEXTS) == []
        view.page.get_by_label("API key").fill(KEY)
        view["#key-form button"].click()
        expect(view["#cards > li"]).to_have_count(50)
        assert view.page.evaluate(FAINT_TEXTS) == []
        view.find("category")
        assert view.page.evaluate(FAINT_TEXTS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_candidates_stand_out_by_day_and_night(browser: Browser, service: Running, scheme: str):
    with viewing(browser, service.url, color_scheme=scheme) as view:
        view.pick(PICK)
        view["#legend button:enabled"].first.click()
        assert view.page.evaluate(FAINT_TEXTS) == []


def test_nothing_moves_for_those_who_asked_for_that(browser: Browser, service: Running):
    with viewing(browser, service.url, reduced_motion="reduce") as view:
        moving = """[...document.querySelectorAll("*")].filter((each) =>
          ["", "::before", "::after"].some((part) => {
            const style = getComputedStyle(each, part || null);
            return [style.transitionDuration, style.animationDuration].some((time) =>
              time.split(",").some((each) => parseFloat(each) > 0));
          })).map((each) => each.className)"""
        assert view.page.evaluate(moving) == []
