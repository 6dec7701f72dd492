# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``paddlerec-milvus doctor``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from paddlerec_milvus.bundle import zoos
from paddlerec_milvus.doctor import package_checks
from paddlerec_milvus.doctor.finding import Finding
from paddlerec_milvus.subcommands import CommandParser

EXAMPLES = """\
examples:
  paddlerec-milvus doctor
  MILVUS_URI=http://127.0.0.1:19530 paddlerec-milvus doctor    # looks at that server, too

Each line is ok, note (good to know, or a part that is not installed) or wrong, with what to do.
Exit code 0: nothing is wrong; 1: something is.
"""

COLORS = {"ok": "\x1b[32m", "note": "\x1b[33m", "wrong": "\x1b[31m"}
WIDTH = 18  # of the subjects


def findings() -> Iterator[Finding]:
    """All that is looked at, each when it is known: packages first, which the rest needs."""
    whole = True
    for finding in package_checks.packages():
        whole = whole and finding.state != "wrong"
        yield finding
    yield zoo()
    if not whole:
        yield Finding("note", "the rest", "is looked at once these packages are there")
        return
    from paddlerec_milvus.doctor import machine_checks, milvus_checks

    here = Path.cwd()
    yield machine_checks.processor()
    yield machine_checks.memory()
    yield machine_checks.disk(here)
    yield machine_checks.working_directory(here)
    yield machine_checks.python()
    yield from filter(None, [package_checks.paddle()])
    yield milvus_checks.lite()
    yield from filter(None, [milvus_checks.server(os.environ)])


def zoo() -> Finding:
    """The models that ``-m`` finds by name."""
    names = sorted({yaml.parent.name for place in zoos() for yaml in place.glob("*/*/config.yaml")})
    if not names:
        words = f"no model in {' or '.join(map(str, zoos()))}"
        return Finding("wrong", "models", words, "install the wheel, or the checkout, again")
    return Finding("ok", "models", ", ".join(names))


def line_of(finding: Finding, colored: bool) -> str:
    """``finding`` as it is printed, with its remedy below."""
    color, plain = (COLORS[finding.state], "\x1b[0m") if colored else ("", "")
    line = f"{color}{finding.state:5}{plain}  {finding.subject:{WIDTH}}  {finding.words}"
    return f"{line}\n{'':{WIDTH + 7}}  → {finding.remedy}" if finding.remedy else line


def main(argv: Sequence[str] | None = None) -> int:
    """0: nothing is wrong; 1: something is."""
    parser = CommandParser(
        prog="paddlerec-milvus doctor",
        description="Say what of this machine, its packages and Milvus is fine, and what to do "
        "where it is not. Nothing is changed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.parse_args(argv)
    colored = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    wrong = []
    for finding in findings():
        print(line_of(finding, colored), flush=True)
        if finding.state == "wrong":
            wrong.append(finding.subject)
    print(f"to mend: {', '.join(wrong)}" if wrong else "nothing is wrong")
    return int(bool(wrong))
