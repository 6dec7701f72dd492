# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page for everybody: axe-core, contrast, labels, tab order; wide and narrow, light and dark.

That no request leaves the machine is asserted by ``viewing``, wherever the page is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from page_checks import DESK, PHONE, nothing_is_serious, serious_findings, tab_comes_to_all
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
            nothing_is_serious(view, size)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_serious(
    browser: Browser, books: Running, size: dict[str, int], scheme: str
):
    options: dict[str, Any] = {"viewport": size, "color_scheme": scheme}
    for address, prepare in STATES:
        with viewing(browser, books.url, address=address, **options) as view:
            prepare(view)
            assert serious_findings(view) == [], (address, prepare.__name__)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_tab_comes_to_every_control_in_the_order_in_which_they_are_read(
    browser: Browser, books: Running, size: dict[str, int]
):
    for prepare in (opened, with_settings, compared):
        with viewing(browser, books.url, address=ADDRESS, viewport=size) as view:
            view.slide("Candidates", "Home") if size is DESK else None
            prepare(view)
            view.settled()
            tab_comes_to_all(view)


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
