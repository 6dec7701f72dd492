# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The options of ``prepare.py`` that say how a log is read, and the lines that say how it was."""

from __future__ import annotations

import argparse
import codecs
from collections.abc import Mapping
from typing import Any

from paddlerec_milvus.data.log_options import LogOptions, parse_columns
from paddlerec_milvus.errors import SettingsError

# their names in argparse's result
LOG_OPTIONS = ("columns", "sep", "encoding", "kinds", "min_rating", "drop_repeats", "k_core")


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of logs, which are recognised by their content without them."""
    group = parser.add_argument_group("a log that is not recognised, and which clicks count")
    group.add_argument(
        "--columns",
        metavar="user=…,item=…,time=…[,kind=…][,rating=…]",
        help="columns by name, or by number from 1; without a time the order of lines is used",
    )
    group.add_argument("--sep", metavar="TEXT", help="what parts the columns, such as '::'")
    group.add_argument("--encoding", metavar="NAME", help="such as latin-1 or gbk (default: UTF-8)")
    group.add_argument("--kinds", metavar="KIND,…", help="use these kinds of event alone")
    group.add_argument(
        "--min-rating", type=float, metavar="R", help="use clicks with this rating or a higher one"
    )
    group.add_argument(
        "--drop-repeats", action="store_true", help="use a user's first click on an item alone"
    )
    group.add_argument(
        "--k-core",
        type=int,
        metavar="K",
        help="instead of --min-count, which is one pass: drop items and users with fewer than K "
        "clicks again and again until all have K",
    )


def log_options(options: argparse.Namespace) -> LogOptions:
    """What the command line says of the log.

    Raises:
        SettingsError: a value that cannot be used.
    """
    separator = options.sep
    if separator is not None:
        separator = {"\\t": "\t", "tab": "\t"}.get(separator, separator)
        if not separator or set(separator) & set('\r\n"'):
            raise SettingsError(f"--sep {options.sep!r}: expected a text such as ';', '::' or tab")
    if options.encoding is not None:
        try:
            codecs.lookup(options.encoding)
        except LookupError:
            raise SettingsError(
                f"--encoding {options.encoding}: no such encoding; such as latin-1, gbk, utf-16"
            ) from None
    if options.k_core is not None and options.k_core < 2:
        raise SettingsError(f"--k-core is {options.k_core}; expected 2 or more")
    return LogOptions(
        columns=parse_columns(options.columns) if options.columns else {},
        separator=separator,
        encoding=options.encoding,
        kinds=tuple(kind.strip() for kind in options.kinds.split(",")) if options.kinds else (),
        min_rating=options.min_rating,
        drop_repeats=options.drop_repeats,
        k_core=options.k_core,
    )


def log_lines(meta: Mapping[str, Any]) -> list[str]:
    """How the log of a prepared folder was read, for the report; empty where nothing is known."""
    if not (log := meta.get("log")):
        return []
    columns = ", ".join(f"{role} = {name}" for role, name in log["columns"].items())
    lines = [f"log: {log['format']}; {columns}; time: {log['time']}"]
    lines += [f"dropped {count:,} clicks {reason}" for reason, count in log["dropped"].items()]
    return lines
