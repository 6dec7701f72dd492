# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What those see who call from Python: errors in words of Python, progress where somebody reads."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from paddlerec_milvus.errors import MissingPackageError, SettingsError, UserError, redacted

_WORDS = (
    (r"--columns user=[^ ;]+( \([^)]*\))?", 'columns={"user": "…", "item": "…", "time": "…"}'),
    ("replace it with --overwrite, or name", "name"),
    ("again with --overwrite", "again in another folder"),
    (", with --overwrite too", ""),
    ("name another folder with --out", "name another folder"),
    (r"(?<!\S)-m (?=\S)", "model "),
    (r"(?<!\S)-o(?=[ :])", "options"),
    ("the same command with --resume", "the same call with its folder=… and resume=True"),
)
_COMMAND = re.compile(r"(`?(?:python3?|paddlerec-milvus|tools/\w+\.py) [^`;)]*`?)")
_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")


def python_words(text: str) -> str:
    """``text``, which speaks of the options of commands, with the arguments of Python's calls.

    A command that stands in it as a whole is left as it is typed.
    """
    parts = _COMMAND.split(text)  # commands are every second one
    return "".join(part if at % 2 else _in_words(part) for at, part in enumerate(parts))


def _in_words(text: str) -> str:
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return _OPTION.sub(lambda match: match[1].replace("-", "_"), text)


@contextmanager
def python_call(*, progress: bool = False) -> Iterator[None]:
    """A call of the API: errors leave it in words of Python, and logging is as it was before.

    With ``progress`` log lines are shown on a terminal and in a notebook, unless the caller has
    set up logging; bars are drawn on a terminal, as by the commands.
    """
    with _logging(progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)):
        try:
            yield
        except (UserError, KeyboardInterrupt) as error:
            words = python_words(str(error))
            if words == str(error):
                raise
            raise type(error)(words) from None
        except ModuleNotFoundError as error:
            raise MissingPackageError.of(error) from None


@contextmanager
def _logging(shown: bool) -> Iterator[None]:
    """Only what this program logs, and warnings of all; packages set logging up when imported."""
    root, package = logging.getLogger(), logging.getLogger("paddlerec_milvus")
    if root.handlers:
        yield
        return
    levels = root.level, package.level
    handler = logging.StreamHandler() if shown else logging.lastResort or logging.NullHandler()
    if shown:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        package.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.handlers.clear()
        root.setLevel(levels[0])
        package.setLevel(levels[1])


def option_texts(options: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """``{"runner.epochs": 3}`` or ``["runner.epochs=3"]`` as the texts that ``-o`` takes.

    SettingsError: it is neither, or a value is none that yaml has.
    """
    if isinstance(options, Mapping):
        return [f"{key}={_text_of(value, str(key))}" for key, value in options.items()]
    if isinstance(options, str | bytes) or not isinstance(options, Iterable):
        kind = "text" if isinstance(options, str) else type(options).__name__
        raise SettingsError(
            f"options is the {kind} {redacted(repr(options))}; expected "
            '{"runner.epochs": 3} or ["runner.epochs=3"]'
        )
    return [str(option) for option in options]


def _text_of(value: Any, key: str) -> str:
    """As yaml has it; of a text what yaml reads from it."""
    if isinstance(value, str | os.PathLike):
        return str(value)
    try:
        return json.dumps(value.tolist() if hasattr(value, "tolist") else value)
    except (TypeError, ValueError) as error:  # which names the type, and no value
        raise SettingsError(
            f"options: {key} is of type {type(value).__name__} and cannot be written as yaml "
            f"({error}); expected a number, a text, a bool, None, or a list or dict of these"
        ) from None


@contextmanager
def quiet_import() -> Iterator[None]:
    """Imports of paddle inside say nothing of what is no concern to a user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No ccache found")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="paddle")
        yield
