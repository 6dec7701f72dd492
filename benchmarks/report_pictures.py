# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Pictures of an index report as a browser shows it: wide and narrow, light and dark, for docs."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

from paddlerec_milvus.bench.report.document import report_of
from paddlerec_milvus.bench.report.html import as_html
from paddlerec_milvus.bench.report.view import view_of
from paddlerec_milvus.bench.results_file import read_rows
from paddlerec_milvus.command import run
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import UserError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
LARGEST = 150_000  # bytes


class Picture(NamedTuple):
    """A size, a colour scheme, and the heading that stands at the top (none: the page's top)."""

    name: str
    width: int
    height: int
    dark: bool
    heading: str = ""


PICTURES = (
    Picture("report-wide-light", 1440, 1000, dark=False),
    Picture("report-wide-dark", 1440, 1000, dark=True, heading="Charts"),
    Picture("report-narrow-light", 390, 844, dark=False),
    Picture("report-narrow-dark", 390, 844, dark=True, heading="Charts"),
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser with a fresh profile. UserError: none is installed."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise UserError("there is no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, chromium_sandbox=False, args=["--disable-gpu"]
        )
        with closing(browser):
            yield browser


def taken(browser: Browser, page: Path, picture: Picture) -> bytes:
    """A PNG of the file ``page``."""
    context = browser.new_context(
        viewport={"width": picture.width, "height": picture.height},
        color_scheme="dark" if picture.dark else "light",
    )
    with closing(context):
        view = context.new_page()
        view.goto(page.resolve().as_uri())
        if picture.heading:
            heading = view.get_by_role("heading", name=picture.heading, exact=True)
            heading.evaluate("heading => heading.scrollIntoView()")
        return view.screenshot()


def write_pictures(results: Path, folder: Path) -> None:
    """The four pictures of a run's page. UserError: no run, no browser, a picture too large."""
    view = view_of(read_rows(results))
    with TemporaryDirectory(prefix="paddlerec-milvus-") as scratch, chromium() as browser:
        page = Path(scratch) / "report.html"
        page.write_text(as_html(view, report_of(view)), encoding="utf-8")
        for picture in PICTURES:
            content = taken(browser, page, picture)
            if len(content) > LARGEST:
                raise UserError(f"{picture.name}: {len(content):,} bytes, at most {LARGEST:,}")
            with replacing(folder / f"{picture.name}.png") as fresh:
                fresh.write_bytes(content)
            print(f"{folder / picture.name}.png: {len(content):,} bytes")


def main() -> int:
    """Exit code 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, metavar="DIR", help="a run, as index_goodbooks_mix")
    parser.add_argument("folder", type=Path, metavar="IMAGES", help="where the pictures go")
    arguments = parser.parse_args()
    return run(lambda: write_pictures(arguments.results, arguments.folder))


if __name__ == "__main__":
    sys.exit(main())
