# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of a collection by their ids, fetched in calls that Milvus takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np

from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.connection import Connection

IDS_PER_CALL = 4_096  # in a filter or a fetch of vectors


def vectors_by_id(
    connection: Connection, collection: str, ids: Sequence[int]
) -> dict[int, FloatArray]:
    """The vectors [D] of those of ``ids`` that the collection holds, the last writes included."""
    return {
        item: np.asarray(vector, np.float32)
        for part in parts(ids)
        for item, vector in field_by_id(connection, collection, ids[part], "vector").items()
    }


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


def parts(ids: Sized) -> Iterator[slice]:
    """Slices of ``ids``, each few enough for a call."""
    for start in range(0, len(ids), IDS_PER_CALL):
        yield slice(start, start + IDS_PER_CALL)
