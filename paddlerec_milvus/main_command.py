# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``paddlerec-milvus SUBCOMMAND``: calls the command line of that name, and imports no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from paddlerec_milvus import __version__
from paddlerec_milvus.errors import MissingPackageError, nearest, redacted
from paddlerec_milvus.subcommands import PROGRAM, SUBCOMMANDS

EXAMPLES = f"""\
examples:
  {PROGRAM} demo
  {PROGRAM} prepare --interactions clicks.csv --out datasets/mine
  {PROGRAM} train -m mind/config.yaml --data datasets/mine
  {PROGRAM} infer -m mind/config.yaml --data datasets/mine -top_n 50 --baselines
  {PROGRAM} train --help
"""


def usage() -> str:
    """The help of the command itself: a line for each subcommand, in the order of their use."""
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in SUBCOMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} [-h] [--version] SUBCOMMAND …",
            "",
            "From a click log to a recall model in PaddlePaddle, its vectors in Milvus, measured",
            "lists of candidates and a service.",
            "",
            "subcommands, each with a --help of its own:",
            *lines,
            "",
            EXAMPLES,
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The subcommand's exit code; 2 for an unknown one, and for a package that is missing."""
    name, *words = list(sys.argv[1:] if argv is None else argv) or [""]
    if name in ("-h", "--help"):
        print(usage(), end="")
        return 0
    if name == "--version":
        print(f"{PROGRAM} {__version__}")
        return 0
    if name not in SUBCOMMANDS:
        print(usage(), end="", file=sys.stderr)
        if name:
            hint = nearest(name, SUBCOMMANDS)
            print(f"error: {redacted(name)}: no such subcommand{hint}", file=sys.stderr)
        return 2
    sys.argv = [f"{PROGRAM} {name}", *words]  # what the subcommand's help and errors call it
    try:
        module = import_module(f"paddlerec_milvus.{SUBCOMMANDS[name].module}")
        subcommand: Callable[[Sequence[str]], int] = module.main
        return subcommand(words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(f"error: {MissingPackageError.of(error)}", file=sys.stderr)
        return 2
