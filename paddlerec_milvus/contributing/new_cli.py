# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``tools/new_model.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from paddlerec_milvus.command import run
from paddlerec_milvus.contributing.new_model import new_model, zoo_to_extend
from paddlerec_milvus.subcommands import CommandParser, as_typed

EXAMPLES = """\
examples:
  python tools/new_model.py my_model                     # models/recall/my_model
  python -u tools/trainer.py -m my_model/config.yaml     # it trains at once

The new folder is the plain two-tower model (a user is the mean of the clicks' vectors) under the
new name, with a Milvus collection of its own. Its net.py is yours to change; the readers, the item
table, negatives and the loss are links to the files that all models share: to change one of those,
put a file in the link's place. TODO marks what the README still needs.
Next: python tools/check_model.py -m my_model/config.yaml
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and make the folder; returns the exit code."""
    parser = CommandParser(
        description="Make a model folder that trains, from the zoo's plainest model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="of the folder: lower_snake_case")
    parser.add_argument(
        "--task", choices=("recall",), default="recall", help="the folder of models/ (recall)"
    )
    arguments = parser.parse_args(argv)

    def work() -> None:
        folder = new_model(arguments.name, *zoo_to_extend(), arguments.task)
        name = folder.name
        lines = [
            f"made {folder}",
            f"next, each from {folder.parents[2]}:",
            f"  python -u tools/trainer.py -m {name}/config.yaml   # trains on datasets/sample",
            f"  change {folder.relative_to(folder.parents[2])}/net.py, fill in README.md",
            f"  python tools/check_model.py -m {name}/config.yaml",
        ]
        print(as_typed("\n".join(lines)))

    return run(work)
