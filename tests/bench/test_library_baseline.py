# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The engines in this process, against exact search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paddlerec_milvus.bench import library_baseline as floor
from paddlerec_milvus.bench.library_baseline import LibraryIndex, engines, supported
from paddlerec_milvus.bench.workload import Workload, synthetic_workload
from paddlerec_milvus.errors import RefusedError, SettingsError, UserError
from paddlerec_milvus.evaluation.metrics import index_recall
from paddlerec_milvus.retrieval.base import METRICS
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw, Index, IvfFlat, index_from_settings

pytest.importorskip("faiss")
needs_hnswlib = pytest.mark.skipif("hnswlib" not in engines(), reason="extra [hnswlib]")
both = pytest.mark.parametrize("engine", ["faiss", pytest.param("hnswlib", marks=needs_hnswlib)])

K = 20
NEAR = Hnsw(M=16, ef_construction=200, ef=400)


def workload(metric: str = "IP", norm_skew: float = 0.0, items: int = 2_000) -> Workload:
    """Normalised vectors unless skewed; ids that are no row numbers."""
    made = synthetic_workload(
        items=items,
        dimension=32,
        users=25,
        interests=4,
        clusters=30,
        spread=0.8,
        norm_skew=norm_skew,
        metric=metric,
        seed=5,
    )
    return replace(made, ids=7 * made.ids[::-1] + 3)


def built(engine: str, index: Index, given: Workload) -> LibraryIndex:
    return LibraryIndex(engine, index, given.vectors, given.ids, given.metric, 1)


def recall_of(engine: str, index: Index, given: Workload) -> float:
    """index_recall; the scores of what both found agree."""
    found = built(engine, index, given).search(given.queries, K, index)
    exact = ExactRetriever(given.vectors, given.ids, given.metric).search(given.queries, K)
    assert [each.dtype.name for each in found] == ["int64", "float32"]
    assert (np.diff(found.scores, axis=1) <= 1e-6).all()
    return float(index_recall(found.ids, exact.ids).mean())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("index", [Flat(), IvfFlat(nlist=40, nprobe=40)])
def test_an_exact_index_agrees_with_exact_search(index: Index, metric: str) -> None:
    given = workload(metric, norm_skew=0.5)
    found = built("faiss", index, given).search(given.queries, K, index)
    exact = ExactRetriever(given.vectors, given.ids, metric).search(given.queries, K)
    np.testing.assert_array_equal(found.ids, exact.ids)
    np.testing.assert_allclose(found.scores, exact.scores, atol=1e-5)


@both
@pytest.mark.parametrize("metric", METRICS)
def test_a_graph_with_high_ef_finds_nearly_all(engine: str, metric: str) -> None:
    assert recall_of(engine, NEAR, workload(metric)) >= 0.99


@both
def test_scores_are_those_of_exact_search(engine: str) -> None:
    for metric in METRICS:
        given = workload(metric)
        found = built(engine, NEAR, given).search(given.queries, 1, NEAR)
        exact = ExactRetriever(given.vectors, given.ids, metric).search(given.queries, 1)
        same = found.ids == exact.ids
        assert same.mean() > 0.99
        np.testing.assert_allclose(found.scores[same], exact.scores[same], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "more", "least"), [("IVF_SQ8", {}, 0.95), ("IVF_PQ", {"m": 16, "nbits": 8}, 0.8)]
)
def test_a_coded_index_finds_most(kind: str, more: dict[str, int], least: float) -> None:
    given, cells = workload(), {"nlist": 16, "nprobe": 16}
    index = index_from_settings(kind, cells | more)
    few = index_from_settings(kind, {**cells, "nprobe": 1} | more)
    assert least <= recall_of("faiss", index, given) < 1
    assert recall_of("faiss", few, given) < recall_of("faiss", index, given)


def test_search_parameters_change_without_a_build() -> None:
    given = workload()
    index = IvfFlat(nlist=40, nprobe=1)
    made = built("faiss", index, given)
    exact = made.search(given.queries, K, replace(index, nprobe=40))
    few = made.search(given.queries, K, index)
    again = made.search(given.queries, K, replace(index, nprobe=40))
    assert (few.ids != exact.ids).any()
    np.testing.assert_array_equal(again.ids, exact.ids)
    with pytest.raises(SettingsError, match=r"faiss IVF_FLAT .*'nlist': 40.* build that one"):
        made.search(given.queries, K, IvfFlat(nlist=20, nprobe=1))


def test_what_is_missing_is_said() -> None:
    """One cell holds fewer than k items; and k may be more than there are."""
    given = workload(items=60)
    index = IvfFlat(nlist=60, nprobe=1)  # one cell, as Milvus makes of 60 rows
    found = built("faiss", index, given).search(given.queries, 100, index)
    assert found.ids.shape == found.scores.shape == (100, 100)
    assert (np.sort(found.ids[:, :60], axis=1) == np.sort(given.ids)).all()
    assert (found.ids[:, 60:] == -1).all()
    assert (found.scores[:, 60:] == -np.inf).all()
    index = IvfFlat(nlist=16, nprobe=1)
    given = workload(items=800)
    found = built("faiss", index, given).search(given.queries, 300, index)
    missing = found.ids == -1
    assert 0 < missing.sum() < missing.size
    assert (np.isneginf(found.scores) == missing).all()


@both
def test_no_vectors_are_changed(engine: str) -> None:
    given = workload("COSINE", norm_skew=0.5)
    before, asked = given.vectors.copy(), given.queries.copy()
    built(engine, NEAR, given).search(given.queries, K, NEAR)
    assert (given.vectors == before).all()
    assert (given.queries == asked).all()


def test_what_an_engine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    given = workload(items=60)
    assert supported("faiss", Flat())
    assert supported("hnswlib", Hnsw())
    assert not supported("hnswlib", Flat())
    assert not supported("annoy", Flat())
    with pytest.raises(SettingsError, match="hnswlib has no FLAT; it has: HNSW"):
        built("hnswlib", Flat(), given)
    with pytest.raises(SettingsError, match=r"'fais' is no engine \(did you mean 'faiss'\?\)"):
        built("fais", Flat(), given)
    pq = index_from_settings("IVF_PQ", {"nlist": 1, "nprobe": 1, "m": 5, "nbits": 8})
    with pytest.raises(RefusedError, match=r"faiss IVF_PQ .* cannot be built: .*"):
        built("faiss", pq, given)  # 32 dimensions in 5 parts
    monkeypatch.setattr(floor, "engines", tuple)
    with pytest.raises(UserError, match=r"pip install 'paddlerec-milvus\[bench\]'"):
        built("faiss", Flat(), given)
