# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of JSON lines in chunks, such as Amazon's reviews: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from paddlerec_milvus.data.log_bytes import line_blocks
from paddlerec_milvus.data.log_times import Where
from paddlerec_milvus.errors import DataError

Schema = Mapping[str, type[pl.DataType]]


def json_fields(line: str, place: str) -> dict[str, type[pl.DataType]]:
    """Names and types of the first object's fields that can be a column.

    Raises:
        DataError: the line is no JSON object.
    """
    values = _object_of(line, place, "its fields")
    types = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String}
    return {name: types[type(value)] for name, value in values.items() if type(value) in types}


def json_chunks(
    path: Path, encoding: str | None, schema: Schema, required: set[str]
) -> Iterator[tuple[pl.DataFrame, Where]]:
    """Frames of the columns of ``schema``.

    Raises:
        DataError: a line that is no JSON object, or lacks a required field or has another type.
    """
    line = 1
    for block in line_blocks(path, encoding):
        lines = block.count(b"\n")
        try:
            frame = pl.read_ndjson(block, schema=dict(schema))
            clean = frame.height == lines and not any(frame[name].null_count() for name in required)
        except pl.exceptions.PolarsError:
            clean = False
        if not clean:
            frame = _checked(path, block, line, schema, required)
        yield frame, _line_of(path, line)
        line += lines


def _line_of(path: Path, first: int) -> Where:
    return lambda row: f"{path}, line {first + row}"


def _checked(
    path: Path, block: bytes, first: int, schema: Schema, required: set[str]
) -> pl.DataFrame:
    """The block line by line; numbers where others have text are taken as their digits."""
    rows = []
    names = ", ".join(schema)
    for number, line in enumerate(block.decode()[:-1].split("\n"), first):
        place = f"{path}, line {number}"
        values = _object_of(line, place, names)
        for name in schema:
            value = values.get(name)
            if name not in values and name in required:
                raise DataError(f"{place}: no {name} in the object; expected {names}")
            if not _fits(value, schema[name], name in required):
                raise DataError(
                    f"{place}: found {name} {json.dumps(value)[:60]}, expected a JSON object with "
                    f"{names}, of the types that line 1 has"
                )
        rows.append({name: values.get(name) for name in schema})
    return pl.DataFrame(rows, schema=dict(schema), strict=False)


def _fits(value: Any, dtype: type[pl.DataType], required: bool) -> bool:
    if value is None or value == "":
        return not required
    kinds = {pl.String: str, pl.Boolean: bool}.get(dtype, (int, float))
    return isinstance(value, kinds) and (dtype != pl.Int64 or isinstance(value, int))


def _object_of(line: str, place: str, names: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        shown = line.strip()[:60] or "a blank line"
        raise DataError(f"{place}: found '{shown}', expected a JSON object with {names}")
    return values
