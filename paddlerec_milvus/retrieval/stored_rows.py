# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of a collection, by their ids or their categories, fetched in calls that Milvus takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence, Sized
from typing import Any, Literal, NamedTuple

import numpy as np

from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.connection import Connection

IDS_PER_CALL = 4_096  # in a filter or a fetch of vectors
ROWS_PER_CALL = 16_384  # Milvus gives no more to a query
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})


class Segment(NamedTuple):
    """A part of a loaded collection; a search asks each."""

    rows: int
    """Deleted ones are in it until Milvus compacts."""
    indexed: bool
    """Whether a search uses the index here; below 1,024 rows a server builds none, nor for FLAT."""
    flushed: bool
    """False for the rows that are still searched where they were written, without the index."""


def vectors_by_id(
    connection: Connection, collection: str, ids: Sequence[int], consistency: str = "Strong"
) -> dict[int, FloatArray]:
    """The vectors [D] of those of ``ids`` that the collection holds, the last writes included."""
    vectors = field_by_id(connection, collection, ids, "vector", consistency)
    return {item: np.asarray(vector, np.float32) for item, vector in vectors.items()}


def field_by_id(
    connection: Connection,
    collection: str,
    ids: Sequence[int],
    field: str,
    consistency: str = "Strong",
) -> dict[int, Any]:
    """The ``field`` of those of ``ids`` that the collection holds."""
    values: dict[int, Any] = {}
    for part in parts(ids):
        rows = connection.call(
            "query",
            collection,
            ids=list(ids[part]),
            output_fields=["item", field],
            consistency_level=consistency,
        )
        values |= {row["item"]: row[field] for row in rows}
    return values


def category_filter(categories: Iterable[str], operator: Literal["in", "not in"] = "in") -> str:
    """Milvus' expression for items of these categories, whatever is in their names."""
    quoted = ", ".join(f'"{name.translate(_ESCAPES)}"' for name in categories)
    return f"category {operator} [{quoted}]"


def categories_beside(
    connection: Connection, collection: str, known: Collection[str], consistency: str
) -> set[str]:
    """The categories of stored items that are not ``known``."""
    others, is_all = set[str](), False
    while not is_all:
        rows = connection.call(
            "query",
            collection,
            filter=category_filter({"", *known, *others}, "not in"),
            output_fields=["category"],
            limit=ROWS_PER_CALL,
            consistency_level=consistency,
        )
        fresh = {row["category"] for row in rows} - others
        others |= fresh
        is_all = len(rows) < ROWS_PER_CALL or not fresh
    return others


def parts(ids: Sized) -> Iterator[slice]:
    """Slices of ``ids``, each few enough for a call."""
    for start in range(0, len(ids), IDS_PER_CALL):
        yield slice(start, start + IDS_PER_CALL)
