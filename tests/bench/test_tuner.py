# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The tuner ends at the least work that meets the target, and says how sure it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from paddlerec_milvus.bench.clients import Target
from paddlerec_milvus.bench.loads import OneClient
from paddlerec_milvus.bench.quality import exact_of, found_by_user
from paddlerec_milvus.bench.synthetic import synthetic_workload
from paddlerec_milvus.bench.tuner import (
    Goal,
    Margin,
    Served,
    Tuner,
    candidates_for,
    in_words,
    ladder_of,
)
from paddlerec_milvus.bench.workload import Truths, Workload
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw, Index, IvfFlat

K = 10
WORK = synthetic_workload(
    items=4_000, dimension=16, users=60, interests=3, clusters=400, spread=1.0, norm_skew=0.0,
    metric="IP", seed=1,
)  # fmt: skip


def tuner_on(uri: str, work: Workload, goal: Goal) -> Tuner:
    @contextmanager
    def serve(index: Index) -> Iterator[Served]:
        place = Target(uri, "bench_tuner", work.metric, index, 30.0)
        with place.connect() as retriever:
            retriever.build(work.vectors, work.ids)
            yield Served(retriever, OneClient(retriever, work.interests), lambda: None)

    return Tuner(work, K, goal, serve, clients=[1], seconds=0.1)


@pytest.mark.server
def test_it_ends_at_the_least_nprobe_that_passes(server):
    tuner = tuner_on(server.uri, WORK, Goal(index_recall=0.9))
    index = IvfFlat(nlist=64, nprobe=1)
    with tuner.serve(index) as served:
        exact = exact_of(WORK, K)
        found = tuner.smallest(WORK, exact, served.retriever, index)
        assert found is not None
        # by trying them all
        passing = []
        for each in ladder_of(index, K):
            lists = served.retriever.search_with(each, WORK.queries, K)
            by_user = found_by_user(WORK, exact, lists)
            if tuner.margin(by_user, exact).passed:
                passing.append(each)
        assert found.index == passing[0]
        assert found.index not in (ladder_of(index, K)[0], ladder_of(index, K)[-1])
        assert found.quality["index_recall"] >= 0.9
        assert found.sure > 0.97


@pytest.mark.server
def test_advice_is_the_fastest_of_what_passes(server):
    advice = tuner_on(server.uri, WORK, Goal(index_recall=0.95)).advise()
    assert advice.best is advice.settings[0]
    rates = [each.users_per_second for each in advice.settings]
    assert rates == sorted(rates, reverse=True)
    assert {each.index.type_name for each in advice.settings} == {"FLAT", "HNSW", "IVF_FLAT"}
    line = in_words(advice.settings[0], K)
    assert line["index_recall"] >= 0.95
    assert line["p99 ms"] > 0


@pytest.mark.server
def test_a_latency_that_nothing_meets(server):
    tuner = tuner_on(server.uri, WORK, Goal(index_recall=0.5, p99_ms=0.001))
    advice = tuner.advise([Flat()])
    assert advice.best is None
    assert "FLAT: meets the target with Flat(), but its p99 is" in advice.failed[0]


def test_loss_of_relevance_is_a_target_too():
    first = exact_of(WORK, K).lists.ids[:, 0]  # every user clicks the best item
    work = Workload(
        WORK.name, WORK.vectors, WORK.ids, WORK.interests, "IP", Truths(np.arange(61), first)
    )
    exact = exact_of(work, K)
    tuner = tuner_on("unused", work, Goal(loss=0.1))
    kept = found_by_user(work, exact, exact.neighbours)
    assert tuner.margin(kept, exact).mean == pytest.approx(0.1)  # 1 - 0.9 of 1
    with pytest.raises(SettingsError, match="these vectors have none"):
        tuner_on("unused", WORK, Goal(loss=0.1)).margin(kept, exact_of(WORK, K))


def test_a_margin_says_how_sure_it_is():
    # mean 2 standard errors above 0; of a difference of two groups sqrt(2): z = 1.41, 92.1 %
    assert Margin(0.02, 0.01).sure == pytest.approx(0.9214, abs=1e-4)
    assert not Margin(0.02, 0.01).passed
    assert Margin(0.0283, 0.01).passed
    assert Margin(0.0, 0.0).passed
    assert Margin(0.0, 0.0).sure == 1
    assert Margin(-0.1, 0.0).sure == 0


def test_ladders():
    assert [each.ef for each in ladder_of(Hnsw(), 50) if isinstance(each, Hnsw)][:3] == [50, 58, 67]
    assert ladder_of(IvfFlat(nlist=64), 50)[-1].is_exact
    assert ladder_of(Flat(), 50) == [Flat()]
    assert [each.build_params()["M"] for each in candidates_for(400_000)] == [16, 48]
    assert candidates_for(100) == [Flat(), Hnsw(), IvfFlat(nlist=2, nprobe=1)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give a target"),
        ({"index_recall": 1.5}, "--recall 1.5: expected a share above 0 and below 1"),
        ({"loss": 0.0}, "--loss 0.0"),
        ({"loss": 0.1, "p99_ms": -1.0}, "--p99-ms -1.0: expected milliseconds above 0"),
    ],
)
def test_targets_that_cannot_be(given, said):
    with pytest.raises(SettingsError) as raised:
        Goal(**given)
    assert said in str(raised.value)
