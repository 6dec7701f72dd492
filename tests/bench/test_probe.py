# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The probe warns where inner product breaks HNSW, and is silent where it does not."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from paddlerec_milvus.bench.measure_build import BenchServer
from paddlerec_milvus.bench.probe import probe
from paddlerec_milvus.bench.workload import Workload, synthetic_workload
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import LARGEST_EF

HUBS, LENGTH, LEAN = 300, 100.0, 0.3


def planted() -> Workload:
    """Normalised clusters."""
    return synthetic_workload(
        items=6_000, dimension=16, users=50, interests=4, clusters=60, spread=0.6, norm_skew=0.0,
        metric="IP", seed=1,
    )  # fmt: skip


def with_hubs() -> Workload:
    """All items lean a little to where a few very long ones point; no user looks there.

    So every item's largest inner products are with the long ones, and its edges in the graph, too.
    """
    work = planted()
    lean = np.full((len(work.ids), 1), LEAN, np.float32)
    vectors = np.concatenate([lean, work.vectors], axis=1)
    rng = np.random.default_rng(1)
    hubs = rng.standard_normal((HUBS, vectors.shape[1])).astype(np.float32) * 0.01
    hubs[:, 0] = LENGTH * rng.uniform(0.5, 1, HUBS)
    vectors[:HUBS] = hubs
    away = np.zeros((*work.interests.shape[:2], 1), np.float32)
    return replace(work, vectors=vectors, interests=np.concatenate([away, work.interests], axis=2))


@pytest.mark.slow
@pytest.mark.server
def test_it_is_silent_on_normalised_vectors(server, tmp_path):
    with BenchServer(server.uri, tmp_path) as place:
        found = probe(planted(), 10, place)
    assert found.warning == ""
    assert found.norm_skew == pytest.approx(1, abs=1e-4)
    assert found.self_retrieval == 1
    assert found.index_recall > 0.99


@pytest.mark.server
def test_it_warns_where_hubs_break_the_graph(server, tmp_path):
    with BenchServer(server.uri, tmp_path) as place:
        found = probe(with_hubs(), 10, place)
    assert found.norm_skew > 50
    assert found.index_recall < 0.5
    assert "HNSW with ef 128 finds only" in found.warning
    assert "hyper_parameters.normalize=True" in found.warning


def test_the_wider_search_stays_within_what_milvus_takes():
    """Eight times 4,500 would be more."""
    work = synthetic_workload(
        items=4_600, dimension=4, users=2, interests=1, clusters=10, spread=0.6, norm_skew=1.0,
        metric="IP", seed=1,
    )  # fmt: skip
    exact, asked = ExactRetriever(work.vectors, work.ids), []

    def search_with(index, queries, k):
        asked.append(index.ef)
        return exact.search(queries, k)

    retriever = SimpleNamespace(
        versions=SimpleNamespace(build=lambda *given: None), search_with=search_with
    )
    target = SimpleNamespace(connect=lambda: nullcontext(retriever))
    found = probe(work, 4_500, SimpleNamespace(target=lambda *given: target))
    assert asked == [4_500, LARGEST_EF]
    assert f"With ef {LARGEST_EF:,} it finds" in replace(found, index_recall=0.5).warning
