# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The maps in docs/design, in both languages, and CONTRIBUTING show the tree as it is."""

from __future__ import annotations

import re

import pytest
from support import ROOT

PACKAGE = ROOT / "paddlerec_milvus"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
DESIGN = ("docs/design.md", "docs/design.zh.md")
OTHER_FOLDERS = {"build", "demo", "dist", "log", "output_bench"}  # what commands leave behind


def lines_of_map(text: str) -> list[str]:
    """The lines of the code block that shows folders."""
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if "\npaddlerec_milvus/" in f"\n{block}").splitlines()


def named_paths(file: str) -> set[str]:
    """Every path that a design page's map names, from the root."""
    paths = set[str]()
    for line in lines_of_map((ROOT / file).read_text(encoding="utf-8")):
        names = re.split(r"\s{2,}", line.strip(), maxsplit=1)[0].split()
        parent = "paddlerec_milvus/" if line.startswith("  ") else ""
        paths |= {(parent + name).rstrip("/") for name in names}
    return paths


@pytest.mark.parametrize("file", DESIGN)
def test_a_design_page_names_every_folder_and_nothing_else(file):
    paths = named_paths(file)
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    folders = {
        str(folder.relative_to(ROOT))
        for parent in (ROOT, PACKAGE)
        for folder in parent.iterdir()
        if any(folder.glob("**/*.py")) and folder.name not in OTHER_FOLDERS
    }
    unnamed = [
        folder
        for folder in sorted(folders)
        if not folder.startswith(".")
        and not folder.endswith("egg-info")
        and not any(path == folder or path.startswith(f"{folder}/") for path in paths)
    ]
    assert unnamed == []


def test_both_languages_name_the_same():
    assert named_paths(DESIGN[0]) == named_paths(DESIGN[1])


def test_contributing_names_every_module_and_nothing_else():
    modules, folder = set[str](), ""
    for line in lines_of_map(CONTRIBUTING.read_text(encoding="utf-8")):
        name = line.split()[0]
        if name.endswith("/"):
            folder = name
        else:
            modules.add(folder + name)
    files = {
        str(file.relative_to(ROOT)) for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"
    }
    assert modules == files


def test_where_to_change_what_leads_to_files():
    table = re.findall(
        r"^\| .* \| (.*) \|$", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE
    )
    named = {path for cell in table for path in re.findall(r"`([\w/]+/[\w/.]+)`", cell)}
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
