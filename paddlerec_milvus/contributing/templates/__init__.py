# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Texts of files that a contributor gets, with names to be filled in."""

from __future__ import annotations

from importlib.resources import files
from string import Template


def template(file: str, /, **values: object) -> str:
    """The text of the file ``file`` here; each ``$key`` of ``values`` is filled in, no other."""
    text = (files(__name__) / file).read_text("utf-8")
    return Template(text).safe_substitute(values) if values else text
