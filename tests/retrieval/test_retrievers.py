# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One behaviour for all retrievers: exact, Milvus Lite, the real server."""

from __future__ import annotations

import numpy as np
import pytest

from paddlerec_milvus.errors import RetrievalError, SettingsError
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw, IvfFlat
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving.candidates import category_filter

from .conftest import clustered

COUNT, DIMENSION = 300, 8
IDS = np.arange(COUNT) * 3 + 1
VECTORS = clustered(COUNT, DIMENSION, seed=1)
QUERIES = clustered(9, DIMENSION, seed=2)
ODD = ["books", "", 'say "a"', "back\\slash", "two\nlines", "书"]
CATEGORIES = [ODD[number % len(ODD)] for number in range(COUNT)]


@pytest.fixture(
    scope="module", params=["exact", "lite", pytest.param("server", marks=pytest.mark.server)]
)
def build(request, tmp_path_factory):
    """Builds the same retriever in each place, one for each metric."""
    made = {}

    def make(metric="IP"):
        if metric in made:
            return made[metric]
        if request.param == "exact":
            made[metric] = ExactRetriever(VECTORS, IDS, metric, CATEGORIES)
        else:
            uri = str(tmp_path_factory.mktemp("lite") / "milvus.db")
            if request.param == "server":
                uri = request.getfixturevalue("server").uri
            made[metric] = MilvusRetriever(uri, f"shared_{metric}", metric=metric)
            made[metric].versions.build(VECTORS, IDS, CATEGORIES)
        return made[metric]

    yield make
    for retriever in made.values():
        if isinstance(retriever, MilvusRetriever):
            retriever.versions.drop()
            retriever.close()


@pytest.mark.parametrize("metric", ["IP", "COSINE", "L2"])
def test_finds_the_true_neighbours(build, metric):
    retriever = build(metric)
    assert retriever.is_exact
    found = retriever.search(QUERIES, 10)
    scores = QUERIES @ VECTORS.T
    if metric == "L2":
        scores = -((QUERIES[:, None] - VECTORS[None]) ** 2).sum(-1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(found.ids, IDS[order])
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, order, 1), atol=1e-4)
    assert found.ids.dtype == np.int64
    assert found.scores.dtype == np.float32


def test_contract_of_search(build):
    retriever = build()
    many = retriever.search(QUERIES, COUNT + 20)  # more than there are
    assert (many.ids[:, COUNT:] == -1).all()
    assert np.isneginf(many.scores[:, COUNT:]).all()
    assert (np.sort(many.ids[:, :COUNT], axis=1) == IDS).all()
    assert retriever.search(QUERIES[:0], 5).ids.shape == (0, 5)
    for k in (0, 20_000):
        with pytest.raises(SettingsError, match="16,384"):
            retriever.search(QUERIES, k)
    with pytest.raises(SettingsError, match=r"\[n, 8\]"):
        retriever.search(np.ones((2, 5)), 3)
    with pytest.raises(SettingsError, match="NaN"):
        retriever.search(np.full((1, 8), np.nan), 3)


@pytest.mark.parametrize("metric", ["IP", "COSINE", "L2"])
@pytest.mark.parametrize("names", [[name] for name in ODD] + [["books", "书"], ["none"]])
def test_a_filter_by_category_leaves_the_others_out(build, metric, names):
    passing = np.isin(CATEGORIES, names)
    found = build(metric).search(QUERIES, 60, filter=category_filter(names), consistency="Strong")
    true = ExactRetriever(VECTORS[passing], IDS[passing], metric).search(QUERIES, 60)
    np.testing.assert_array_equal(found.ids, true.ids)
    np.testing.assert_allclose(found.scores, true.scores, atol=1e-5)


def test_a_filter_by_item(build):
    retriever, inside = build(), IDS[:50].tolist()
    found = retriever.search(QUERIES, COUNT, filter=f"item not in {inside}").ids
    assert (np.sort(found[:, : COUNT - 50], axis=1) == IDS[50:]).all()
    assert (found[:, COUNT - 50 :] == -1).all()
    found = retriever.search(QUERIES, 50, filter=f"item in {inside}").ids
    assert (np.sort(found, axis=1) == IDS[:50]).all()
    found = retriever.search(QUERIES, 60, filter='category == "books"').ids
    assert (np.sort(found[:, :50], axis=1) == IDS[:: len(ODD)]).all()


def test_users_get_the_same_candidates(build):
    interests = clustered(5 * 4, DIMENSION, seed=3).reshape(5, 4, DIMENSION)
    history = [IDS[:40], [], IDS[10:30], [10**12], IDS[::2]]
    got = search_users(build(), interests, 20, exclude=history)
    expected = search_users(ExactRetriever(VECTORS, IDS), interests, 20, exclude=history)
    np.testing.assert_array_equal(got.ids, expected.ids)
    np.testing.assert_array_equal(got.interests, expected.interests)


ROWS = 6_000  # a server indexes no segment under 1,024 rows


@pytest.fixture(scope="module")
def many():
    return clustered(ROWS, 32, seed=4), np.arange(1, ROWS + 1), clustered(200, 32, seed=5)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("index", [Flat(), IvfFlat(nlist=64, nprobe=64)], ids=["flat", "ivf"])
def test_exact_indexes_of_the_server_equal_numpy(server, make_retriever, many, index):
    vectors, ids, queries = many
    retriever = make_retriever(server.uri, index=index)
    retriever.versions.build(vectors, ids)
    assert retriever.is_exact
    found, true = retriever.search(queries, 50), ExactRetriever(vectors, ids).search(queries, 50)
    # rounding may swap neighbours whose scores are equal to six digits; ties aside they are equal
    np.testing.assert_allclose(found.scores, true.scores, atol=1e-5)
    for row, other, scores in zip(found.ids, true.ids, true.scores, strict=True):
        clear = scores > scores[-1] + 1e-5
        assert set(row[clear].tolist()) == set(other[clear].tolist())
    if isinstance(index, IvfFlat):
        other = make_retriever(server.uri, retriever.collection, index=IvfFlat(nlist=8, nprobe=2))
        with pytest.raises(RetrievalError, match=r"'nlist': 64.* expected .*'nlist': 8"):
            other.open()
        assert retriever.parameters_without_effect(queries, 50) == []
        retriever.index = IvfFlat(nlist=64, nprobe=1)
        assert not retriever.is_exact
        fewer = retriever.search(queries, 50)
        assert (fewer.ids != true.ids).any()
        with pytest.raises(SettingsError, match="without building again"):
            retriever.index = IvfFlat(nlist=32, nprobe=1)


@pytest.mark.slow
@pytest.mark.server
def test_hnsw_on_the_server_has_index_recall_of_98_per_cent(server, make_retriever, many):
    vectors, ids, queries = many
    retriever = make_retriever(server.uri, index=Hnsw(M=16, ef_construction=200, ef=128))
    retriever.versions.build(vectors, ids)
    assert not retriever.is_exact
    found, true = retriever.search(queries, 50), ExactRetriever(vectors, ids).search(queries, 50)
    shares = [
        len(set(row.tolist()) & set(other.tolist())) / 50
        for row, other in zip(found.ids, true.ids, strict=True)
    ]
    assert np.mean(shares) >= 0.98
    retriever.search_with(Hnsw(M=16, ef_construction=200, ef=50), queries, 50)


def test_lite_ignores_search_parameters_and_that_is_said(lite_uri, make_retriever):
    retriever = make_retriever(lite_uri, index=IvfFlat(nlist=16, nprobe=4))
    retriever.versions.build(VECTORS, IDS)
    effect = retriever.parameters_without_effect(QUERIES, 50)
    few = retriever.search_with(IvfFlat(16, 1), QUERIES, 50)
    all_cells = retriever.search_with(IvfFlat(16, 16), QUERIES, 50)
    assert effect == (["nprobe"] if (few.ids == all_cells.ids).all() else [])
    assert (
        make_retriever(lite_uri, retriever.collection).parameters_without_effect(QUERIES, 5) == []
    )
