# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Search of users' interests: exact, in Milvus, by the engines alone; then the merge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from paddlerec_milvus.bench.library_baseline import LibraryIndex, engines
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.evaluation.metrics import index_recall
from paddlerec_milvus.retrieval.base import FloatArray, Neighbours
from paddlerec_milvus.retrieval.candidates import merge_interests
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw, Index, IvfFlat
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus

K = 50
INDEXES: dict[str, Index] = {
    "FLAT": Flat(),
    "IVF_FLAT": IvfFlat(nlist=256, nprobe=32),
    "HNSW": Hnsw(M=16, ef_construction=200, ef=96),
}
ALONE = [("faiss", "FLAT"), ("faiss", "IVF_FLAT"), ("faiss", "HNSW"), ("hnswlib", "HNSW")]

one_and_many = pytest.mark.parametrize("users", [1, 128])
grouped = pytest.mark.benchmark(group="search")
Search = Callable[[FloatArray], Neighbours]


def in_turns(workload: Workload, users: int) -> Iterator[FloatArray]:
    """The queries [users * K, D] of all users, so many a call, over and over."""
    parts = len(workload.interests) // users
    dimension = workload.interests.shape[2]
    return cycle(part.reshape(-1, dimension) for part in np.split(workload.interests, parts))


def measure(benchmark: Any, search: Search, workload: Workload, users: int) -> None:
    """Time ``search`` of so many users a call; what it finds must be near the truth."""
    queries = in_turns(workload, users)
    benchmark.extra_info["items"], benchmark.extra_info["dimension"] = workload.vectors.shape
    benchmark.extra_info["k"] = K
    benchmark(lambda: search(next(queries)))
    exact = ExactRetriever(workload.vectors, workload.ids, workload.metric)
    recalls = index_recall(search(workload.queries).ids, exact.search(workload.queries, K).ids)
    benchmark.extra_info["index_recall"] = float(recalls.mean())
    assert recalls.mean() > 0.9


@pytest.fixture(scope="module", params=list(INDEXES))
def milvus(
    request: pytest.FixtureRequest, server: LocalMilvus, workload: Workload
) -> Iterator[MilvusRetriever]:
    """The items in a real server, once for each index."""
    index, name = INDEXES[request.param], f"bench_{request.param.lower()}"
    with MilvusRetriever(server.uri, name, metric=workload.metric, index=index) as built:
        built.versions.build(workload.vectors, workload.ids)
        yield built
        built.versions.drop()


@grouped
@one_and_many
def test_exact(benchmark: Any, workload: Workload, users: int) -> None:
    exact = ExactRetriever(workload.vectors, workload.ids, workload.metric)
    measure(benchmark, lambda queries: exact.search(queries, K), workload, users)


@pytest.mark.server
@grouped
@one_and_many
def test_milvus(benchmark: Any, milvus: MilvusRetriever, workload: Workload, users: int) -> None:
    benchmark.extra_info["index"] = repr(milvus.index)
    measure(benchmark, lambda queries: milvus.search(queries, K), workload, users)


@grouped
@one_and_many
@pytest.mark.parametrize(("engine", "kind"), ALONE)
def test_engine_alone(
    benchmark: Any, workload: Workload, engine: str, kind: str, users: int
) -> None:
    if engine not in engines():
        pytest.skip(f"{engine} is not installed")
    index = INDEXES[kind]
    built = LibraryIndex(engine, index, workload.vectors, workload.ids, workload.metric, 1)
    benchmark.extra_info["index"] = repr(index)
    measure(benchmark, lambda queries: built.search(queries, K, index), workload, users)


@pytest.mark.benchmark(group="merge")
@one_and_many
def test_merge(benchmark: Any, workload: Workload, users: int) -> None:
    interests = workload.interests[:users]
    exact = ExactRetriever(workload.vectors, workload.ids, workload.metric)
    hits = exact.search(interests.reshape(-1, interests.shape[2]), K)
    shape = (users, interests.shape[1], K)
    lists = benchmark(merge_interests, hits.ids.reshape(shape), hits.scores.reshape(shape), K)
    assert (lists.ids > 0).all()
