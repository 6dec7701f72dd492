# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``tools/update.py``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paddlerec_milvus.command import model_parser, run, settings_for
from paddlerec_milvus.errors import SettingsError, UserError
from paddlerec_milvus.subcommands import CommandParser, as_typed

if TYPE_CHECKING:
    from paddlerec_milvus.update.updating import UpdatePlan

KEY = "SERVING_KEY"
EXAMPLES = """\
examples:
  python -u tools/update.py -m mind/config.yaml --data datasets/mine --exports exports
  python -m paddlerec_milvus.serving --export exports/current      # then, in another terminal
  python -u tools/update.py -m mind/config.yaml --data datasets/today --exports exports --service http://127.0.0.1:8000
  python -u tools/update.py -m mind/config.yaml --log clicks.csv --prepare "--split time --test-from $(date -d '-7 days' +%F)" --exports exports --service http://127.0.0.1:8000 --watch 600
  python -u tools/update.py -m mind/config.yaml --data datasets/today --exports exports --service http://127.0.0.1:8000 --gate recall@50=-0.005 --limit p99=1.5

Trains, exports, compares the new export with the one that serves on the same held-out users, lets
the service insert it beside the old one and switch, checks lists and watches; goes back where it is
worse. The service is started with the link that the command moves: SERVING_EXPORT=exports/current.
The environment variable SERVING_KEY holds a key of the role admin, where the service has keys.

Stopped or killed it changes nothing that serves, and the same command goes on. Exit code: 0 the new
model serves, or is the same; 3 the gate failed, nothing was switched; 4 it was switched to, did
worse, and the old one serves again; 2 wrong usage; 1 any other error; 130 Ctrl-C.
"""  # noqa: E501


def _parser() -> CommandParser:
    parser = model_parser("Replace the model that serves by one of today's clicks.", EXAMPLES)
    add = parser.add_argument
    add("--log", type=Path, metavar="FILE", help="a click log to prepare, in place of --data")
    add("--prepare", default="", metavar='"OPTIONS"', help="of prepare.py for --log, as one word")
    add("--exports", type=Path, required=True, metavar="DIR", help="where exports and runs lie")
    add(
        "--service",
        nargs="+",
        default=[],
        metavar="URL",
        help="services of these exports; the first is told to insert, all are watched. None: "
        "DIR/current alone is switched, for services that start later",
    )
    add(
        "--from",
        dest="start",
        choices=("scratch", "last"),
        default="scratch",
        help="what training starts from: nothing, or the parameters of the last update, items by "
        "their own ids (scratch)",
    )
    add(
        "--trained",
        action="store_true",
        help="train nothing: take the checkpoint of runner.infer_load_path",
    )
    add(
        "--rank",
        nargs="?",
        const="din",
        choices=("din", "trees"),
        help="train a ranker, too (of its kind where the model that serves has one)",
    )
    add(
        "--gate",
        nargs="+",
        action="extend",
        default=[],
        metavar="MEASURE=CHANGE",
        help="the most that a measure may fall, with its 95 %% interval (recall@50=-0.01 "
        "ndcg@10=-0.01), and the least that the index must find (index_recall@50=0.9)",
    )
    add(
        "--limit",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=NUMBER",
        help="while watching, how far shares may rise (errors=0.01 fallbacks=0.01 unranked=0.05), "
        "and how many times as long p99 may be (p99=2)",
    )
    add("--watch", type=float, default=120.0, metavar="SECONDS", help="after the switch (120)")
    add("--keep", type=int, default=3, metavar="N", help="exports; older ones are removed (3)")
    return parser


def _plan_of(arguments: argparse.Namespace) -> UpdatePlan:
    """What was typed, checked. SettingsError: it cannot be."""
    from paddlerec_milvus.update.gate import margins_of
    from paddlerec_milvus.update.model_steps import ModelPlan, prepare_words
    from paddlerec_milvus.update.traffic import limits_of
    from paddlerec_milvus.update.updating import UpdatePlan

    if (arguments.log is None) == (arguments.data is None):
        raise SettingsError("give --data, a prepared folder, or --log, a click log to prepare")
    if arguments.prepare and arguments.log is None:
        raise SettingsError("--prepare does not go with --data, which is prepared: remove it")
    if arguments.log is not None and not arguments.log.exists():
        raise SettingsError(f"--log {arguments.log}: no such file")
    if arguments.trained and (arguments.log is not None or arguments.start != "scratch"):
        raise SettingsError("--trained trains nothing: remove --log and --from")
    if arguments.keep < 1 or not 0 <= arguments.watch < float("inf"):
        raise SettingsError("--keep is at least 1, --watch at least 0 seconds")
    settings_for(arguments.config_yaml, arguments.opt, arguments.data)  # a mistake in them
    return UpdatePlan(
        model=ModelPlan(
            yaml=arguments.config_yaml,
            options=tuple(arguments.opt),
            data=None if arguments.data is None else arguments.data.resolve(),
            log=None if arguments.log is None else arguments.log.resolve(),
            preparing=tuple(prepare_words(arguments.prepare)),
            ranker=arguments.rank,
            is_trained=arguments.trained,
        ),
        exports=arguments.exports,
        services=tuple(arguments.service),
        margins=margins_of(arguments.gate),
        limits=limits_of(arguments.limit),
        watch=arguments.watch,
        keep=arguments.keep,
        is_warm=arguments.start == "last",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and update; returns the exit code."""
    arguments = _parser().parse_args(argv)
    codes: list[int] = []

    def work() -> None:
        plan = _plan_of(arguments)
        from paddlerec_milvus.update.updating import update

        try:
            codes.append(update(plan, os.environ.get(KEY, "")))
        except UserError as error:
            text = f"{as_typed(str(error))}; the same command goes on"
            print(f"error: {text}", file=sys.stderr)
            codes.append(1)

    return run(work) or codes[0]
