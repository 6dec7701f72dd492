# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of datasets/amazonbook/prepare.py."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from paddlerec_milvus.data.amazonbook import ADDRESS
from paddlerec_milvus.data.feature_files import DEFAULT_MIN_FEATURE_COUNT, FeatureFiles
from paddlerec_milvus.data.log_arguments import (
    LOG_OPTIONS,
    add_log_options,
    log_lines,
    log_options,
)
from paddlerec_milvus.data.prepare import Outcome, prepare
from paddlerec_milvus.data.sources import AmazonBook, Interactions, Reviews, Sample, Source
from paddlerec_milvus.data.spark.source import spark_log
from paddlerec_milvus.data.split import DEFAULT_MIN_COUNT, DEFAULT_SEED
from paddlerec_milvus.data.split_choice import (
    USERS,
    add_split_options,
    split_choice,
    split_lines,
)
from paddlerec_milvus.errors import SettingsError, UserError
from paddlerec_milvus.subcommands import CommandParser, as_typed

_ABOUT = """\
Prepare a click log for training and evaluation: drop rare items and users, number items from 1 by
falling popularity, split it, and write train/, valid/, test/, items.csv and meta.json.
Give exactly one source. The folder appears when all is done; a second run finds it and ends."""

_EXAMPLES = """\
examples:
  prepare.py --sample --out data/sample                     a synthetic log, in a second
  prepare.py --sample --users 603668 --items 367982 --clicks 8900000 --out data/large
                                                            the size of Amazon Books
  prepare.py --interactions clicks.csv --items books.csv --out data/mine
                                                            your own log, with titles
  prepare.py --interactions clicks.csv --item-features authors.csv --out data/mine
                                                            ... with side features
  prepare.py --interactions clicks.parquet --out data/mine  the same from parquet
  prepare.py --interactions events.csv --kinds addtocart,transaction --out data/bought
                                                            some kinds of event alone
  prepare.py --interactions plays.txt --sep ' ' --columns user=1,item=3,time=2 --out data/plays
                                                            a log without a header
  prepare.py --interactions clicks.csv --split time --test-from 2014-07-01 --out data/mine
                                                            ... nobody's future trains the model
  prepare.py --interactions s3a://bucket/clicks --engine spark --out /shared/mine
                                                            a log beyond one machine's memory
  prepare.py --reviews reviews_Books_5.json.gz --out data/books
                                                            Amazon's review file
  prepare.py --amazonbook --out data/amazonbook             PaddleRec's Amazon Books (download)

a log has the columns uid,item,time: by position without a header, by name with one; ids are
integers or strings, time a number or an ISO date. Recognised by content as well: MovieLens
(ratings.dat, u.data), RecBole's .inter, RetailRocket's events, Amazon's reviews and ratings,
Gowalla's check-ins, folders of parquet. Any other: --columns, --sep, --encoding.
A table of titles has a header with item,title and, if you like, category, authors, year. A table of
features has a header with item (or user) and a column for each feature; its values are text.
A gz or zip may unpack to 256 MiB, or to 100 times its size; PADDLEREC_MILVUS_UNPACKED_GIB=N lets
it unpack to N GiB."""


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="prepare.py",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_sources(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument(
        "--engine",
        choices=("memory", SPARK),
        default="memory",
        help="spark: the same folder, for a log beyond this machine's memory; the log may be at an "
        "address such as s3a://bucket/clicks (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a prepared folder")
    parser.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, help="of split and sample (default: %(default)s)"
    )
    add_split_options(parser)
    parser.add_argument(
        "--min-count",
        type=int,
        default=DEFAULT_MIN_COUNT,
        metavar="N",
        help="drop items, then users, with fewer clicks (default: %(default)s)",
    )
    parser.add_argument(
        "--items", metavar="FILE|N", help="a table of titles; with --sample the number of items"
    )
    parser.add_argument(
        "--item-features", type=Path, metavar="FILE", help="item,<column>… such as category,brand"
    )
    parser.add_argument(
        "--user-features", type=Path, metavar="FILE", help="user,<column>… such as age,country"
    )
    parser.add_argument(
        "--min-feature-count",
        type=int,
        default=DEFAULT_MIN_FEATURE_COUNT,
        metavar="N",
        help="values of features on fewer items (users) are unknown (default: %(default)s)",
    )
    parser.add_argument("--users", type=int, metavar="N", help="--sample: number of users")
    parser.add_argument("--clicks", type=int, metavar="N", help="--sample: number of clicks")
    parser.add_argument(
        "--string-ids", action="store_true", help="--interactions: take all ids as strings"
    )
    add_log_options(parser)
    parser.add_argument("--url", help=f"--amazonbook: a mirror of {ADDRESS}")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="--amazonbook: keep download here"
    )
    return parser


def _add_sources(parser: argparse.ArgumentParser) -> None:
    sources = parser.add_argument_group("source, exactly one of").add_mutually_exclusive_group(
        required=True
    )
    sources.add_argument("--sample", action="store_true", help="a synthetic log from --seed")
    sources.add_argument(
        "--interactions",
        metavar="FILE|FOLDER",
        help="a log: csv and the like, JSON lines or parquet, plain, gz or zip",
    )
    sources.add_argument(
        "--reviews", metavar="FILE", help="Amazon's reviews as JSON lines, plain or gz"
    )
    sources.add_argument(
        "--amazonbook", action="store_true", help="PaddleRec's Amazon Books, ids and split kept"
    )


SPARK = "spark"
_OF_SPARK = ("interactions", "reviews")

# Which of the options belong to which source; elsewhere they would be silently without effect.
_OPTIONS = {
    "sample": ("users", "items", "clicks"),
    "interactions": ("items", "string_ids", "item_features", "user_features", *LOG_OPTIONS),
    "reviews": ("items", "item_features", "user_features", *LOG_OPTIONS),
    "amazonbook": ("url", "cache", "item_features", "user_features"),
}


def _source(options: argparse.Namespace) -> Source:
    kind = next(name for name in _OPTIONS if getattr(options, name) not in (None, False))
    if getattr(options, kind) == "":
        raise SettingsError(f"--{kind} '': names nothing; name the log")
    for option in sorted({name for names in _OPTIONS.values() for name in names}):
        if option not in _OPTIONS[kind] and getattr(options, option):
            raise SettingsError(
                f"--{option.replace('_', '-')} does not go with --{kind}; remove it"
            )
    if kind == "sample":
        return _sample(options)
    if options.seed != DEFAULT_SEED and options.split not in (None, USERS):
        raise SettingsError(f"--seed does not go with --split {options.split}, which draws nothing")
    if kind in _OF_SPARK:
        return _log(options, kind)
    if (options.seed, options.min_count) != (DEFAULT_SEED, DEFAULT_MIN_COUNT) or options.split:
        raise SettingsError(
            "--seed, --min-count and --split do not go with --amazonbook, which is filtered and "
            "split by users already; remove them"
        )
    return AmazonBook(options.cache or _default_cache(), options.url or ADDRESS)


def _log(options: argparse.Namespace, kind: str) -> Interactions | Reviews:
    place = getattr(options, kind)
    if "://" in place and options.engine != SPARK:
        raise SettingsError(
            f"--{kind} {place}: an address, which --engine spark reads; add that, or name a file"
        )
    file, titles = Path(place), _path(options.items)
    if kind == "reviews":
        return Reviews(file, titles, log_options(options))
    return Interactions(file, titles, options.string_ids, log_options(options))


@contextmanager
def _by_engine(source: Source, options: argparse.Namespace) -> Iterator[Source]:
    """The source, read by the engine that was chosen."""
    if options.engine != SPARK:
        yield source
    elif isinstance(source, (Interactions, Reviews)):
        place = options.interactions or options.reviews
        with spark_log(source, place, options.out) as log:
            yield log
    else:
        raise SettingsError(
            "--engine spark goes with --interactions and --reviews alone; remove it"
        )


def _min_count(options: argparse.Namespace) -> int:
    """The limit of the split's single pass: after a k-core it is that, and drops nothing."""
    if options.k_core is None:
        return int(options.min_count)
    if options.min_count != DEFAULT_MIN_COUNT:
        raise SettingsError(
            f"--min-count {options.min_count} does not go with --k-core {options.k_core}: one is a "
            "single pass, the other repeats it until all have enough clicks; take one"
        )
    return int(options.k_core)


def _sample(options: argparse.Namespace) -> Sample:
    default = Sample()
    try:
        items = default.items if options.items is None else int(options.items)
    except ValueError:
        raise SettingsError(
            f"--items {options.items}: with --sample this is the number of items"
        ) from None
    return Sample(
        default.users if options.users is None else options.users,
        items,
        default.clicks if options.clicks is None else options.clicks,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddlerec-milvus"


class _Terminated(BaseException):
    """SIGTERM, turned into an exception so that half-written files are removed."""


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    def unwind(_signal: int, _frame: FrameType | None) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def report(outcome: Outcome) -> str:
    """The table of counts and the command to go on with."""
    meta = outcome.meta
    lines = [f"already prepared: {outcome.folder}" if outcome.already else f"{outcome.folder}"]
    lines.append(f"{'':8}{'users':>10}{'clicks':>12}{'history':>12}{'truths':>12}")
    for name, split in meta["splits"].items():
        counts = [
            f"{split[key]:,}" if key in split else "" for key in ("clicks", "history", "truths")
        ]
        lines.append(f"{name:8}{split['users']:>10,}" + "".join(f"{text:>12}" for text in counts))
    lines.append(f"{'all':8}{meta['users']:>10,}{meta['clicks']:>12,}")
    lines.append(
        f"{meta['items']:,} items ({meta['titles']:,} with a title), item_count "
        f"{meta['item_count']}"
    )
    if meta.get("already_filtered"):
        lines.append("the log was filtered and numbered already: nothing was dropped")
    elif "dropped_clicks" in meta:
        lines.append(
            f"dropped for fewer than {meta['recipe']['min_count']} clicks: "
            f"{meta['dropped_items']:,} items, {meta['dropped_users']:,} users, "
            f"{meta['dropped_clicks']:,} clicks"
        )
    lines += log_lines(meta)
    lines += split_lines(meta)
    for kind, columns in meta.get("features", {}).items():
        counts = [
            f"{name} ({count['values']:,} values, {count['unknown']:,} {kind}s unknown)"
            for name, count in columns.items()
        ]
        lines.append(f"{kind} features: {', '.join(counts)}")
    folder = shlex.quote(str(outcome.folder))
    lines.append(f"next: python -u tools/trainer.py -m mind/config.yaml --data {folder}")
    return "\n".join(lines)


def _prepared(options: argparse.Namespace) -> Outcome:
    features = FeatureFiles(options.item_features, options.user_features, options.min_feature_count)
    counts, choice = (options.seed, _min_count(options), options.overwrite), split_choice(options)
    with _by_engine(_source(options), options) as source:
        return prepare(source, options.out, *counts, features, choice)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, 2 for a mistake, 130 and 143 for signals)."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        with _sigterm_unwinds():
            outcome = _prepared(options)
        print(as_typed(report(outcome)))
        if outcome.already:  # a run that reads the log says them then
            for warning in outcome.meta.get("log", {}).get("warnings", ()):
                print(f"warning: {warning}", file=sys.stderr)
    except UserError as error:
        print(f"error: {as_typed(str(error))}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, _Terminated) as signalled:
        print("interrupted: nothing was written", file=sys.stderr)
        return 143 if isinstance(signalled, _Terminated) else 130
    return 0
