# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The pages of the documentation and the commands in them.

A block of commands begins with ```` ```bash ````. One that no test runs has the reason before it:
``<!-- not tested: REASON -->``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from support import ROOT

ENGLISH = [
    "README.md",
    *sorted(
        str(file.relative_to(ROOT))
        for file in (ROOT / "docs").rglob("*.md")
        if not file.name.endswith(".zh.md")
    ),
]
BLOCK = re.compile(
    r"^ *(?:<!-- not tested: (?P<reason>[^\n]+) -->\n *)?```bash\n(?P<code>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """Commands, a line each and without remarks; ``reason``: why no test runs them."""

    page: str
    commands: list[str]
    reason: str | None


def chinese(page: str) -> str:
    return "README_CN.md" if page == "README.md" else page.replace(".md", ".zh.md")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    return [
        Block(page, [_plain(line) for line in block["code"].splitlines()], block["reason"])
        for block in BLOCK.finditer(text_of(page))
    ]


def _plain(line: str) -> str:
    return re.sub(r"\s+#.*", "", line.strip())


def links_of(page: str) -> list[Path]:
    """Files and folders of the repository that a page links to."""
    links = re.findall(r"\]\(([^)\s#:]+)[)#]", text_of(page))
    return [(ROOT / page).parent / link for link in links]
