# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the real server makes of each index type, of filters, segments and compaction."""

from __future__ import annotations

import numpy as np
import pytest

from paddlerec_milvus.errors import RefusedError, RetrievalError
from paddlerec_milvus.retrieval import build as building
from paddlerec_milvus.retrieval.build import Rows
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import (
    AutoIndex,
    DiskAnn,
    Flat,
    Hnsw,
    HnswSq,
    IvfFlat,
    IvfPq,
    IvfSq8,
    Scann,
)
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus

from .conftest import clustered

ROWS = 5_000
IDS = np.arange(1, ROWS + 1)
VECTORS = clustered(ROWS, 16, seed=7)
CATEGORIES = ["books" if number % 10 == 0 else "films" for number in IDS]

BUILT = [
    Flat(),
    IvfFlat(nlist=64, nprobe=16),
    IvfSq8(nlist=64, nprobe=16),
    IvfPq(nlist=64, nprobe=16, m=16, nbits=8),
    Scann(nlist=64, nprobe=16, reorder_k=64),
    Hnsw(),
    AutoIndex(),
]


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("index", BUILT, ids=lambda index: index.type_name)
def test_vectors_find_themselves(server, make_retriever, index):
    retriever = make_retriever(server.uri, index=index)
    retriever.versions.build(VECTORS, IDS)
    retriever.open(dimension=16, rows=ROWS)
    found = retriever.search(VECTORS[::10], 10)
    assert (found.ids[:, 0] == IDS[::10]).mean() >= 0.9
    (segment,) = retriever.segments()
    assert segment == (ROWS, index != Flat(), True)  # FLAT is no index to the server
    if isinstance(index, IvfFlat | IvfSq8 | Scann):
        assert retriever.parameters_without_effect(VECTORS[:200], 50) == []


@pytest.mark.parametrize("index", [IvfSq8(64, 16), HnswSq(), AutoIndex()])
def test_lite_has_some_of_them(lite_uri, make_retriever, index):
    retriever = make_retriever(lite_uri, index=index)
    retriever.versions.build(VECTORS[:1_000], IDS[:1_000])
    retriever.open(dimension=16, rows=1_000)
    found = retriever.search(VECTORS[:100], 5)
    assert (found.ids[:, 0] == IDS[:100]).mean() >= 0.9
    assert retriever.segments() == []


@pytest.mark.parametrize("index", [IvfPq(), Scann(), DiskAnn()])
def test_lite_refuses_the_others(lite_uri, make_retriever, index):
    with pytest.raises(RefusedError, match=rf"refused 'create_index': .*{index.type_name}"):
        make_retriever(lite_uri, index=index).versions.build(VECTORS[:50], IDS[:50])


@pytest.mark.server
def test_server_refuses_what_it_lacks_and_what_does_not_fit(server, make_retriever):
    with pytest.raises(RefusedError, match="invalid index type: HNSW_SQ"):
        make_retriever(server.uri, index=HnswSq()).versions.build(VECTORS[:50], IDS[:50])
    with pytest.raises(RefusedError, match="dimension: 16, m: 5"):
        make_retriever(server.uri, index=IvfPq(m=5)).versions.build(VECTORS[:50], IDS[:50])


@pytest.mark.server
def test_index_that_never_gets_ready_is_given_up(server, make_retriever, monkeypatch):
    monkeypatch.setattr(building, "TRIAL_SECONDS", 5.0)
    retriever = make_retriever(server.uri, index=DiskAnn())
    with pytest.raises(RefusedError, match=r"the DISKANN index of .* was not ready after 5 s"):
        retriever.versions.build(VECTORS, IDS)
    assert not retriever.versions.names()


def test_filter_lets_only_what_passes_come_back(uri, make_retriever):
    retriever = make_retriever(uri)
    retriever.versions.build(VECTORS, IDS, CATEGORIES)
    books = IDS % 10 == 0
    found = retriever.search(VECTORS[:20], 20, filter='category == "books"')
    true = ExactRetriever(VECTORS[books], IDS[books]).search(VECTORS[:20], 20)
    np.testing.assert_array_equal(found.ids, true.ids)
    others = retriever.search_with(Flat(), VECTORS[:1], 3, filter="item not in [1, 2]").ids[0]
    all_of_them = retriever.search(VECTORS[:1], 5).ids[0]
    assert others.tolist() == [item for item in all_of_them if item not in (1, 2)][:3]
    with pytest.raises(RetrievalError, match="refused 'search'"):
        retriever.search(VECTORS[:1], 3, filter="genre == 3")


@pytest.mark.slow
@pytest.mark.server
def test_small_and_growing_segments_are_told(server, make_retriever):
    small = make_retriever(server.uri, index=Hnsw())
    small.versions.build(VECTORS[:500], IDS[:500])
    assert small.segments() == [(500, False, True)]
    assert small.parameters_without_effect(VECTORS[:200], 50) == ["ef"]

    large = make_retriever(server.uri, index=Hnsw())
    large.versions.build(VECTORS, IDS)
    large.upsert(-VECTORS[:300], IDS[:300])
    assert large.segments() == [(ROWS, True, True), (300, False, False)]


@pytest.mark.slow
@pytest.mark.server
def test_segments_of_an_insert_become_one_where_nobody_is_disturbed(monkeypatch):
    real, called = Connection.call, []

    def flushing(self, name, *arguments, **options):
        called.append(name)
        answer = real(self, name, *arguments, **options)
        if name == "insert":
            real(self, "flush", arguments[0])
        return answer

    index = IvfFlat(nlist=64, nprobe=64)
    with (
        LocalMilvus() as server,
        MilvusRetriever(server.uri, "small") as small,
        MilvusRetriever(server.uri, "first", index=index) as first,
        MilvusRetriever(server.uri, "second", index=index) as second,
    ):
        small.versions.build(VECTORS[:300], IDS[:300])
        halves = [slice(0, 2_000), slice(2_000, ROWS)]
        whole = Rows.batches
        monkeypatch.setattr(
            Rows,
            "batches",
            lambda rows: (
                batch
                for half in halves
                for batch in whole(Rows(rows.vectors[half], rows.ids[half], None))
            ),
        )
        monkeypatch.setattr(Connection, "call", flushing)
        times = first.versions.build(VECTORS, IDS)
        assert "compact" in called
        assert times.compact_seconds > 0
        assert first.segments() == [(ROWS, True, True)]
        assert len(first.versions.segment_numbers()) == 1
        assert first.versions.pending_rows() == 0
        called.clear()
        second.versions.build(VECTORS, IDS)
        assert "compact" not in called
        assert sorted(second.segments()) == [(2_000, True, True), (ROWS - 2_000, True, True)]
        true = ExactRetriever(VECTORS, IDS).search(VECTORS[:50], 10)
        for retriever in (first, second):
            retriever.open(rows=ROWS)
            found = retriever.search(VECTORS[:50], 10)
            np.testing.assert_allclose(found.scores, true.scores, atol=1e-5)


@pytest.mark.server
def test_others_that_cannot_be_counted_are_not_disturbed(server, make_retriever, monkeypatch):
    real = Connection.call

    def refusing(self, name, *arguments, **options):
        if name == "get_collection_stats":
            raise RefusedError("permission denied")
        return ["other"] if name == "list_collections" else real(self, name, *arguments, **options)

    monkeypatch.setattr(Connection, "call", refusing)
    assert building._disturbs_others(make_retriever(server.uri)._connection, "items", 10**9)
