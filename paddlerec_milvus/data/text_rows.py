# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of a text log in chunks: a fast pass for clean blocks, a careful one for odd quotes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import polars as pl

from paddlerec_milvus.data.log_bytes import line_blocks
from paddlerec_milvus.data.log_times import Where
from paddlerec_milvus.errors import DataError

_STAND_IN = b"\x1f"  # for a separator of several characters
_CAREFUL_ROWS = 200_000


def text_chunks(
    path: Path, encoding: str | None, separator: str, names: tuple[str, ...], header: bool
) -> Iterator[tuple[pl.DataFrame, Where]]:
    """Frames of string columns ``names``, null for an empty cell.

    Raises:
        DataError: a blank line, a line of another width, or a quote that does not close.
    """
    mark = separator.encode() if len(separator.encode()) == 1 else _STAND_IN
    blocks = line_blocks(path, encoding)
    line = 1
    for block in blocks:
        if mark is _STAND_IN:
            block = block.replace(separator.encode(), mark)
        if line == 1 and header:
            block, line = block[block.find(b"\n") + 1 :], 2
            if not block:
                continue
        chunk = None
        if b'"' not in block or _quotes_are_plain(block, mark):
            chunk = _fast_chunk(path, block, mark, names, line)
        if chunk is None:
            rest = (part.replace(separator.encode(), mark) for part in blocks)
            yield from _careful_chunks(path, chain([block], rest), mark, names, line)
            return
        yield chunk
        line += block.count(b"\n")


def _quotes_are_plain(block: bytes, mark: bytes) -> bool:
    """Whether every quote of a block opens or closes a whole cell inside one line."""
    opening = block.count(mark + b'"') + block.count(b'\n"') + block.startswith(b'"')
    closing = block.count(b'"' + mark) + block.count(b'"\n')
    return opening == closing and opening + closing == block.count(b'"')


def _fast_chunk(
    path: Path, block: bytes, mark: bytes, names: tuple[str, ...], line: int
) -> tuple[pl.DataFrame, Where] | None:
    """A clean block; None for one with a line break inside quotes."""
    quoted = b'"' in block
    where = _line_of(path, line)
    lines = block.count(b"\n")
    try:
        frame = pl.read_csv(
            block,
            has_header=False,
            schema=dict.fromkeys(names, pl.String),
            separator=mark.decode(),
            quote_char='"' if quoted else None,
        )
        if quoted and frame.height != lines:
            return None
        clean = frame.height == lines and block.count(mark) == (len(names) - 1) * lines
    except pl.exceptions.PolarsError as error:
        _check_widths(path, block, mark, names, line)
        reason = str(error).splitlines()[0]
        raise DataError(f"{where(0)} or after it: cannot be read ({reason})") from None
    if not clean:
        _check_widths(path, block, mark, names, line)
    return frame, where


def _line_of(path: Path, first: int) -> Where:
    return lambda row: f"{path}, line {first + row}"


def _check_widths(path: Path, block: bytes, mark: bytes, names: tuple[str, ...], line: int) -> None:
    for frame in _careful_chunks(path, iter([block]), mark, names, line):
        del frame  # it raises where a line does not fit


def _careful_chunks(
    path: Path, blocks: Iterator[bytes], mark: bytes, names: tuple[str, ...], line: int
) -> Iterator[tuple[pl.DataFrame, Where]]:
    """As RFC 4180 has it: a quote inside a cell that has none around it stands for itself."""
    lines = (text + "\n" for block in blocks for text in block.decode()[:-1].split("\n"))
    reader = csv.reader(lines, delimiter=mark.decode(), strict=True)
    rows: list[list[str]] = []
    starts: list[int] = []
    while True:
        start = line + reader.line_num
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f'{path}, line {start}: a quote (") opens a cell and does not close as it should '
                f"({error}); remove it, or write it twice inside a quoted cell"
            ) from None
        if cells is None or len(rows) == _CAREFUL_ROWS:
            if rows:
                frame = pl.DataFrame(rows, dict.fromkeys(names, pl.String), orient="row")
                yield frame, _line_among(path, starts)
            rows, starts = [], []
        if cells is None:
            return
        _check_width(path, start, cells, len(names), line + reader.line_num - start)
        rows.append([cell or None for cell in cells])  # type: ignore[misc]
        starts.append(line + reader.line_num - 1)


def _line_among(path: Path, starts: list[int]) -> Where:
    return lambda row: f"{path}, line {starts[row]}"


def _check_width(path: Path, line: int, cells: list[str], width: int, lines: int) -> None:
    if not any(cell.strip() for cell in cells):
        raise DataError(f"{path}, line {line}: a blank line; remove it")
    if len(cells) != width:
        shown = ",".join(cells)[:60]
        quote = f' (a quote (") opens in it and closes {lines} lines later)' if lines > 1 else ""
        raise DataError(
            f"{path}, line {line}: found '{shown}', {len(cells)} columns where the first line has "
            f"{width}{quote}"
        )
