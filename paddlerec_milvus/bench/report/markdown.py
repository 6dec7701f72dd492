# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A table as columns of text, the same one for Markdown and for the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tabulate import tabulate

LONG = 16  # characters
_MARKUP = re.compile(r"([\\|*`<>\[\]~])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


class Column(NamedTuple):
    """Its cells, one a line; ``words`` stand to the left, numbers to the right."""

    title: str
    cells: Sequence[str]
    words: bool = False
    values: Sequence[float | None] = ()
    """To sort by, where a cell says more than its number."""

    @property
    def is_long(self) -> bool:
        """Whether a cell is so long that it may break."""
        return max(map(len, self.cells), default=0) > LONG


@dataclass(frozen=True)
class Table:
    """Columns of one length; those with nothing in them are not shown, but for the first."""

    title: str
    columns: Sequence[Column]
    note: str = ""
    marked: frozenset[int] = field(default=frozenset())
    """Lines to stand out."""

    @property
    def shown(self) -> list[Column]:
        """The columns that hold something."""
        first, *rest = self.columns
        return [first, *(column for column in rest if any(column.cells))]

    @property
    def lines(self) -> list[list[str]]:
        """The cells of the shown columns, line by line."""
        return [list(line) for line in zip(*(column.cells for column in self.shown), strict=True)]


def escaped(text: str) -> str:
    """``text`` as Markdown that shows it as it is, on one line."""
    one_line = " ".join(text.split())
    return _MARKUP.sub(lambda match: f"\\{match.group()}", one_line)


def markdown(table: Table) -> str:
    """The table in pipes; a marked line is bold."""
    lines = [
        [f"**{cell}**" if number in table.marked and cell else cell for cell in map(escaped, line)]
        for number, line in enumerate(table.lines)
    ]
    return tabulate(
        lines,
        headers=[escaped(column.title) for column in table.shown],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left" if column.words else "right" for column in table.shown] if lines else None,
    )
