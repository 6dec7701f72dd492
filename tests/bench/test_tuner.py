# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The tuner ends at the least work that meets the target, and says how sure it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import repeat

import numpy as np
import pytest

from paddlerec_milvus.bench.client_pool import (
    InProcessClient,
    Load,
    LoadResult,
    new_histogram,
)
from paddlerec_milvus.bench.measure_build import Target
from paddlerec_milvus.bench.measure_search import exact_of, quality_by_user
from paddlerec_milvus.bench.race import race
from paddlerec_milvus.bench.tune_cli import result_of
from paddlerec_milvus.bench.tuner import (
    WINDOWS,
    Goal,
    Margin,
    Served,
    TunedSetting,
    Tuner,
    Tuning,
    candidates_for,
    check_k,
    ladder_of,
    needless,
)
from paddlerec_milvus.bench.workload import Truths, Workload, synthetic_workload
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.base import FloatArray, Neighbours
from paddlerec_milvus.retrieval.build import BuildTimes
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw, Index, IvfFlat

K = 10
WORK = synthetic_workload(
    items=4_000, dimension=16, users=60, interests=3, clusters=400, spread=1.0, norm_skew=0.0,
    metric="IP", seed=1,
)  # fmt: skip


def tuner_on(uri: str, work: Workload, goal: Goal) -> Tuner:
    @contextmanager
    def serve(index: Index) -> Iterator[Served]:
        place = Target(uri, f"bench_tuner_{index.type_name}", work.metric, index, 30.0)
        with place.connect() as retriever:
            times = retriever.versions.build(work.vectors, work.ids)
            yield Served(retriever, InProcessClient(retriever, work.interests), times)

    return Tuner(work, K, goal, serve, clients=[1], seconds=0.1)


@pytest.mark.slow
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
            by_user = quality_by_user(WORK, exact, lists)
            if tuner.margin(by_user, exact).passed:
                passing.append(each)
        assert found.index == passing[0]
        assert found.index not in (ladder_of(index, K)[0], ladder_of(index, K)[-1])
        assert found.quality["index_recall"] >= 0.9
        assert found.confidence > 0.97


@pytest.mark.slow
@pytest.mark.server
def test_advice_is_the_fastest_of_what_passes(server):
    advice = tuner_on(server.uri, WORK, Goal(index_recall=0.95)).advise()
    assert advice.best is advice.settings[0]
    rates = [each.users_per_second for each in advice.settings]
    assert rates == sorted(rates, reverse=True)
    assert {each.index.type_name for each in advice.settings} == {"FLAT", "HNSW", "IVF_FLAT"}
    line = result_of(advice.settings[0], K)
    assert line.index_recall >= 0.95
    assert line.p99_ms > 0


@pytest.mark.server
def test_a_latency_that_nothing_meets(server):
    tuner = tuner_on(server.uri, WORK, Goal(index_recall=0.5, p99_ms=0.001))
    advice = tuner.advise([Flat()])
    assert advice.best is None
    assert "FLAT: meets the target, but its p99 is" in advice.failed[0]


def test_loss_of_relevance_is_a_target_too():
    first = exact_of(WORK, K).lists.ids[:, 0]  # every user clicks the best item
    work = Workload(
        WORK.name, WORK.vectors, WORK.ids, WORK.interests, "IP", Truths(np.arange(61), first)
    )
    exact = exact_of(work, K)
    tuner = tuner_on("unused", work, Goal(loss=0.1))
    kept = quality_by_user(work, exact, exact.neighbours)
    assert tuner.margin(kept, exact).mean == pytest.approx(0.1)  # 1 - 0.9 of 1
    with pytest.raises(SettingsError, match="these vectors have none"):
        tuner_on("unused", WORK, Goal(loss=0.1)).margin(kept, exact_of(WORK, K))


def test_a_margin_says_how_sure_it_is():
    # mean 2 standard errors above 0; of a difference of two groups sqrt(2): z = 1.41, 92.1 %
    assert Margin(0.02, 0.01).confidence == pytest.approx(0.9214, abs=1e-4)
    assert not Margin(0.02, 0.01).passed
    assert Margin(0.0283, 0.01).passed
    assert Margin(0.0, 0.0).passed
    assert Margin(0.0, 0.0).confidence == 1
    assert Margin(-0.1, 0.0).confidence == 0


def test_ladders():
    assert [each.ef for each in ladder_of(Hnsw(), 50) if isinstance(each, Hnsw)][:3] == [50, 54, 59]
    assert ladder_of(IvfFlat(nlist=64), 50)[-1].is_exact
    assert ladder_of(Flat(), 50) == [Flat()]
    assert [each.build_params()["M"] for each in candidates_for(400_000)] == [16, 32]
    assert ladder_of(Hnsw(), 16_384)[-1].search_params(16_384) == {"ef": 32_768}  # Milvus' limit
    assert candidates_for(100) == [Flat(), Hnsw(), IvfFlat(nlist=2, nprobe=1)]


def test_where_graphs_break_large_catalogues_try_what_needs_none():
    kinds = {each.type_name for each in candidates_for(400_000, graphs=False)}
    assert kinds == {"FLAT", "IVF_FLAT", "HNSW"}


def test_a_dense_graph_is_left_out_where_a_lean_one_has_nothing_to_save():
    near, far = TunedSetting(Hnsw(M=16, ef=75), 1.0, {}), TunedSetting(Hnsw(M=16, ef=76), 1.0, {})
    assert "M 16 meets the target with ef 75" in needless(Hnsw(M=32), [far, near], 50)
    assert needless(Hnsw(M=32), [far], 50) == ""
    assert needless(Hnsw(M=16), [near], 50) == ""
    assert needless(IvfFlat(), [near], 50) == ""
    assert needless(Hnsw(M=32), [TunedSetting(Flat(), 1.0, {})], 50) == ""


class Played:
    """Loads whose rates follow ``pace``, a clock that all of them move on by one at each turn."""

    def __init__(self, rate: float, pace: Iterator[float], failures: int = 0) -> None:
        self.rate, self.pace, self.failures = rate, pace, failures
        self.clients: list[int] = []

    def run(self, loads: Sequence[Load], warm_up: int = 0) -> LoadResult:
        self.clients.append(len(loads))
        histogram = new_histogram()
        histogram.record_value(1_000 * len(loads))
        rate = self.rate * next(self.pace)
        return LoadResult(9, self.failures, "deadline", rate, histogram.encode())


def test_a_race_is_won_whatever_the_machine_does_meanwhile():
    pace = iter(np.linspace(1, 0.3, 8))  # slower and slower, from 1 to 0.3 of its pace
    fast, slow = Played(105, pace), Played(100, pace)
    first, second = race([(Hnsw(ef=50), slow), (Hnsw(ef=60), fast)], K, [4], 1.0, windows=4)
    # turns at 1.0, 0.9 | 0.8, 0.7 | 0.6, 0.5 | 0.4, 0.3: the slow one's are 1.0, 0.7, 0.6 and 0.3,
    # median 0.65, and so is that of 0.9, 0.8, 0.5 and 0.4; without going back 0.7 against 0.6
    assert second.users_per_second / first.users_per_second == pytest.approx(1.05)
    assert first.clients == 4


def test_p99_is_that_of_one_client_even_where_none_was_asked_for():
    loads = Played(100, repeat(1.0))
    best = advised(loads, Goal(index_recall=0.5, p99_ms=2.0), clients=[4]).best
    assert best is not None
    assert loads.clients == [1, 4] * WINDOWS
    assert best.p99_ms == pytest.approx(1, rel=1e-3)  # with four it is 4 ms


def test_a_setting_whose_requests_fail_is_said_to_have_failed():
    bad, good = Played(900, iter([1.0]), failures=3), Played(100, iter([1.0] * 4))
    first, second = race([(Flat(), bad), (Hnsw(), good)], K, [1, 4], 1.0, windows=2)
    assert first.failed == "3 of 12 requests failed: deadline"
    assert bad.clients == [1]  # each further turn would wait for a deadline, too
    assert not second.failed


class Answers:
    """A retriever that knows the answer."""

    def __init__(self, lists: Neighbours) -> None:
        self.lists = lists

    def search_with(self, index: Index, queries: FloatArray, k: int) -> Neighbours:
        return self.lists


def advised(loads: Played, goal: Goal, clients: Sequence[int]) -> Tuning:
    """Of an exact index under ``loads``."""
    lists = exact_of(WORK, K).neighbours

    @contextmanager
    def serve(index: Index) -> Iterator[Served]:
        yield Served(Answers(lists), loads, BuildTimes(0.0, 0.0, 0.0, 0))

    return Tuner(WORK, K, goal, serve, clients).advise([Flat()])


def test_advice_has_no_setting_that_fails():
    loads = Played(0.0, repeat(1.0), failures=3)  # its p99 of what was answered is below the goal
    advice = advised(loads, Goal(index_recall=0.5, p99_ms=5.0), clients=[1])
    assert advice.best is None
    assert advice.failed == ["FLAT: meets the target, but 3 of 12 requests failed: deadline"]


@pytest.mark.parametrize("k", [0, -1, 4_001])
def test_a_list_that_cannot_be(k):
    with pytest.raises(SettingsError, match=f"--k {k}: expected 1 to 4,000, as there are 4,000"):
        Tuner(WORK, k, Goal(0.9), lambda index: nullcontext())
    with pytest.raises(SettingsError):
        check_k(16_385, 20_000)


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
