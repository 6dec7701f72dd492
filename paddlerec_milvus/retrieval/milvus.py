# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Retrieval in Milvus: Lite, a server or a managed one, by one and the same code."""

from __future__ import annotations

import types
from collections.abc import Collection, Sequence
from copy import copy
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from paddlerec_milvus.errors import RefusedError, RetrievalError, SettingsError, nearest
from paddlerec_milvus.retrieval.base import (
    MISSING_ID,
    MISSING_SCORE,
    FloatArray,
    IntArray,
    Neighbours,
    checked_k,
    checked_metric,
    checked_queries,
)
from paddlerec_milvus.retrieval.build import Rows
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.indexes import Flat, Index, index_of_settings, search_span
from paddlerec_milvus.retrieval.ownership import Description, describe
from paddlerec_milvus.retrieval.stored_rows import (
    Segment,
    categories_beside,
    field_by_id,
    parts,
    vectors_by_id,
)
from paddlerec_milvus.retrieval.versions import CollectionVersions
from paddlerec_milvus.settings import Settings

CONSISTENCY_LEVELS = ("Strong", "Bounded", "Session", "Eventually")
QUERIES_PER_CALL = 1_024  # Milvus takes 16,384; fewer keep a slow index within the deadline
HITS_PER_CALL = 1_000_000  # 12 bytes each, well below the 64 MB of a message
_search_params = lru_cache(1_024)(lambda index, k: index.search_params(k))  # checked once a k


class MilvusRetriever:
    """The items of one collection (in truth an alias, see :mod:`.versions`) of one Milvus.

    ``versions`` builds it, switches between what was built, and drops it.

    ``uri``, ``token``, ``db_name`` as ``MilvusClient`` takes them; ``timeout`` seconds for every
    call. ``metric`` and ``index`` are those of the collection; ``consistency`` is that of searches:
    ``Bounded`` answers at once and may miss the last seconds' writes, ``Strong`` waits for them.
    A context manager; or call :meth:`close`. All methods raise RetrievalError when Milvus is away
    or refuses, SettingsError for values that cannot be used.
    """

    def __init__(
        self,
        uri: str,
        collection: str,
        *,
        token: str = "",
        db_name: str = "",
        timeout: float = 30.0,
        metric: str = "IP",
        index: Index = Flat(),  # noqa: B008  (frozen)
        consistency: str = "Bounded",
    ) -> None:
        if consistency not in CONSISTENCY_LEVELS:
            raise SettingsError(
                f"milvus.consistency: {consistency!r} is not known"
                f"{nearest(consistency.title(), CONSISTENCY_LEVELS)}; "
                f"one of {', '.join(CONSISTENCY_LEVELS)}"
            )
        self.collection = collection
        self.metric = checked_metric(metric)
        self.consistency = consistency
        self._index = index
        self._version: str | None = None
        self._has_own_ids = False
        self._connection = Connection(uri, token=token, db_name=db_name, timeout=timeout)
        self.uri = self._connection.uri
        self.versions = CollectionVersions(self._connection, collection, metric, index)

    def __enter__(self) -> MilvusRetriever:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the collection stays."""
        self._connection.close()

    @property
    def index(self) -> Index:
        """The index. Another one of the same type and build can be set: it changes the searches."""
        return self._index

    @index.setter
    def index(self, index: Index) -> None:
        new, built = (index.type_name, index.build_params()), self._index.build_params()
        if new != (self._index.type_name, built):
            raise SettingsError(
                f"collection {self.collection!r} at {self.uri} has the index "
                f"{self._index.type_name} {built}, not {new[0]} {new[1]}: only what a search "
                "takes (nprobe, ef …) can change without building again"
            )
        self._index = index

    @property
    def is_exact(self) -> bool:
        """Whether the index finds the true neighbours: FLAT, or IVF_FLAT with all cells."""
        return self._index.is_exact

    @property
    def dimension(self) -> int:
        """D of the stored vectors."""
        if self.versions.dimension is None:
            self.open()
        return self.versions.dimension or 0

    def at(self, version: str, index: Index | None = None) -> MilvusRetriever:
        """This retriever on one version (by default of the same index), by the same connection."""
        other = copy(self)
        other._index = index or self._index
        other.versions = copy(self.versions)
        other._version, other.versions.dimension = version, None
        other.open()
        return other

    def open(
        self, dimension: int | None = None, rows: int | None = None, *, pin: bool = False
    ) -> Description:
        """Use what is there, and tell it; raises RetrievalError if it is missing or something else.

        ``dimension`` and the exact number of ``rows`` are checked where given, metric and index
        always. ``pin``: from now on use this version of the collection, whatever takes its place.
        """
        name, versions = self._version, self.versions
        version = describe(self._connection, name) if name else versions.serving()
        if version is None:
            raise versions.missing()
        again = "build it again (a service: POST /insert), or give another milvus.collection"
        if dimension is not None and version.dimension != dimension:
            problem = f"the vectors have {version.dimension} dimensions, expected {dimension}"
            raise self._wrong(problem, again)
        index = self._connection.call("describe_index", version.name, "vector") or {}
        metric = str(index.get("metric_type", "none"))
        if metric != self.metric:
            raise self._wrong(f"its metric is {metric}, expected {self.metric}", again)
        params = self._index.build_params()
        built = {key: type(params[key])(index[key]) for key in params if key in index}
        expected = {key: params[key] for key in built}  # Lite keeps none
        if index.get("index_type") != self._index.type_name or built != expected:
            there = f"{index.get('index_type', 'none')} {built}"
            expectation = f"{self._index.type_name} {params}"
            raise self._wrong(f"its index is {there}, expected {expectation}", again)
        self.versions.dimension = version.dimension
        self._has_own_ids = "own_id" in version.fields
        if pin:
            self._version = version.name
        self._connection.call("load_collection", self._read)
        if rows is not None and (stored := self.count()) != rows:
            raise self._wrong(f"it holds {stored:,} rows, expected {rows:,}", again)
        return version

    @property
    def _read(self) -> str:
        """What is read and written: the pinned version, or whatever the alias points at."""
        return self._version or self.collection

    def _wrong(self, problem: str, advice: str) -> RefusedError:
        return RefusedError(f"collection {self.collection!r} at {self.uri}: {problem}; {advice}")

    def search(
        self, queries: ArrayLike, k: int, *, filter: str = "", consistency: str | None = None
    ) -> Neighbours:
        """The ``k`` nearest items of each of ``queries`` [n, D], as far as the index finds them.

        ``filter`` is a boolean expression of Milvus on ``item`` and ``category`` that all of them
        pass: ``category == "books"``, ``item not in [1, 2]``.
        """
        return self.search_with(self._index, queries, k, filter=filter, consistency=consistency)

    def search_with(
        self,
        index: Index,
        queries: ArrayLike,
        k: int,
        *,
        filter: str = "",
        consistency: str | None = None,
    ) -> Neighbours:
        """:meth:`search` with another index' search parameters (``nprobe``, ``ef`` …)."""
        checked_k(k)
        checked = checked_queries(queries, self.dimension)
        parameters = {"metric_type": self.metric, "params": dict(_search_params(index, k))}
        ids = np.full((len(checked), k), MISSING_ID, np.int64)
        scores = np.full((len(checked), k), MISSING_SCORE, np.float32)
        # asked for nothing, a server sends ids and scores alone, and Lite whole rows
        fields = ["item"] if self._connection.is_lite else None
        step = max(1, min(QUERIES_PER_CALL, HITS_PER_CALL // k))
        for start in range(0, len(checked), step):
            part = checked[start : start + step]
            lists = self._connection.call(
                "search",
                self._read,
                list(part),
                filter=filter,
                limit=k,
                search_params=parameters,
                output_fields=fields,
                consistency_level=consistency or self.consistency,
            )
            for row, hits in enumerate(lists, start):
                ids[row, : len(hits.ids)] = hits.ids
                scores[row, : len(hits.ids)] = hits.distances
        if self.metric == "L2":
            scores = np.where(ids == MISSING_ID, MISSING_SCORE, -scores).astype(np.float32)
        return Neighbours(ids, scores)

    def search_by_ids(self, ids: ArrayLike, k: int) -> Neighbours:
        """The neighbours of stored items [n], by their own vectors; RetrievalError: one lacks."""
        return self.search(self.vectors(ids), k)

    def vectors(self, ids: ArrayLike) -> FloatArray:
        """The stored vectors [n, D] of ``ids`` [n], in that order; RetrievalError if one lacks."""
        numbers: IntArray = np.asarray(ids, np.int64).ravel()
        distinct, inverse = np.unique(numbers, return_inverse=True)
        by_id = self.stored_vectors(distinct.tolist())
        if absent := [number for number in distinct.tolist() if number not in by_id]:
            more = f" (and {len(absent) - 1} more of those asked for)" if absent[1:] else ""
            place = f"collection {self.collection!r} at {self.uri}"
            raise RetrievalError(f"{place} holds no item {absent[0]}{more}")
        stored = np.array([by_id[number] for number in distinct.tolist()], np.float32)
        return np.asarray(stored.reshape(-1, self.dimension)[inverse], np.float32)

    def stored_vectors(self, ids: Sequence[int], level: str = "Strong") -> dict[int, FloatArray]:
        """The vectors [D] of those of ``ids`` that are stored, the last writes included."""
        return vectors_by_id(self._connection, self._read, ids, level)

    def categories_of(self, ids: Sequence[int], consistency: str | None = None) -> dict[int, str]:
        """The categories of those of ``ids`` that a search sees, "" for those that have none."""
        level = consistency or self.consistency
        return field_by_id(self._connection, self._read, ids, "category", level)

    def stored_names(self, ids: Sequence[int]) -> dict[int, str]:
        """The own ids of those of ``ids`` that were stored with one, as far as can be seen now."""
        known = ids if self._has_own_ids else ()
        names = field_by_id(self._connection, self._read, known, "own_id", "Bounded")
        return {number: own for number, own in names.items() if own}

    def other_categories(self, known: Collection[str], consistency: str) -> set[str]:
        """The categories of stored items that are not ``known``."""
        return categories_beside(self._connection, self._read, known, consistency)

    def count(self, filter: str = "") -> int:
        """The exact number of stored items that pass ``filter``, the last writes included."""
        return self._count(filter, ignore_growing=False)

    def _count(self, filter: str = "", *, ignore_growing: bool) -> int:
        rows = self._connection.call(
            "query",
            self._read,
            filter=filter,
            output_fields=["count(*)"],
            consistency_level="Strong",
            ignore_growing=ignore_growing,
        )
        return int(rows[0]["count(*)"])

    def segments(self) -> list[Segment]:
        """What searches of the collection go through; empty where Milvus does not say (Lite).

        A server lists only what it has flushed and taken over, which may take it half a minute.
        All other rows are counted, and come last as one segment.
        """
        if self._connection.is_lite:
            return []
        loaded = self._connection.call("list_loaded_segments", self._read)
        listed = [Segment(part.num_rows, bool(part.index_id), True) for part in loaded]
        growing = self.count() - self._count(ignore_growing=True)
        return listed + ([Segment(growing, False, False)] if growing > 0 else [])

    def server_version(self) -> str:
        """Of the Milvus that answers."""
        return str(self._connection.call("get_server_version"))

    def upsert(
        self,
        vectors: ArrayLike,
        ids: ArrayLike,
        categories: Sequence[str] | None = None,
        own_ids: Sequence[str] | None = None,
    ) -> int:
        """Store ``vectors`` [n, D] under new or known ``ids`` [n]; returns n.

        ``own_ids`` [n]: what others call the items, "" for those that have no other id.
        A Bounded search sees them after some seconds, a Strong one at once.
        """
        rows = Rows.checked(vectors, ids, categories)
        if rows.vectors.shape[1] != self.dimension:
            here = f"those in {self.collection!r} at {self.uri} have {self.dimension}"
            raise SettingsError(f"vectors have {rows.vectors.shape[1]} dimensions, {here}")
        if own_ids is not None and not self._has_own_ids:
            advice = "insert the model's vectors anew (POST /insert)"
            raise self._wrong("it was built before new items could have strings for ids", advice)
        for batch in rows._replace(own_ids=own_ids).batches():
            self._connection.call("upsert", self._read, batch)
        return len(rows.ids)

    def delete(self, ids: ArrayLike) -> None:
        """Delete the items ``ids`` [n]; one that is not stored is no error."""
        numbers: IntArray = np.asarray(ids, np.int64).ravel()
        for part in parts(numbers):
            self._connection.call("delete", self._read, ids=numbers[part].tolist())

    def parameters_without_effect(self, queries: ArrayLike, k: int) -> list[str]:
        """Search parameters (``nprobe``, ``ef`` …) that change nothing on ``queries`` [n, D].

        The weakest setting is compared with the strongest. With a real index on enough rows they
        differ; Milvus Lite, or segments too small to be indexed, return the same.
        """
        if (span := search_span(self._index, k)) is None:
            return []
        weak, strong = (self.search_with(index, queries, k).ids for index in span[1:])
        return [span[0]] if np.array_equal(weak, strong) else []


def retriever_from_settings(
    settings: Settings, *, timeout: float | None = None, collection: str | None = None
) -> MilvusRetriever:
    """A retriever as the settings say; ``timeout`` seconds and ``collection`` replace theirs."""
    milvus = settings.milvus
    return MilvusRetriever(
        settings.milvus_uri,
        milvus.collection if collection is None else collection,
        token=milvus.token.get_secret_value(),
        db_name=milvus.db_name,
        timeout=milvus.timeout if timeout is None else timeout,
        metric=settings.retrieval.metric,
        index=index_of_settings(settings),
        consistency=milvus.consistency,
    )
