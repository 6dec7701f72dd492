# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What those see who call from Python: errors in words of Python, progress where somebody reads."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from paddlerec_milvus.errors import UserError

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
_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")


def python_words(text: str) -> str:
    """``text``, which speaks of the options of commands, with the arguments of Python's calls."""
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
            words = f"this needs {error.name}, which is not installed: pip install"
            raise UserError(f"{words} 'paddlerec-milvus[train,serve]'") from None


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
    """``{"runner.epochs": 3}`` or ``["runner.epochs=3"]`` as the texts that ``-o`` takes."""
    if isinstance(options, str):
        raise UserError(f'options is the text {options!r}; expected {{"runner.epochs": 3}}')
    if not isinstance(options, Mapping):
        return [str(option) for option in options]
    return [f"{key}={_text_of(value)}" for key, value in options.items()]


def _text_of(value: Any) -> str:
    """As yaml has it; of a text what yaml reads from it."""
    if isinstance(value, str | os.PathLike):
        return str(value)
    return json.dumps(value.tolist() if hasattr(value, "tolist") else value)


@contextmanager
def quiet_import() -> Iterator[None]:
    """Imports of paddle inside say nothing of what is no concern to a user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No ccache found")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="paddle")
        yield
