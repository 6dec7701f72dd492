# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command ``paddlerec-milvus``: its subcommands, and texts in the words that a user types.

A checkout has scripts as PaddleRec has (``python -u tools/trainer.py``), a wheel has this command
alone. Help and errors are written for the scripts; :func:`as_typed` puts the command in their place
where there is no checkout, or where the command is what was typed.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from paddlerec_milvus.bundle import BUNDLED
from paddlerec_milvus.errors import redacted

PROGRAM = "paddlerec-milvus"


class Subcommand(NamedTuple):
    """Where a subcommand's ``main(argv)`` is, what a checkout calls it, and what it does."""

    module: str
    script: str
    summary: str


_PREPARE, _TRAIN = "datasets/amazonbook/prepare.py", "tools/trainer.py"
SUBCOMMANDS = {
    "demo": Subcommand("demo.cli", "", "books from nothing to recommendations: start here"),
    "doctor": Subcommand("doctor.cli", "", "what of this machine, its packages and Milvus is fine"),
    "prepare": Subcommand("data.cli", _PREPARE, "a click log becomes train, valid and test data"),
    "train": Subcommand("training.cli", _TRAIN, "train a model on prepared data"),
    "infer": Subcommand(
        "evaluation.cli", "tools/infer.py", "index its items and measure its lists"
    ),
    "rank": Subcommand(
        "ranking.cli", "tools/rank.py", "train channels and a ranker for a trained model"
    ),
    "replay": Subcommand(
        "evaluation.replay_cli", "tools/replay.py", "compare two configurations, or lists shown"
    ),
    "export": Subcommand(
        "export.cli", "tools/export.py", "write a trained model as files that serve without paddle"
    ),
    "update": Subcommand(
        "update.cli", "tools/update.py", "train, check and switch to a new model, or back"
    ),
    "batch": Subcommand(
        "batch.cli", "tools/batch.py", "make the lists of all users, in shares, to be resumed"
    ),
    "serve": Subcommand(
        "serving.__main__", "-m paddlerec_milvus.serving", "answer over HTTP, with a page to try it"
    ),
    "load-histories": Subcommand(
        "serving.load_histories",
        "-m paddlerec_milvus.serving.load_histories",
        "store the histories of a log for the service",
    ),
    "milvus": Subcommand(
        "retrieval.server", "-m paddlerec_milvus.retrieval.server", "a Milvus server for trials"
    ),
    "bench": Subcommand(
        "bench.cli", "benchmarks/index_benchmark.py", "what each index costs, as a report"
    ),
    "tune": Subcommand(
        "bench.tune_cli", "benchmarks/tune_index.py", "the fastest index that meets a target"
    ),
    "new-model": Subcommand(
        "contributing.new_cli", "tools/new_model.py", "a new model folder that trains at once"
    ),
    "check-model": Subcommand(
        "contributing.check_cli", "tools/check_model.py", "check a model folder by running it"
    ),
    "contribute": Subcommand(
        "contributing.contribute_cli", "tools/contribute.py", "write a model into PaddleRec"
    ),
}
_NAMES = {command.script: name for name, command in SUBCOMMANDS.items() if command.script}
_NAMES["prepare.py"] = "prepare"
# not those of a path that goes on to the left, such as ../../../tools/trainer.py of PaddleRec
_SCRIPT = re.compile(
    r"(?P<launch>nproc_per_node \d+ )?(?<![\w./-])(python3? )?(-u )?"
    rf"(?P<script>{'|'.join(map(re.escape, sorted(_NAMES, key=len, reverse=True)))})(?![\w.])"
)


def is_typed() -> bool:
    """Whether this process is the command ``paddlerec-milvus``."""
    return Path(sys.argv[0]).name.partition(" ")[0] == PROGRAM


def as_typed(text: str) -> str:
    """``text``, with the command in place of a checkout's scripts where a user has no scripts."""
    return _SCRIPT.sub(_as_command, text) if is_typed() or BUNDLED.is_dir() else text


def _as_command(script: re.Match[str]) -> str:
    name = _NAMES[script["script"]]
    launch = script["launch"]  # paddle's launcher takes a file
    return f"{launch}$(command -v {PROGRAM}) {name}" if launch else f"{PROGRAM} {name}"


class CommandParser(argparse.ArgumentParser):
    """A parser in the words of what was typed, whose errors repeat no password and no token."""

    def __init__(self, **options: Any) -> None:
        if is_typed():
            options["prog"] = sys.argv[0]  # with the subcommand
        super().__init__(**options)

    def format_help(self) -> str:
        """The help; examples and references are to commands that are there."""
        return as_typed(super().format_help())

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments and exit with code 2."""
        super().error(redacted(message))
