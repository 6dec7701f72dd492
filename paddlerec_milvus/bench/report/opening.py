# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``--open``: a page in the browser of this machine, where it has one to show it on."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from paddlerec_milvus.errors import UserError

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def open_page(page: Path) -> None:
    """Show the file ``page`` in the browser; where that cannot be, say so, and where it lies."""
    if has_display() and webbrowser.open(page.resolve().as_uri()):
        return
    print(
        f"no browser can be opened on this machine; the page is {page.resolve()}: open it where "
        "there is one (it is a single file that needs nothing else)",
        file=sys.stderr,
    )


def has_display() -> bool:
    """Whether a browser has a screen to open on; one of the terminal would not show a chart."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, DISPLAYS))


def newest_report(folder: Path) -> Path:
    """The report of the run in ``folder`` that was written last. UserError: there is none."""
    pages = list(folder.glob("*/report.html"))
    if not pages:
        raise UserError(
            f"{folder} holds no report yet: measure first (-s YAML), or name a results folder "
            "(--report DIR --open)"
        )
    return max(pages, key=lambda page: page.stat().st_mtime)
