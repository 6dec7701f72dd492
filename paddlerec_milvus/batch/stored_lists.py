# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists in a collection of Milvus, a row for each user, to be had by the user's id.

The primary key ``user`` is an int or a string, as the log has it; ``items`` and ``scores`` are
arrays. A collection has the lists of one job: its properties say of which.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import polars as pl

from paddlerec_milvus.batch.part_files import Parameters, require_same
from paddlerec_milvus.data.id_map import Kind, OwnId
from paddlerec_milvus.errors import ForeignError, RefusedError, SettingsError
from paddlerec_milvus.retrieval.connection import OWN_ID_BYTES, Connection
from paddlerec_milvus.retrieval.indexes import Flat
from paddlerec_milvus.retrieval.ownership import describe, mark, owned
from paddlerec_milvus.retrieval.user_history import check_user
from paddlerec_milvus.settings import Settings

LISTS_OF = "lists_of"  # the property with a job's parameters
MOST_ITEMS = 4_096  # of an array
ROWS_PER_CALL, IDS_PER_CALL = 1_000, 16_384
NO_VECTOR = [0.0, 0.0]  # every collection must have one


class StoredLists:
    """The collection ``name`` in the Milvus of ``settings``. A context manager.

    ``users`` and ``items`` are the kinds of ids. All methods raise RetrievalError when Milvus is
    away or refuses, or where the collection is something else; SettingsError: it holds the lists of
    other parameters, or lists are longer than an array.
    """

    def __init__(
        self, settings: Settings, name: str, parameters: Parameters, users: Kind, items: Kind
    ) -> None:
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
            raise SettingsError(f"--to-milvus {name}: letters, digits and _, no digit first")
        if parameters["top_k"] > MOST_ITEMS:
            raise SettingsError(f"--top_k {parameters['top_k']}: Milvus holds {MOST_ITEMS:,} items")
        self._name, self._parameters = name, dict(parameters)
        self._kinds = (users, items)
        milvus = settings.milvus
        self._connection = Connection(
            settings.milvus_uri,
            token=milvus.token.get_secret_value(),
            db_name=milvus.db_name,
            timeout=milvus.timeout,
        )

    def __enter__(self) -> StoredLists:
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def __str__(self) -> str:
        """Where the lists are."""
        return f"collection {self._name!r} at {self._connection.uri}"

    def _open(self) -> None:
        """Use the collection, made first if need be, maybe by another share just now."""
        if describe(self._connection, self._name) is None:
            try:
                self._create()
            except RefusedError:
                if describe(self._connection, self._name) is None:
                    raise
        there = describe(self._connection, self._name)
        if there is None or not owned(there, self._name) or LISTS_OF not in there.properties:
            raise ForeignError(f"{self}: is there and holds no lists: give another name")
        require_same(json.loads(there.properties[LISTS_OF]), self._parameters, str(self))
        if not self._connection.call("list_indexes", self._name):
            within = self._connection.timeout
            self._connection.create_index(self._name, Flat().type_name, "L2", {}, within)
        self._connection.call("load_collection", self._name)

    def _create(self) -> None:
        schema, types = self._connection.empty_schema()
        key, value = (
            {"datatype": types.INT64}
            if kind == "int"
            else {"datatype": types.VARCHAR, "max_length": OWN_ID_BYTES}
            for kind in self._kinds
        )
        schema.add_field("user", is_primary=True, **key)
        value = {"element_type" if name == "datatype" else name: one for name, one in value.items()}
        most = self._parameters["top_k"]
        schema.add_field("items", types.ARRAY, max_capacity=most, **value)
        schema.add_field("scores", types.ARRAY, max_capacity=most, element_type=types.FLOAT)
        schema.add_field("source", types.VARCHAR, max_length=16)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=len(NO_VECTOR))
        properties = mark(self._name, {LISTS_OF: json.dumps(self._parameters)})
        self._connection.call("create_collection", self._name, schema=schema, properties=properties)

    def missing(self, parts: Sequence[pl.Series]) -> list[int]:
        """The numbers of those ``parts``, each a column of users, not all of whom have a row."""
        for users in parts:
            for user in users.to_list():
                check_user(user)
        return [n for n, users in enumerate(parts) if self._count(users.to_list()) < len(users)]

    def _count(self, users: Sequence[OwnId]) -> int:
        """How many of ``users`` have a row."""
        count = 0
        for part in _pieces(users, IDS_PER_CALL):
            rows = self._connection.call(
                "query",
                self._name,
                filter=f"user in {json.dumps(part, ensure_ascii=False)}",
                output_fields=["count(*)"],
                consistency_level="Strong",
            )
            count += int(rows[0]["count(*)"])
        return count

    def write(self, number: int, users: pl.Series, rows: pl.DataFrame) -> None:
        """Store ``rows``, those of ``users``, in place of what is there of them."""
        for part in _pieces(rows.to_dicts(), ROWS_PER_CALL):
            data = [{**row, "vector": NO_VECTOR} for row in part]
            self._connection.call("upsert", self._name, data)


def _pieces(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
