# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``tools/check_model.py``."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from paddlerec_milvus.command import model_parser, run
from paddlerec_milvus.config import find_yaml
from paddlerec_milvus.contributing.check_results import as_json, summary
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.report import check_place, write_json

EXAMPLES = """\
examples:
  python tools/check_model.py -m mind/config.yaml
  python tools/check_model.py -m mind/config.yaml --data datasets/my_log --json out/check.json
  python tools/check_model.py -m mind/config.yaml -o hyper_parameters.attention=hard

A line for each rule: ok, FAILED with what was wrong and what to do, or not run with the reason.
Exit code 0: no rule failed; 1: some did; 2: nothing could be checked.

It trains for a few steps of two epochs, stops and resumes, loads, measures, searches and serves;
all that it writes is in a folder of its own that goes when it ends. It needs no server: its Milvus
is a file. So these settings are its own, whatever the yaml or -o says: runner.epochs, the paths of
checkpoints, runner.valid_data_dir, milvus.uri, index.type. Nothing of the model folder changes.
Next: python tools/contribute.py -m NAME/config.yaml --to PADDLEREC
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and check; returns the exit code."""
    parser = model_parser("Check that a model folder keeps the contract, by running it.", EXAMPLES)
    parser.add_argument(
        "--json", type=Path, metavar="FILE.json", help="write the result of each rule there, too"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=40,
        metavar="N",
        help="steps of each of the two short epochs, at most (40)",
    )
    arguments = parser.parse_args(argv)
    failed = False

    def work() -> None:
        nonlocal failed
        if arguments.json is not None:
            check_place(arguments.json, "--json")
        if arguments.steps < 1:
            raise SettingsError(f"--steps {arguments.steps}: at least 1 is needed")
        yaml = find_yaml(arguments.config_yaml)
        logging.getLogger("paddlerec_milvus").setLevel(logging.ERROR)  # of the short runs
        from paddlerec_milvus.contributing.checks import check_folder  # paddle: not for --help

        results = []
        with tempfile.TemporaryDirectory(prefix="check_model_") as place:
            for result in check_folder(
                yaml, arguments.opt, arguments.data, Path(place), arguments.steps
            ):
                print(result, flush=True)
                results.append(result)
        report = as_json(yaml.parent, results)
        failed = not report["ok"]
        print(f"{yaml.parent.name}: {summary(results)}")
        if arguments.json is not None:
            write_json(report, arguments.json, "--json")

    return run(work) or int(failed)
