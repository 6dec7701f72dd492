# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Commands that PaddleRec has and this project does by another: each says by which."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from paddlerec_milvus.errors import redacted

REASONS = {
    "static_trainer.py": "there is one trainer; it trains the same model from the same yaml",
    "static_infer.py": "a checkpoint is evaluated by one command, whichever trainer wrote it",
    "to_static.py": "an export holds the static graph, for paddle.inference and as ONNX, item "
    "vectors and ids",
    "paddle_infer.py": "an export is served, and makes lists of many users at once",
}
EXPORTS = "exports/{name}"


def main(script: str, argv: Sequence[str] | None = None) -> int:
    """Print which command does what PaddleRec's ``script`` does, with the same -m and -o; 2."""
    parser = argparse.ArgumentParser(prog=script, add_help=False)
    parser.add_argument("-m", "--config_yaml", default="")
    parser.add_argument("-o", "--opt", nargs="+", default=[])
    arguments, _ = parser.parse_known_args(argv)
    yaml = arguments.config_yaml or "mind/config.yaml"
    options = ["-o", *arguments.opt] if arguments.opt else []
    out = EXPORTS.format(name=Path(yaml).absolute().parent.name)
    commands = {
        "static_trainer.py": [["tools/trainer.py", "-m", yaml, *options]],
        "static_infer.py": [["tools/infer.py", "-m", yaml, *options]],
        "to_static.py": [["tools/export.py", "-m", yaml, "--out", out, *options]],
        "paddle_infer.py": [
            ["tools/batch.py", "--export", out, "--out", "lists"],
            ["-m", "paddlerec_milvus.serving", "--export", out],
        ],
    }[script]
    print(f"error: {script} is PaddleRec's; here {REASONS[script]}:", file=sys.stderr)
    for command in commands:
        print(f"  python -u {redacted(shlex.join(command))}", file=sys.stderr)
    return 2
