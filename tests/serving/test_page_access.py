# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page for everybody: axe-core, contrast, labels, tab order; wide and narrow, light and dark.

That no request leaves the machine is asserted by ``viewing``, wherever the page is opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from page_checks import (
    CONTROLS,
    DESK,
    FAINT_TEXTS,
    HEADINGS,
    NAMELESS,
    PHONE,
    SMALL_TARGETS,
    fits,
    tab_stops,
)
from page_view import View, viewing
from playwright.sync_api import Browser, expect
from running_service import Running

pytestmark = pytest.mark.slow

ADDRESS = "/#picked=3,7,12"


def opened(view: View) -> None:
    """As an address brings it."""


def searched(view: View) -> None:
    view.find("book")


def with_settings(view: View) -> None:
    if not view["#top-k"].is_visible():
        view["#settings > summary"].click()
    view["#filters summary"].click()
    view["#categories input"].first.check()
    view["#model"].click()
    view.settled()


def with_details(view: View) -> None:
    view["#cards .about"].first.click()
    expect(view["#about .scores"]).to_be_visible()


def compared(view: View) -> None:
    view["#compare"].select_option("popular")
    expect(view["#beside"]).to_be_visible()


STATES: list[tuple[str, Callable[[View], None]]] = [
    ("/", opened),
    (ADDRESS, opened),
    (ADDRESS, searched),
    (ADDRESS, with_settings),
    (ADDRESS, with_details),
    (ADDRESS, compared),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_nothing_serious_is_found(
    browser: Browser, books: Running, size: dict[str, int], scheme: str
):
    options: dict[str, Any] = {"viewport": size, "color_scheme": scheme}
    for address, prepare in STATES:
        with viewing(browser, books.url, address=address, **options) as view:
            prepare(view)
            fits(view)
            assert view.page.evaluate(FAINT_TEXTS) == []
            assert view.page.evaluate(NAMELESS) == []
            levels = view.page.evaluate(HEADINGS)
            assert levels[0] == 1
            assert all(now <= before + 1 for before, now in itertools.pairwise(levels))
            if size is PHONE:
                assert view.page.evaluate(SMALL_TARGETS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_serious(
    browser: Browser, books: Running, size: dict[str, int], scheme: str
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    options: dict[str, Any] = {"viewport": size, "color_scheme": scheme}
    for address, prepare in STATES:
        with viewing(browser, books.url, address=address, **options) as view:
            prepare(view)
            found = axe.run(view.page).response["violations"]
            serious = [
                (rule["id"], rule["impact"], [node["html"] for node in rule["nodes"]][:3])
                for rule in found
                if rule["impact"] in ("serious", "critical")
            ]
            assert serious == [], (address, prepare.__name__)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_tab_comes_to_every_control_in_the_order_in_which_they_are_read(
    browser: Browser, books: Running, size: dict[str, int]
):
    for prepare in (opened, with_settings, compared):
        with viewing(browser, books.url, address=ADDRESS, viewport=size) as view:
            view.slide("Candidates", "Home") if size is DESK else None
            prepare(view)
            view.settled()
            controls, before = view.page.evaluate(CONTROLS), None
            while controls != before:  # names of categories may still come
                view.page.wait_for_timeout(500)
                controls, before = view.page.evaluate(CONTROLS), controls
            stops = tab_stops(view)
            assert stops == sorted(stops)
            places = {stop.partition(" ")[0] for stop in stops}
            assert [one for one in controls if one.partition(" ")[0] not in places] == []


def test_the_head_says_what_readers_and_phones_need(browser: Browser, books: Running):
    with viewing(browser, books.url) as view:
        page = view.page
        assert page.title() == "Candidates"
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.locator("meta[name=description]").get_attribute("content")
        sizes = page.locator("meta[name=viewport]").get_attribute("content") or ""
        assert "user-scalable" not in sizes
        assert "maximum-scale" not in sizes
        expect(page.locator("h1")).to_have_count(1)
        expect(page.get_by_role("main")).to_have_count(1)
