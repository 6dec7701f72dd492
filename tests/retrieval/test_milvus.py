# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What only Milvus does: building beside the old, writes, deadlines, messages."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from pymilvus import MilvusClient

from paddlerec_milvus.errors import RetrievalError, SettingsError
from paddlerec_milvus.retrieval import build as building
from paddlerec_milvus.retrieval.build import Rows
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.indexes import Hnsw, IvfFlat
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.ownership import mark

from .conftest import clustered

IDS = np.arange(1, 201)
VECTORS = clustered(200, 8, seed=1)


@pytest.fixture
def retriever(uri, make_retriever):
    made = make_retriever(uri)
    made.versions.build(VECTORS, IDS)
    return made


def names(retriever: MilvusRetriever) -> list[str]:
    """The collections of this retriever, as Milvus lists them."""
    found: list[str] = retriever._connection.call("list_collections")
    return sorted(name for name in found if name.startswith(retriever.collection + "_v"))


def test_search_by_ids_and_exact_counts_after_writes(retriever):
    np.testing.assert_allclose(retriever.vectors([7, 3, 7]), VECTORS[[6, 2, 6]], atol=1e-6)
    found = retriever.search_by_ids([7, 3, 7], 5)
    assert found.ids[:, 0].tolist() == [7, 3, 7]
    np.testing.assert_array_equal(found.ids, retriever.search(VECTORS[[6, 2, 6]], 5).ids)
    with pytest.raises(RetrievalError, match=r"holds no item 900 \(and 1 more"):
        retriever.vectors([1, 900, 901])

    assert retriever.count() == 200
    retriever.upsert(-VECTORS[:3], [1, 500, 501], ["a", "b", "c"])
    assert retriever.count() == 202
    retriever.delete([2, 3, 777])
    assert retriever.count() == 200
    found = retriever.search(-VECTORS[:1], 1, consistency="Strong")
    assert found.ids.tolist() == [[1]]
    assert 2 not in retriever.search(VECTORS[1:2], 50, consistency="Strong").ids
    with pytest.raises(SettingsError, match="vectors have 5 dimensions"):
        retriever.upsert(np.ones((1, 5)), [9])


def test_building_again_replaces_all_rows_and_drops_the_old(retriever):
    before = names(retriever)
    times = retriever.versions.build(VECTORS[:50, :4], IDS[:50] + 1000)
    assert times.rows == 50
    assert min(times[:3]) >= 0
    assert retriever.count() == 50
    assert retriever.dimension == 4
    assert len(names(retriever)) == 1
    assert names(retriever) != before
    assert (retriever.search(VECTORS[:2, :4], 3).ids > 1000).all()
    assert retriever.versions.drop()
    assert names(retriever) == []
    assert not retriever.versions.drop()
    with pytest.raises(RetrievalError, match="no such collection; build it first"):
        retriever.open()


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RetrievalError("disk full")])
@pytest.mark.parametrize("step", ["insert", "create_index", "load_collection", "alter_alias"])
def test_failed_build_leaves_the_old_one_serving(
    lite_uri, make_retriever, monkeypatch, failure, step
):
    retriever = make_retriever(lite_uri)
    retriever.versions.build(VECTORS, IDS)
    before = names(retriever)
    real = Connection.call

    def failing(self, name, *arguments, **options):
        if name == step:
            raise failure
        return real(self, name, *arguments, **options)

    monkeypatch.setattr(Connection, "call", failing)
    with pytest.raises((KeyboardInterrupt, RetrievalError)):
        retriever.versions.build(VECTORS[:9], IDS[:9])
    monkeypatch.setattr(Connection, "call", real)
    assert names(retriever) == before
    assert retriever.count() == 200
    assert retriever.search(VECTORS[:1], 1).ids.tolist() == [[1]]


def test_half_inserted_rows_are_noticed(lite_uri, make_retriever, monkeypatch):
    retriever = make_retriever(lite_uri)
    retriever.versions.build(VECTORS, IDS)
    real = Rows.batches
    monkeypatch.setattr(Rows, "batches", lambda self: ([*batch[:-1]] for batch in real(self)))
    monkeypatch.setattr(building, "_indexed", lambda *_: 1.0)
    with pytest.raises(RetrievalError, match="holds 199 rows after the insert, expected 200"):
        retriever.versions.build(VECTORS, IDS)
    assert retriever.count() == 200


def test_leftovers_of_a_killed_build_are_cleaned(uri, make_retriever):
    retriever = make_retriever(uri)
    gone = {**mark(retriever.collection), "made_by_process": "999999999"}
    other = {**mark("other"), "made_by_process": "999999999"}
    retriever._connection.create_collection(retriever.collection + "_v1", 4, gone)
    retriever._connection.create_collection(retriever.collection + "_v7", 4, other)
    retriever.versions.build(VECTORS, IDS)
    # _v7 is somebody else's, so it stays
    assert names(retriever)[1:] == [retriever.collection + "_v7"]
    retriever._connection.call("drop_collection", retriever.collection + "_v7")


def test_build_that_is_under_way_elsewhere_is_respected(lite_uri, make_retriever):
    retriever = make_retriever(lite_uri)
    busy = {**mark(retriever.collection), "made_by_process": str(os.getppid())}
    retriever._connection.create_collection(retriever.collection + "_v1", 4, busy)
    with pytest.raises(RetrievalError, match=f"process {os.getppid()} on .* is building"):
        retriever.versions.build(VECTORS, IDS)
    assert names(retriever) == [retriever.collection + "_v1"]


def test_foreign_collection_is_refused_and_left_alone(uri, make_retriever):
    retriever = make_retriever(uri)
    retriever._connection.create_collection(retriever.collection, 4, {})
    for action in (
        lambda: retriever.versions.build(VECTORS, IDS),
        retriever.versions.drop,
        retriever.open,
    ):
        with pytest.raises(RetrievalError) as caught:
            action()
        for part in (
            retriever.collection,
            retriever.uri,
            "item, category, own_id, vector",
            "dimension 4",
        ):
            assert part in str(caught.value)
    assert retriever._connection.call("has_collection", retriever.collection)
    retriever._connection.call("drop_collection", retriever.collection)


def test_open_says_what_differs(uri, make_retriever):
    first = make_retriever(uri, index=IvfFlat(nlist=16, nprobe=2))
    first.versions.build(VECTORS, IDS)
    first.open(dimension=8, rows=200)
    with pytest.raises(RetrievalError, match="the vectors have 8 dimensions, expected 64"):
        first.open(dimension=64)
    with pytest.raises(RetrievalError, match="it holds 200 rows, expected 70"):
        first.open(rows=70)
    metric = make_retriever(uri, first.collection, metric="L2", index=first.index)
    with pytest.raises(RetrievalError, match="its metric is IP, expected L2"):
        metric.open()
    index = make_retriever(uri, first.collection, index=Hnsw())
    with pytest.raises(RetrievalError, match=r"its index is IVF_FLAT .* expected HNSW") as caught:
        index.search(VECTORS[:1], 1)
    assert "build it again (a service: POST /insert)" in str(caught.value)
    with pytest.raises(SettingsError, match=r"expected \[n, 8\]"):
        first.search(np.ones((1, 9)), 1)


@pytest.mark.slow
@pytest.mark.server
def test_rows_beyond_the_message_limit_and_long_categories(server, make_retriever):
    # 850 rows of 20,000 floats are 68 MB; the limit is 64
    vectors = np.random.default_rng(0).random((850, 20_000), dtype=np.float32)
    rows = Rows.checked(vectors, np.arange(1, 851), ["bücher" * 20] * 850)
    batches = [len(batch) for batch in rows.batches()]
    assert sum(batches) == 850
    assert max(batches) * (4 * 20_000 + 256 + 32) <= building.BATCH_BYTES
    retriever = make_retriever(server.uri)
    retriever.versions.build(vectors, rows.ids, rows.categories)
    assert retriever.count() == 850


@pytest.mark.parametrize(
    ("vectors", "ids", "categories", "expected"),
    [
        (np.ones((2, 3)), [1], None, "[2, 3] and ids [1]"),
        (np.ones((0, 3)), [], None, "at least one row"),
        (np.ones((2, 3)), [4, 4], None, "item id 4 is given twice"),
        ([[1.0], [np.nan]], [1, 2], None, "vector of item 2 holds NaN"),
        (np.ones((2, 3)), [0, 2], None, "item id 0: ids are from 1"),
        (np.ones((2, 3)), [4, -7], None, "item id -7: ids are from 1"),
        ([[1.0, 0.0], [0.0, 0.0]], [1, 2], None, "vector of item 2 is all zeros"),
        (np.ones((2, 3)), [1, 2], ["a"], "2 items, but 1 categories"),
        (np.ones((2, 3)), [1, 2], ["a", "é" * 129], "category of item 2 is longer than 256"),
    ],
)
def test_rows_that_milvus_would_refuse(vectors, ids, categories, expected):
    with pytest.raises(SettingsError) as caught:
        Rows.checked(vectors, ids, categories).require_searchable()
    assert expected in str(caught.value)


def test_many_queries_are_split(lite_uri, make_retriever, monkeypatch):
    retriever = make_retriever(lite_uri)
    retriever.versions.build(VECTORS, IDS)
    whole = retriever.search(VECTORS[:25], 4)
    monkeypatch.setattr("paddlerec_milvus.retrieval.milvus.QUERIES_PER_CALL", 7)
    np.testing.assert_array_equal(retriever.search(VECTORS[:25], 4).ids, whole.ids)
    monkeypatch.setattr("paddlerec_milvus.retrieval.stored_rows.IDS_PER_CALL", 3)
    np.testing.assert_allclose(retriever.vectors(IDS), VECTORS, atol=1e-6)


def test_settings_that_cannot_be_used(lite_uri):
    with pytest.raises(SettingsError, match=r"milvus.consistency: 'strong' .* 'Strong'"):
        MilvusRetriever(lite_uri, "items", consistency="strong")
    with pytest.raises(SettingsError, match=r"index.metric: 'ip'"):
        MilvusRetriever(lite_uri, "items", metric="ip")
    with pytest.raises(RetrievalError, match=r"milvus\.timeout: 0"):
        MilvusRetriever(lite_uri, "items", timeout=0)


def test_server_that_is_away(capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(RetrievalError, match=f"Milvus at {uri} refuses connections: is it running"):
        MilvusRetriever(uri, "items", timeout=2)
    assert time.monotonic() - start < 30
    assert capfd.readouterr().err == ""


def test_server_that_takes_the_connection_and_says_nothing():
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(RetrievalError, match="within 1 s: is it running"):
            MilvusRetriever(uri, "items", timeout=1)
        assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("garbage", "neither a server's address"),
        ("missing/folder/items.db", "does not exist"),
        ("http://127.0.0.1:port", "Port could not be cast"),
    ],
)
def test_addresses_that_cannot_be_used(uri, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RetrievalError) as caught:
        MilvusRetriever(uri, "items")
    assert expected in str(caught.value)
    assert uri in str(caught.value)


def test_garbled_lite_file(tmp_path):
    path = tmp_path / "items.db"
    path.write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(RetrievalError, match=r"items\.db is a file, .* older version"):
        MilvusRetriever(str(path), "items")


def test_lite_serves_one_process_and_is_free_after_close(lite_uri):
    code = textwrap.dedent(f"""
        from paddlerec_milvus.errors import RetrievalError
        from paddlerec_milvus.retrieval.milvus import MilvusRetriever
        try:
            print(MilvusRetriever({lite_uri!r}, "items").count())
        except RetrievalError as problem:
            print(problem)
    """)

    def other_process():
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
        )

    with MilvusRetriever(lite_uri, "items") as first, MilvusRetriever(lite_uri, "items") as second:
        first.versions.build(VECTORS, IDS)
        assert second.count() == 200
        refused = other_process()
        assert "is in use by another process" in refused.stdout
        assert refused.stderr == ""
    with pytest.raises(RetrievalError, match="is closed"):
        first.count()
    assert other_process().stdout == "200\n"


def test_path_in_the_environment_does_not_stop_the_import(tmp_path):
    # pymilvus itself refuses to be imported with a file path in MILVUS_URI
    environment = {**os.environ, "MILVUS_URI": "./items.db"}
    code = "import os, paddlerec_milvus.retrieval.milvus; print(os.environ['MILVUS_URI'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("./items.db\n", "")


@pytest.mark.server
def test_ctrl_c_while_inserting(server, make_retriever):
    retriever = make_retriever(server.uri)
    retriever.versions.build(VECTORS, IDS)
    code = textwrap.dedent(f"""
        import time
        import numpy as np
        from paddlerec_milvus.retrieval.build import Rows
        from paddlerec_milvus.retrieval.milvus import MilvusRetriever
        real = Rows.batches
        def slow(self):
            for batch in real(self):
                for row in batch:
                    yield [row]
                    print("row", flush=True)
                    time.sleep(0.05)
        Rows.batches = slow
        retriever = MilvusRetriever({server.uri!r}, {retriever.collection!r})
        retriever.versions.build(np.ones((900, 4)), range(1, 901))
    """)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(names(retriever)) == 2
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert len(names(retriever)) == 1
    assert retriever.count() == 200


def test_nothing_is_left_of_the_connection(lite_uri, make_retriever):
    make_retriever(lite_uri).versions.build(VECTORS, IDS)
    client = MilvusClient(lite_uri)  # same process: Lite is shared
    assert client.list_collections()
    client.close()
