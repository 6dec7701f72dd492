# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the command lines share: ``-m``, ``-o``, ``--data``, log lines and exit codes."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from paddlerec_milvus.config import load_settings, source_strings
from paddlerec_milvus.data.prepared import open_prepared
from paddlerec_milvus.errors import MissingPackageError, SettingsError, UserError
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.subcommands import CommandParser, as_typed

OPT_HELP = (
    "override settings, e.g. runner.epochs=3 hyper_parameters.maxlen=10; keys and types are "
    "checked; paths here are relative to the working directory, paths inside a yaml to that yaml's "
    "folder"
)
DATA_HELP = (
    "a folder made by datasets/amazonbook/prepare.py: train on its train/, evaluate on its test/, "
    "take item_count from its meta.json, and where the yaml has a valid_data_dir keep the best "
    "epoch on its valid/. Its models are in a place of their own: the yaml's model_save_path with "
    "_ and the folder's name behind it"
)


def model_parser(
    description: str,
    examples: str,
    *,
    opt: str = OPT_HELP,
    data: str = DATA_HELP,
    required: bool = True,
) -> CommandParser:
    """A parser with the arguments that training and evaluation share.

    ``opt`` and ``data`` are what the help says of ``-o`` and ``--data``; ``required``: ``-m`` is.
    """
    parser = CommandParser(
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-m",
        "--config_yaml",
        required=required,
        metavar="YAML",
        help="the model's settings: a path, or a path inside models/ without its task folder "
        "(mind/config.yaml is models/recall/mind/config.yaml)",
    )
    parser.add_argument(
        "-o",
        "--opt",
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help=opt,
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help=data)
    return parser


def read_settings(arguments: argparse.Namespace) -> Settings:
    """The settings that the shared arguments describe."""
    return settings_for(arguments.config_yaml, arguments.opt, arguments.data)


def settings_for(yaml: str | Path, options: Sequence[str], data: Path | None) -> Settings:
    """The yaml, ``--data`` over it, ``-o`` over both.

    Models of another folder than the yaml's own data have a place of their own: the yaml's, with
    the folder's name behind it (``output_model_mind_mine`` for ``--data datasets/mine``).
    SettingsError: ``data`` for a model folder that reads no click log.
    """
    settings = load_settings(yaml, options)
    if data is None:
        return settings
    if not reads_click_log(settings.model_dir):
        raise SettingsError(
            f"--data {data}: is a prepared click log, but {settings.model_dir} reads no item_count "
            "or has an AUC, of rows with labels, and so reads no such log; set "
            "runner.train_data_dir and runner.test_data_dir to its own data"
        )
    prepared, runner = open_prepared(data.resolve()), settings.runner
    changed = {
        "runner.train_data_dir": prepared.train_dir,
        "runner.test_data_dir": prepared.test_dir,
        "hyper_parameters.item_count": prepared.item_count,
    }
    if runner.valid_data_dir is not None:
        changed["runner.valid_data_dir"] = prepared.valid_dir
    own = runner.train_data_dir and settings.path("train_data_dir").resolve()
    if own != prepared.train_dir:
        for key in ("model_save_path", "infer_load_path"):
            changed[f"runner.{key}"] = f"{settings.path(key)}_{prepared.folder.name}"
    return load_settings(yaml, [*(f"{key}={value}" for key, value in changed.items()), *options])


def reads_click_log(model_dir: Path) -> bool:
    """Whether the code reads an item_count, and names no AUC, which is of rows with labels."""
    strings = source_strings(model_dir)
    return "auc" not in strings and any(text.endswith("item_count") for text in strings)


def warn(*lines: str) -> None:
    """Say on stderr what a user must not overlook."""
    for line in lines:
        print(f"warning: {line}", file=sys.stderr, flush=True)


def run(main: Callable[[], None]) -> int:
    """Run ``main``: a user's mistake becomes one line and exit code 2, Ctrl-C exit code 130.

    A package that is missing, such as paddle, is a user's mistake.
    """
    logging.basicConfig(format="%(asctime)s - %(levelname)s - %(message)s", stream=sys.stderr)
    logging.getLogger("paddlerec_milvus").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", "No ccache found")  # paddle's, of no concern to a user
    try:
        main()
    except ModuleNotFoundError as error:
        return _refused(MissingPackageError.of(error))
    except ImportError as error:  # paddle's libraries make it of a Ctrl-C while they are loaded
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        print("interrupted", file=sys.stderr)
        return 130
    except UserError as error:
        return _refused(error)
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "interrupted", file=sys.stderr)
        return 130
    return 0


def _refused(error: UserError) -> int:
    print(f"error: {as_typed(str(error))}", file=sys.stderr)
    return 2
