# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page in a headless Chromium, watched: what it asks for, and what its console says."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from running_service import until

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, PROGRAMS)), None)
if PROGRAM is None:
    pytest.skip(
        "the page's tests need a Chromium: apt-get install chromium", allow_module_level=True
    )
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a fresh profile.

    For a module's tests at most: as long as it is there, asyncio takes the main thread's loop for
    a running one.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=PROGRAM, headless=True, chromium_sandbox=False, args=FLAGS
        )
        with contextlib.closing(browser):
            yield browser


@dataclass
class View:
    """One visitor's page."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Of the console, and errors that nothing caught."""

    def __getitem__(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def open(self, address: str = "/") -> None:
        self.page.goto(self.url + address)
        self.settled()

    def settled(self) -> None:
        """Wait for the answer of what was asked last."""
        expect(self["#results"]).to_have_attribute("aria-busy", "false")

    def find(self, text: str) -> Locator:
        """Type into the search; the titles that are found."""
        self["#search"].fill(text)
        expect(self["#found"]).to_be_visible()
        return self["#found [role=option]"]

    def pick(self, *titles: str) -> None:
        for title in titles:
            self.find(title)
            option = self.page.get_by_role("option").filter(has_text=re.compile(f"^{title}(?!\\d)"))
            option.first.click()
            self.settled()

    def ids(self, selector: str) -> list[int]:
        """Items of a list, as shown."""
        found: list[int] = self[f"{selector} > li:not([hidden])"].evaluate_all(
            "rows => rows.map((row) => Number(row.dataset.id))"
        )
        return found

    @property
    def picked(self) -> list[int]:
        return self.ids("#picked")

    @property
    def cards(self) -> list[int]:
        return self.ids("#cards")

    def shows(self, answer: dict[str, Any]) -> None:
        """Wait until the cards are the candidates of an answer."""
        until(lambda: self.cards == answer["candidates"][0])

    def slide(self, label: str, key: str, times: int = 1) -> None:
        """Move a slider by its keys."""
        slider = self.page.get_by_role("slider", name=label)
        for _ in range(times):
            slider.press(key)


@contextlib.contextmanager
def viewing(
    browser: Browser, url: str, expected: str = "(?!)", address: str = "/", **options: Any
) -> Iterator[View]:
    """A visitor with nothing kept; afterwards: no foreign request, no word of the console.

    ``expected`` is a pattern of what the console may say: the browser itself tells of each answer
    that is none of 200 … 399.
    """
    with contextlib.closing(browser.new_context(**options)) as context:
        view = View(context.new_page(), url)
        view.page.set_default_timeout(10_000)
        context.on("request", lambda request: view.requests.append(request.url))
        view.page.on("console", lambda message: view.problems.append(message.text))
        view.page.on("pageerror", lambda error: view.problems.append(str(error)))
        view.open(address)
        yield view
        view.page.wait_for_timeout(1)  # what was said meanwhile arrives
    foreign = [asked for asked in view.requests if not asked.startswith(f"{url}/")]
    assert not foreign, foreign
    said = [problem for problem in view.problems if not re.search(expected, problem)]
    assert not said, said
