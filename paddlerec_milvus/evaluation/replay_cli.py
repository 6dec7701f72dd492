# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``tools/replay.py``: two configurations, or lists that users were shown."""

from __future__ import annotations

import argparse
import contextlib
import logging
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlerec_milvus.command import model_parser, read_settings, run
from paddlerec_milvus.data.fingerprint import identity_of
from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out
from paddlerec_milvus.data.shown_lists import read_clicks, read_shown
from paddlerec_milvus.errors import SettingsError, UserError, redacted
from paddlerec_milvus.evaluation.cli import add_search_options
from paddlerec_milvus.evaluation.plots_png import draw_replay
from paddlerec_milvus.evaluation.replay import (
    IntArray,
    ListComparison,
    ReplayReport,
    ReplaySide,
    replay_tables,
)
from paddlerec_milvus.evaluation.report import check_place, machine, versions, write_json
from paddlerec_milvus.evaluation.shown_report import shown_report, shown_tables
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.subcommands import CommandParser

logger = logging.getLogger(__name__)

MOST_RANKED = 200  # items of a ranked list
EXAMPLES = """\
examples:
  python -u tools/replay.py --a "-m mind/config.yaml" --b "-m mind/config.yaml --rank" --data datasets/mine
  python -u tools/replay.py --a "-m mind/config.yaml --exact" --b "-m mind/config.yaml -o index.type=HNSW" --data datasets/mine
  python -u tools/replay.py --a "-m mind/config.yaml --best" --b "-m mind_unseen/config.yaml --best" --data datasets/mine --top_n 10 50 --report out/replay.json
  python -u tools/replay.py --shown shown/ --clicks clicks.jsonl

With --a and --b both configurations, each in the words of tools/infer.py (-m, -o, --data, --exact,
--best, --rank), answer the same held-out users: --best, else the last epoch of
runner.infer_start_epoch to infer_end_epoch. Each difference has the 95 % interval of a paired
bootstrap over users. The last line goes by ndcg at the first --top_n. A configuration with --rank
leaves the history out of its lists; the other does with -o retrieval.exclude_history=true.

With --shown and --clicks the lists that a service logged (SERVING_SHOWN_LOG) meet the clicks that
came after. The format of both files: docs/tutorials/comparing.md.
"""  # noqa: E501


@contextlib.contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Errors of one configuration say whose they are."""
    try:
        yield
    except UserError as error:
        raise UserError(f"--{name.lower()}: {error}") from error


class _Side(NamedTuple):
    """One configuration: what was typed, and what that means."""

    name: str
    words: str
    arguments: argparse.Namespace
    settings: Settings


def _parser() -> CommandParser:
    parser = CommandParser(
        description="Compare two configurations over the same held-out users, or read back the "
        "lists that a service showed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name in ("a", "b"):
        parser.add_argument(
            f"--{name}",
            metavar='"OPTIONS"',
            help=f"configuration {name.upper()}: options of tools/infer.py as one quoted word",
        )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="--data of both, unless a side has its own"
    )
    parser.add_argument(
        "-top_n",
        "--top_n",
        type=int,
        nargs="+",
        default=[10, 50],
        metavar="N",
        help="lengths of the lists (10 50); the last line goes by the first",
    )
    parser.add_argument(
        "--effect",
        type=float,
        default=1.0,
        metavar="PERCENT",
        help="where no difference can be seen: say how many users a change of so many per cent of "
        "A's mean would need (1)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.json",
        help="write all numbers there, and of two configurations a picture beside it (.png)",
    )
    for name, what in (("shown", "lists that a service logged"), ("clicks", "the clicks on them")):
        parser.add_argument(
            f"--{name}", type=Path, nargs="+", metavar="PATH", help=f"{what}: files or folders"
        )
    return parser


def _side_parser(name: str, program: str) -> CommandParser:
    parser = model_parser(f"Configuration {name.upper()}.", "")
    parser.prog = f"{program} --{name}"
    add_search_options(parser)
    parser.add_argument("--rank", action="store_true", help="the lists of its ranker")
    return parser


def _side_of(name: str, words: str, data: Path | None, program: str) -> _Side:
    try:
        typed = shlex.split(words)
    except ValueError as error:
        raise SettingsError(f"--{name}: {error}: quote it as for a shell") from None
    arguments = _side_parser(name, program).parse_args(typed)
    arguments.data = arguments.data or data
    with _errors_of(name):
        settings, runner = read_settings(arguments), {}
    if not arguments.best:
        runner = {"infer_start_epoch": settings.runner.infer_end_epoch - 1}
    settings = settings.model_copy(update={"runner": settings.runner.model_copy(update=runner)})
    return _Side(name.upper(), redacted(words), arguments, settings)


def _same_users(a: _Side, b: _Side) -> tuple[HeldOutUsers, str]:
    """The test users of both, and the fingerprint of their data; SettingsError: they differ."""
    folders = [side.settings.path("test_data_dir") for side in (a, b)]
    users = [read_held_out(folder) for folder in folders]
    fingerprints = [
        "" if (identity := identity_of(folder)) is None else identity.fingerprint
        for folder in folders
    ]
    arrays = ("user_ids", "history_indptr", "history", "truth_indptr", "truths")
    if fingerprints[0] != fingerprints[1] or any(
        not np.array_equal(getattr(users[0], name), getattr(users[1], name)) for name in arrays
    ):
        texts = [
            f"{side.name} those of {folder} ({len(one):,} users, fingerprint {fingerprint})"
            for side, folder, one, fingerprint in zip(
                (a, b), folders, users, fingerprints, strict=True
            )
        ]
        raise SettingsError(
            f"--a and --b answer different users: {', '.join(texts)}; give both the same data, "
            "such as by one --data beside --a and --b"
        )
    return users[0], fingerprints[0]


def _answers(side: _Side, users: HeldOutUsers, longest: int) -> tuple[IntArray, ReplaySide, str]:
    """The lists [U, N] of one configuration, what it is, and whom they are measured on."""
    from paddlerec_milvus.evaluation.evaluator import Evaluation  # paddle: not for --help

    logger.info("%s: %s", side.name, side.words)
    options = side.arguments
    evaluation = Evaluation(
        side.settings, longest, options.exact, options.best, users, rank=options.rank
    )
    (epoch, result), *_ = evaluation.epochs().items()
    described = ReplaySide(
        words=side.words,
        model=side.settings.model_dir.name,
        epoch=int(epoch),
        retriever="exact" if options.exact else side.settings.milvus.uri,
        ranker=None if result.ranking is None else result.ranking.ranker,
        settings=side.settings.model_dump(mode="json"),  # a token stays masked
    )
    lists = evaluation.ranked if options.rank else evaluation.lists
    return lists, described, evaluation.held_out.words()


def _checked(arguments: argparse.Namespace) -> None:
    """SettingsError: the options are neither those of two configurations nor of shown lists."""
    configured, logged = (arguments.a, arguments.b), (arguments.shown, arguments.clicks)
    both = any(configured) and any(logged)
    if both or not (all(configured) or all(logged)):
        raise SettingsError(
            "give --a and --b to compare two configurations, or --shown and --clicks to read back "
            "what a service showed"
        )
    if min(arguments.top_n) < 1:
        raise SettingsError(f"--top_n {min(arguments.top_n)}: a list has at least 1 item")
    if not 0 < arguments.effect < float("inf"):
        raise SettingsError(f"--effect {arguments.effect}: expected per cent above 0, such as 1")


def _compare(arguments: argparse.Namespace, program: str) -> None:
    a, b = (
        _side_of(name, getattr(arguments, name), arguments.data, program) for name in ("a", "b")
    )
    lengths, longest = list(dict.fromkeys(arguments.top_n)), max(arguments.top_n)
    if longest > MOST_RANKED and (a.arguments.rank or b.arguments.rank):
        raise SettingsError(
            f"--top_n {longest}: a ranked list is measured up to {MOST_RANKED} items"
        )
    users, fingerprint = _same_users(a, b)
    with _errors_of("a"):
        lists_a, side_a, words = _answers(a, users, longest)
    with _errors_of("b"):
        lists_b, side_b, words_b = _answers(b, users, longest)
    if words_b != words:  # of one alone the epoch was chosen on these users, say
        words = f"A: {words}; B: {words_b}"
    comparison = ListComparison(lists_a, lists_b, users, lengths)
    report = ReplayReport(
        held_out=words,
        data=fingerprint,
        users=len(users),
        a=side_a,
        b=side_b,
        measures=comparison.measures(),
        overlap=comparison.overlap(),
        groups=comparison.groups(),
        decides=comparison.decides,
        verdict=comparison.verdict(arguments.effect),
        versions=versions(),
        machine=machine(),
    )
    leave_out = [side.arguments.rank or side.settings.retrieval.exclude_history for side in (a, b)]
    if leave_out[0] != leave_out[1]:
        with_history = "A" if leave_out[1] else "B"
        logger.warning(
            "lists of %s may hold items of the history, the other's do not: for the same rule give "
            "it -o retrieval.exclude_history=true",
            with_history,
        )
    if arguments.report is not None:
        picture = arguments.report.with_suffix(".png")
        write_json(report.model_dump(mode="json"), arguments.report)
        draw_replay(report, picture)
        logger.info("report: %s, picture: %s", arguments.report, picture)
    print(replay_tables(report))


def _read_back(arguments: argparse.Namespace) -> None:
    shown, clicks = read_shown(arguments.shown), read_clicks(arguments.clicks)
    report = shown_report(shown, clicks, list(dict.fromkeys(arguments.top_n)))
    if arguments.report is not None:
        write_json(report.model_dump(mode="json"), arguments.report)
        logger.info("report: %s", arguments.report)
    print(shown_tables(report))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, then compare or read back; returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)

    def work() -> None:
        _checked(arguments)
        if arguments.report is not None:
            check_place(arguments.report)
        if arguments.a:
            _compare(arguments, parser.prog)
        else:
            _read_back(arguments)

    return run(work)
