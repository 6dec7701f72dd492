# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What one check of the doctor ends at: a line, and a remedy where something is not fine."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    """``wrong`` keeps the program from working, ``note`` a part of it, or is good to know."""

    state: State
    subject: str
    words: str
    remedy: str = ""
