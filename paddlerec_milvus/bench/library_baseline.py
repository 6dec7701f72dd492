# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The engine alone: the same vectors in FAISS or hnswlib, searched in this process by one thread.

What a search takes here is a floor under Milvus' time: what lies above is the client, the network,
and Milvus around its engine (which is FAISS for FLAT and IVF, hnswlib for HNSW).
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.errors import RefusedError, SettingsError, UserError, nearest
from paddlerec_milvus.retrieval.base import (
    MISSING_ID,
    MISSING_SCORE,
    FloatArray,
    IntArray,
    Neighbours,
    checked_metric,
)
from paddlerec_milvus.retrieval.exact import normalised
from paddlerec_milvus.retrieval.indexes import Index, most_cells

TYPES = {
    "faiss": ("FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "HNSW"),
    "hnswlib": ("HNSW",),
}
EXTRAS = {"faiss": "bench", "hnswlib": "hnswlib"}
SEED = 100  # of hnswlib's levels

Parameters = Mapping[str, Any]
RowsAndScores = tuple[npt.NDArray[Any], npt.NDArray[Any]]  # rows [n, k], -1 missing; scores [n, k]


def engines() -> tuple[str, ...]:
    """Those of ``faiss`` and ``hnswlib`` that are installed."""
    return tuple(engine for engine in TYPES if find_spec(engine) is not None)


def supported(engine: str, index: Index) -> bool:
    """Whether ``engine`` (``faiss`` or ``hnswlib``) has the type of ``index``."""
    return index.type_name in TYPES.get(engine, ())


class LibraryIndex:
    """``vectors`` [N, D] float32 under ``ids`` [N] int64 in an engine's own index.

    ``index`` gives type and build parameters, ``metric`` is IP, COSINE or L2. Building takes all
    cores unless ``threads_for_building`` says otherwise. Raises UserError where the engine is not
    installed, SettingsError for one that is unknown or lacks the type, RefusedError where the
    engine will not build with these parameters.
    """

    def __init__(
        self,
        engine: str,
        index: Index,
        vectors: FloatArray,
        ids: IntArray,
        metric: str,
        threads_for_building: int | None = None,
    ) -> None:
        _check(engine, index)
        self.engine = engine
        self.metric = checked_metric(metric)
        self._built = (index.type_name, index.build_params())
        self._count = len(ids)
        self._ids = np.append(ids, MISSING_ID)  # of row -1, too
        stored = np.ascontiguousarray(vectors, np.float32)
        stored = normalised(stored) if metric == "COSINE" else stored
        threads = threads_for_building or os.cpu_count() or 1
        began = time.perf_counter()
        try:
            self._engine = _ENGINES[engine](index, stored, metric, threads)
        except RuntimeError as error:
            raise RefusedError(f"{self}: cannot be built: {_reason(error)}") from error
        self.build_seconds = time.perf_counter() - began

    def __str__(self) -> str:
        return f"{self.engine} {self._built[0]} {self._built[1]}"

    def search(self, queries: FloatArray, k: int, index: Index) -> Neighbours:
        """The ``k`` neighbours of each of ``queries`` [n, D] with ``index``' search parameters.

        ``index`` is of the type and build that this was made with (SettingsError otherwise).
        RefusedError where the engine cannot give them. Queries are not checked: this is timed.
        """
        if (index.type_name, index.build_params()) != self._built:
            raise SettingsError(f"{self} cannot be searched as {index}: build that one")
        vectors = np.ascontiguousarray(queries, np.float32)
        vectors = normalised(vectors) if self.metric == "COSINE" else vectors
        held = min(k, self._count)
        try:
            rows, scores = self._engine.search(vectors, held, index.search_params(k))
        except RuntimeError as error:
            raise RefusedError(f"{self}: cannot be searched: {_reason(error)}") from error
        if (rows[:, -1] < 0).any():  # missing ones come last
            scores = np.where(rows < 0, np.float32(MISSING_SCORE), scores)
        if held == k:
            return Neighbours(self._ids[rows], scores)
        rest = ((0, 0), (0, k - held))
        return Neighbours(
            np.pad(self._ids[rows], rest, constant_values=MISSING_ID),
            np.pad(scores, rest, constant_values=MISSING_SCORE),
        )


def _check(engine: str, index: Index) -> None:
    if engine not in TYPES:
        raise SettingsError(
            f"floor: {engine!r} is no engine{nearest(engine, TYPES)}; one of {', '.join(TYPES)}"
        )
    if not supported(engine, index):
        raise SettingsError(
            f"floor: {engine} has no {index.type_name}; it has: {', '.join(TYPES[engine])}"
        )
    if engine not in engines():
        raise UserError(
            f"floor: {engine} is not installed: pip install 'paddlerec-milvus[{EXTRAS[engine]}]'"
        )


def _reason(error: RuntimeError) -> str:
    """What it says; FAISS puts its source file and the failed condition before it."""
    return str(error).rsplit(" failed: ", 1)[-1].strip()


class _Engine(Protocol):
    def search(self, queries: FloatArray, k: int, parameters: Parameters) -> RowsAndScores: ...


class _Faiss:
    def __init__(self, index: Index, vectors: FloatArray, metric: str, threads: int) -> None:
        self._faiss: Any = importlib.import_module("faiss")
        self._faiss.omp_set_num_threads(threads)
        self._sign = np.float32(-1 if metric == "L2" else 1)  # it returns squared distances
        self._index = self._made(index.type_name, index.build_params(), vectors, metric)
        self._index.train(vectors)
        self._index.add(vectors)

    def _made(self, kind: str, built: Parameters, vectors: FloatArray, metric: str) -> Any:
        """An empty index, as Milvus makes it."""
        faiss, (rows, dimension) = self._faiss, vectors.shape
        measure = faiss.METRIC_L2 if metric == "L2" else faiss.METRIC_INNER_PRODUCT
        if kind == "FLAT":
            return faiss.IndexFlat(dimension, measure)
        if kind == "HNSW":
            graph = faiss.IndexHNSWFlat(dimension, built["M"], measure)
            graph.hnsw.efConstruction = built["efConstruction"]
            return graph
        cells = min(built["nlist"], most_cells(rows))
        centres = faiss.IndexFlat(dimension, measure)
        if kind == "IVF_FLAT":
            return faiss.IndexIVFFlat(centres, dimension, cells, measure)
        if kind == "IVF_SQ8":
            code = faiss.ScalarQuantizer.QT_8bit
            return faiss.IndexIVFScalarQuantizer(centres, dimension, cells, code, measure)
        index = faiss.IndexIVFPQ(centres, dimension, cells, built["m"], built["nbits"], measure)
        index.pq.cp.min_points_per_centroid = 1  # a warning for each part, else
        return index

    def search(self, queries: FloatArray, k: int, parameters: Parameters) -> RowsAndScores:
        self._faiss.omp_set_num_threads(1)  # holds for the calling thread alone, so at each call
        if "nprobe" in parameters:
            self._index.nprobe = parameters["nprobe"]
        if "ef" in parameters:
            self._index.hnsw.efSearch = parameters["ef"]
        scores, rows = self._index.search(queries, k)
        return rows, self._sign * scores


class _Hnswlib:
    def __init__(self, index: Index, vectors: FloatArray, metric: str, threads: int) -> None:
        hnswlib: Any = importlib.import_module("hnswlib")
        built, (rows, dimension) = index.build_params(), vectors.shape
        self._best = np.float32(0 if metric == "L2" else 1)  # its "ip" is 1 - inner product
        self._index = hnswlib.Index("l2" if metric == "L2" else "ip", dimension)
        self._index.init_index(
            rows, M=built["M"], ef_construction=built["efConstruction"], random_seed=SEED
        )
        self._index.add_items(vectors, num_threads=threads)

    def search(self, queries: FloatArray, k: int, parameters: Parameters) -> RowsAndScores:
        self._index.set_ef(parameters["ef"])
        rows, distances = self._index.knn_query(queries, k, num_threads=1)
        return rows.view(np.int64), self._best - distances


_ENGINES: dict[str, type[_Faiss | _Hnswlib]] = {"faiss": _Faiss, "hnswlib": _Hnswlib}
