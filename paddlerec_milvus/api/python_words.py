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

_COLUMNS = re.compile(r"--columns user=[^ ,;]+,item=[^ ,;]+(,\w+=[^ ,;)]+)*( \(numbers[^)]*\))?")
_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")
_SHORT = {re.compile(r"(?<!\S)-m "): "model ", re.compile(r"(?<!\S)-o(?=[ :])"): "options"}


def python_words(text: str) -> str:
    """``text``, which speaks of the options of commands, with the arguments of Python's calls."""
    text = _COLUMNS.sub('columns={"user": "…", "item": "…", "time": "…"}', text)
    for pattern, word in _SHORT.items():
        text = pattern.sub(word, text)
    return _OPTION.sub(lambda match: match[1].replace("-", "_"), text)


@contextmanager
def in_python_words() -> Iterator[None]:
    """A UserError from inside leaves in the words of :func:`python_words`."""
    try:
        yield
    except UserError as error:
        words = python_words(str(error))
        if words == str(error):
            raise
        raise type(error)(words) from None


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


@contextmanager
def shown_progress() -> Iterator[None]:
    """Log lines of the program are shown, on a terminal or in a notebook, unless logging is set up.

    Bars are drawn on a terminal, as by the commands.
    """
    root, package = logging.getLogger(), logging.getLogger("paddlerec_milvus")
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    if not watched or root.handlers or package.level:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s - %(message)s", "%H:%M:%S"))
    root.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.setLevel(logging.NOTSET)
        root.removeHandler(handler)
