# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The version before is kept, comes back, and is told from what a killed build left."""

from __future__ import annotations

import os

import numpy as np
import pytest

from paddlerec_milvus.errors import RefusedError, RetrievalError
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.ownership import mark

from .conftest import clustered

IDS = np.arange(1, 201)
VECTORS = clustered(200, 8, seed=1)


def names(retriever: MilvusRetriever) -> list[str]:
    """Of all versions, in order of their numbers."""
    found = retriever.versions.names()
    return [found[number] for number in sorted(found)]


def build(retriever: MilvusRetriever, first_id: int) -> str:
    """The name of what it made."""
    retriever.versions.build(
        VECTORS, IDS + first_id, properties={"model": str(first_id)}, keep=True
    )
    return retriever.versions.serving().name


def nearest(retriever: MilvusRetriever) -> int:
    return int(retriever.search(VECTORS[:1], 1, consistency="Strong").ids[0, 0])


@pytest.mark.slow
def test_the_version_before_is_kept_and_comes_back(uri, make_retriever):
    retriever = make_retriever(uri)
    with pytest.raises(RetrievalError, match="keeps no version"):
        retriever.versions.roll_back()
    _, second, third = [build(retriever, number) for number in (0, 1_000, 2_000)]
    assert names(retriever) == [second, third]
    assert nearest(retriever) == 2_001
    assert retriever.versions.roll_back() == second
    assert nearest(retriever) == 1_001
    assert retriever.versions.serving().properties["model"] == "1000"
    assert retriever.versions.previous().properties["model"] == "2000"
    assert retriever.versions.roll_back() == third
    assert nearest(retriever) == 2_001

    retriever.versions.build(VECTORS, IDS)  # without keep, one version is all there is
    assert len(names(retriever)) == 1
    assert retriever.versions.previous() is None
    build(retriever, 5)
    assert retriever.versions.drop()
    assert names(retriever) == []


@pytest.mark.slow
def test_a_pinned_retriever_stays_on_its_version(uri, make_retriever):
    retriever = make_retriever(uri)
    build(retriever, 0)
    with MilvusRetriever(uri, retriever.collection) as pinned:
        pinned.open(pin=True)
        build(retriever, 1_000)
        assert nearest(retriever) == 1_001
        assert nearest(pinned) == 1
        pinned.delete([1])
        assert pinned.count() == 199
        assert retriever.count() == 200
        build(retriever, 2_000)  # its version goes now
        with pytest.raises(RetrievalError):
            nearest(pinned)


@pytest.mark.slow
def test_a_check_that_fails_changes_nothing(uri, make_retriever):
    retriever = make_retriever(uri)
    first = build(retriever, 0)
    build(retriever, 1_000)
    seen = []

    def check(version: str) -> None:
        seen.append(nearest(retriever.at(version)))
        raise RefusedError("too little")

    with pytest.raises(RefusedError, match="too little"):
        retriever.versions.build(VECTORS, IDS + 2_000, check=check, keep=True)
    assert seen == [2_001]
    assert nearest(retriever) == 1_001
    assert retriever.versions.roll_back() == first
    assert nearest(retriever) == 1


@pytest.mark.slow
def test_tidying_leaves_what_serves_is_kept_or_is_under_way(uri, make_retriever):
    retriever = make_retriever(uri)
    used = [build(retriever, 0), build(retriever, 1_000)]
    marked = mark(retriever.collection)
    left, busy = (f"{retriever.collection}_v{number}" for number in (3, 4))
    for name, process in ((left, "999999999"), (busy, str(os.getppid()))):
        properties = {**marked, "made_by_process": process}
        retriever._connection.create_collection(name, 4, properties)
    assert retriever.versions.tidy() == [left]
    assert names(retriever) == [busy, *used]
    retriever._connection.call("drop_collection", busy)


@pytest.mark.slow
def test_another_index_on_what_is_stored(uri, make_retriever):
    vectors = clustered(3_000, 16, seed=2)
    first = make_retriever(uri, index=Flat())
    with pytest.raises(RetrievalError, match="no such collection"):
        first.versions.reindex()
    first.versions.build(vectors, np.arange(3_000) + 1)
    with MilvusRetriever(uri, first.collection, index=Hnsw(M=8, ef=64)) as second:
        times = second.versions.reindex()
        assert times.rows == 3_000
        assert times.insert_seconds == 0
        second.open(rows=3_000)
        assert second.search(vectors[:5], 1).ids[:, 0].tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(RetrievalError, match="its index is HNSW"):
        first.open()
