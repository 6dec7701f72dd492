# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The pages of runs in a real browser: accessible, sortable, filterable, and without scripts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rows_for_report import everything, results, view

from paddlerec_milvus.bench.report.compare_document import comparison_of
from paddlerec_milvus.bench.report.compare_page import write_comparison
from paddlerec_milvus.bench.report.document import report_of
from paddlerec_milvus.bench.report.html import as_html
from paddlerec_milvus.bench.report.runs import write_runs
from paddlerec_milvus.bench.results_file import FILE, line_of

pytest.importorskip("jinja2")
pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, expect
from report_pictures import PICTURES, PROGRAMS, chromium, taken

pytestmark = pytest.mark.slow
if not any(map(shutil.which, PROGRAMS)):
    pytest.skip("needs a Chromium: apt-get install chromium", allow_module_level=True)

WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
PAGES = ("report.html", "compare.html", "index.html")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of each kind."""
    folder, rows = tmp_path_factory.mktemp("runs"), everything()
    for name in ("before", "after"):
        (folder / name).mkdir()
        lines = "".join(f"{line_of(result)}\n" for result in results(rows))
        (folder / name / FILE).write_text(lines, encoding="utf-8")
    write_runs(folder)
    shown = view(rows)
    (folder / "report.html").write_text(as_html(shown, report_of(shown)), encoding="utf-8")
    faster = everything()
    for row in faster:
        for load in row.get("throughput", ()):
            load["users_per_second"] *= 1.2
    comparison = comparison_of(results(rows), results(faster))
    write_comparison(comparison, ("before", "after"), folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@contextmanager
def shown(browser: Browser, file: Path, **options: Any) -> Iterator[Page]:
    """A page; afterwards: it loaded itself alone, and its console said nothing."""
    asked, said = [], []
    with closing(browser.new_context(**options)) as context:
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(file.as_uri())
        yield page
        assert said == []
        local = [url for url in asked if url.startswith(("file:", "data:"))]
        assert asked == local


def names_in(page: Page, title: str = "Settings") -> list[str]:
    """The first cells of the rows that are seen in a table, from above."""
    rows = page.get_by_role("region", name=title, exact=True).locator("tbody tr:not(.off) th")
    return rows.all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_and_nothing_sticks_out(
    browser: Browser, pages: Path, name: str, size: Any, scheme: Any
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with shown(browser, pages / name, viewport=size, color_scheme=scheme) as page:
        broken = axe.run(page).response["violations"]
        assert [(rule["id"], rule["impact"], rule["help"]) for rule in broken] == []
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size["width"]
        small = page.locator(".chart:not(.legend *) text").evaluate_all(
            "texts => texts.filter(text => text.getBoundingClientRect().height < 9).length"
        )
        assert small == 0


@pytest.mark.parametrize("name", PAGES)
def test_without_scripts_all_words_tables_and_charts_are_there(
    browser: Browser, pages: Path, name: str
) -> None:
    with shown(browser, pages / name, java_script_enabled=False, viewport=WIDE) as page:
        assert page.get_by_role("button").count() == 0
        assert page.get_by_role("textbox").count() == 0
        text = page.locator("main").inner_text()
        if name == "index.html":
            assert "before and after: " in text
            return
        expect(page.locator(".chart").last).to_be_visible()
        assert page.locator("tbody tr").count() > 60
        assert page.locator(".charts .chart").count() >= 7
        words = "Advice." if name == "report.html" else "numbers compared"
        expect(page.locator(".advice").get_by_text(words)).to_be_visible()


def test_a_column_sorts_both_ways_and_back(browser: Browser, pages: Path) -> None:
    with shown(browser, pages / "report.html", viewport=WIDE) as page:
        table = page.get_by_role("region", name="Settings", exact=True)
        first, title = names_in(page), table.get_by_role("button", name=re.compile("users.s"))
        head = table.get_by_role("columnheader", name=re.compile("users.s"))

        def rates() -> list[float]:
            cells = table.locator("tbody tr td:nth-of-type(5)").all_inner_texts()
            return [float(cell.replace(",", "")) for cell in cells]

        title.focus()
        page.keyboard.press("Enter")
        expect(head).to_have_attribute("aria-sort", "ascending")
        assert rates() == sorted(rates())
        page.keyboard.press("Enter")
        expect(head).to_have_attribute("aria-sort", "descending")
        assert rates() == sorted(rates(), reverse=True)
        page.keyboard.press("Enter")
        assert names_in(page) == first
        table.get_by_role("button", name=re.compile("lost")).click()  # a mean, whatever it says
        values = table.locator("tbody td[data-value]").evaluate_all(
            "cells => cells.map(cell => Number(cell.dataset.value))"
        )
        assert values == sorted(values)


def test_filters_and_the_legend_hide_the_same_everywhere(browser: Browser, pages: Path) -> None:
    with shown(browser, pages / "report.html", viewport=WIDE) as page:
        everyone = names_in(page)
        page.get_by_label("Setting contains").fill("hnsw 16")
        assert names_in(page) == [name for name in everyone if name.startswith("HNSW M 16,")]
        assert names_in(page, "More on each setting") == names_in(page)
        seen = page.locator(".chart .point:not(.off)").evaluate_all(
            "points => [...new Set(points.map(point => point.dataset.words.split('\\n')[0]))]"
        )
        assert sorted(seen) == sorted(names_in(page))
        expect(page.get_by_role("status")).to_have_text(f"5 of {len(everyone)} settings shown")
        page.get_by_role("button", name="Show all").click()
        expect(page.get_by_role("status")).to_have_text(
            f"{len(everyone)} of {len(everyone)} settings shown"
        )
        page.get_by_label("p99 at most").fill("2.5")
        assert 0 < len(names_in(page)) < len(everyone)
        page.get_by_label("p99 at most").fill("")
        entry = page.get_by_role("button", name="FLAT", exact=True)
        entry.click()
        expect(entry).to_have_attribute("aria-pressed", "false")
        assert names_in(page) == [name for name in everyone if name != "FLAT"]
        page.get_by_label("meets the advice's target").check()
        page.get_by_label("RSS at most").fill("200")
        rows = page.get_by_role("region", name="Settings", exact=True).locator("tr:not(.off)")
        assert all(float(rss) <= 200 for rss in rows.locator("td:nth-of-type(8)").all_inner_texts())


def test_a_point_shows_its_numbers_and_its_rows(browser: Browser, pages: Path) -> None:
    with shown(browser, pages / "report.html", viewport=WIDE) as page:
        point = page.locator(".charts .point").nth(3)
        point.scroll_into_view_if_needed()
        point.hover(force=True)
        tip = page.locator(".tip")
        expect(tip).to_be_visible()
        name, *numbers = tip.inner_text().splitlines()
        assert any(line.startswith("index_recall@50: ") for line in numbers)
        hot = page.locator("tr.hot th").all_inner_texts()
        assert set(hot) == {name}
        assert len(hot) >= 3


def test_the_line_to_paste_is_copied(browser: Browser, pages: Path) -> None:
    with shown(browser, pages / "report.html", viewport=WIDE) as page:
        page.get_by_role("button", name="Copy").first.click()
        chosen = page.evaluate("getSelection().toString()")
        assert chosen.startswith("-o index.type=")
        expect(page.get_by_role("button", name="Copied")).to_be_visible()


def test_the_tab_key_goes_down_the_page(browser: Browser, pages: Path) -> None:
    """Everything that can be used is reached, in the order in which it stands, and is seen."""
    with shown(browser, pages / "report.html", viewport=WIDE) as page:
        count = page.evaluate(
            "all('a[href], button, input, [tabindex=\"0\"]').map((part, n) => part.dataset.n = n)"
            ".length"
        )
        order = []
        for _ in range(count):
            page.keyboard.press("Tab")
            order.append(page.evaluate("Number(document.activeElement.dataset.n)"))
            ring = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(ring) == "solid"
        assert order == list(range(count))
        assert (
            page.locator("input:not([aria-label])").evaluate_all(
                "inputs => inputs.filter(input => !input.labels.length).length"
            )
            == 0
        )


def test_two_runs_of_the_list_are_chosen_for_comparison(browser: Browser, pages: Path) -> None:
    with shown(browser, pages / "index.html", viewport=NARROW) as page:
        expect(page.get_by_role("status")).to_have_text("Tick two runs above to compare them.")
        for name in ("before", "after"):
            page.get_by_label(f"compare {name}").check()
        page.get_by_role("status").get_by_role("link").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Two runs side by side")


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_pictures_for_docs_are_small(browser: Browser, pages: Path, picture: Any) -> None:
    content = taken(browser, pages / "report.html", picture)
    assert content.startswith(b"\x89PNG")
    assert len(content) <= 250_000
