# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Write the pictures of the page that the documentation shows, from a service that runs.

    make serve   # in another terminal; the version before is compared once there was an insert more
    .venv/bin/python tests/serving/page_pictures.py http://127.0.0.1:8000 docs/images

Chinese needs a font that has it.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from page_checks import DESK, PHONE
from page_view import View, chromium, viewing
from PIL import Image
from playwright.sync_api import Browser, expect

MOST_BYTES = 150_000
COLOURS = (256, 128, 64, 32)  # the first with which a picture is small enough


def picture_of(view: View, file: Path) -> None:
    """What is in the window, with few colours, without the times: they are this machine's."""
    view["#timing"].evaluate("timing => { timing.hidden = true; }")
    view.page.wait_for_timeout(500)
    whole = Image.open(io.BytesIO(view.page.screenshot())).convert("RGB")
    for colours in COLOURS:
        few = whole.quantize(colours, dither=Image.Dither.NONE)
        few.save(file, optimize=True)
        if file.stat().st_size <= MOST_BYTES:
            break
    print(f"{file}: {file.stat().st_size:,} bytes")


def pictures(browser: Browser, url: str, folder: Path, picks: str, beside: str) -> None:
    """Four of them: wide and narrow, light and dark, English and Chinese."""
    address = f"/#picked={picks}"

    def seen(place: str, **options: Any) -> Any:
        return viewing(browser, url, address=place, **options)

    with seen(address, viewport=DESK) as view:
        picture_of(view, folder / "page-list.png")
    with seen(f"{address}&compare={beside}", viewport=DESK, color_scheme="dark") as view:
        expect(view["#beside"]).to_be_visible()
        picture_of(view, folder / "page-compare.png")
    with seen(address, viewport=PHONE, color_scheme="dark") as view:
        view["#cards .about"].first.click()
        expect(view["#about .scores"]).to_be_visible()
        picture_of(view, folder / "page-details-phone.png")
    with seen(address, viewport=PHONE, locale="zh-CN") as view:
        view["#headline"].scroll_into_view_if_needed()
        picture_of(view, folder / "page-chinese-phone.png")


def main() -> int:
    """Take them all; exit code 1 where one is too large."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url", help="of the service, without a slash at its end")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--picks", default="1,2,30,40,100,200", help="ids (%(default)s)")
    parser.add_argument("--beside", default="before", help="what is compared (%(default)s)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        pictures(browser, *vars(arguments).values())
    sizes = [file.stat().st_size for file in arguments.folder.glob("page-*.png")]
    return int(max(sizes) > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
