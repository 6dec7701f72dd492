# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Loads count what happened; the open loop charges a stall to all that wait behind it."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paddlerec_milvus.bench.client_pool import (
    GIVE_UP,
    ClientPool,
    Load,
    LoadResult,
    calls_of,
    joined,
    run_load,
    starts,
)
from paddlerec_milvus.bench.measure_build import Target
from paddlerec_milvus.bench.measure_search import SearchMeter, exact_of, no_op_ms, quality_of
from paddlerec_milvus.bench.sweep_config import MeasureConfig
from paddlerec_milvus.bench.workload import synthetic_workload
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.indexes import Flat

K = 5


def test_a_request_is_a_user_with_all_interests():
    interests = np.arange(5 * 2 * 3, dtype=np.float32).reshape(5, 2, 3)
    calls = calls_of(interests, Load(Flat(), K, users=2, first=4))
    assert len(calls) == 3
    assert all(call.shape == (4, 3) for call in calls)
    assert calls[0].tolist() == [*interests[4].tolist(), *interests[0].tolist()]


def test_requests_are_counted_and_cycle_through_the_users():
    asked = []
    outcome = run_load(asked.append, ["a", "b", "c"], Load(Flat(), K, requests=7))
    assert asked == list("abcabca")
    assert (outcome.requests, outcome.failures) == (7, 0)
    assert outcome.latency().requests == 7


def test_failures_are_counted_and_end_a_client_when_nothing_answers():
    answers = iter([True, False, True, *[False] * 9])

    def search(_: str) -> None:
        if not next(answers):
            raise RetrievalError("away")

    outcome = run_load(search, ["a"], Load(Flat(), K, requests=50))
    assert (outcome.requests, outcome.failures) == (2, 1 + GIVE_UP)
    assert outcome.first_failure == "away"


def test_the_open_loop_counts_from_the_planned_start():
    stalls = iter([0.2])

    def search(_: str) -> None:
        time.sleep(next(stalls, 0))

    load = Load(Flat(), K, requests=20, rate=100)
    waited = run_load(search, ["a"], load).latency()
    # the first stalls 200 ms; the 19 planned 10 ms apart behind it wait 190, 180 … 10 ms
    assert waited.p50 > 50
    stalls = iter([0.2])
    closed = run_load(search, ["a"], Load(Flat(), K, requests=20)).latency()
    assert closed.p50 < 50 < closed.max


def test_a_client_that_gives_up_counts_what_it_did_not_ask():
    def search(_: str) -> None:
        raise RetrievalError("away")

    by_time = run_load(search, ["a"], Load(Flat(), K, seconds=0.1, rate=300))
    assert (by_time.requests, by_time.failures) == (0, 30)
    by_number = run_load(search, ["a"], Load(Flat(), K, requests=20, rate=1_000))
    assert (by_number.requests, by_number.failures) == (0, 20)
    closed = run_load(search, ["a"], Load(Flat(), K, requests=20))
    assert closed.failures == GIVE_UP


def test_timetables_are_shifted_evenly():
    # 4 clients of 5 a second are 20 a second: one every 50 ms, each client every 200 ms
    assert starts([Load(Flat(), K, rate=5)] * 4, 7.0) == pytest.approx([7, 7.05, 7.1, 7.15])
    assert starts([Load(Flat(), K)] * 4, 7.0) == [7.0] * 4


class Noted:
    """Clients that answer at once, and the times that their requests are planned for."""

    def __init__(self) -> None:
        self.planned: list[float] = []

    def run(self, loads: Sequence[Load], warm_up: int = 0) -> LoadResult:
        outcomes = []
        for load, start in zip(loads, starts(loads, 0.0), strict=True):
            done = run_load(lambda _: None, ["a"], replace(load, rate=0.0, seconds=9.0))
            self.planned += [start + number / load.rate for number in range(done.requests)]
            outcomes.append(done)
        return joined(outcomes)


@pytest.mark.parametrize(
    ("rate", "clients", "count"), [(50, 16, 50), (10, 3, 20), (7, 8, 20), (200, 1, 200)]
)
def test_the_open_loop_asks_at_even_steps_and_as_often_as_planned(rate, clients, count):
    loads, measure = Noted(), MeasureConfig(requests=20, seconds=1.0, clients=[clients], warm_up=0)
    nothing: Any = None
    points = SearchMeter(nothing, nothing, K, measure, nothing, loads, clients)
    row = points._open_loop(Flat(), rate)
    assert row.planned == row.requests == len(loads.planned) == count
    assert sorted(loads.planned) == pytest.approx([number / rate for number in range(count)])


def test_clients_together():
    one = run_load(lambda _: None, ["a"], Load(Flat(), K, requests=3))
    two = run_load(lambda _: None, ["a"], Load(Flat(), K, requests=4))
    both = joined([one, two])
    assert both.requests == both.latency().requests == 7
    assert both.rate == one.rate + two.rate


def test_the_harness_alone_costs_microseconds():
    interests = np.zeros((10, 4, 8), np.float32)
    assert no_op_ms(interests, Load(Flat(), K, requests=100)) > 0


@pytest.mark.slow
@pytest.mark.server
def test_processes_search_a_real_server(server, tmp_path):
    work = synthetic_workload(
        items=300, dimension=8, users=10, interests=2, clusters=5, spread=0.5, norm_skew=0.0,
        metric="IP", seed=1,
    )  # fmt: skip
    target = Target(server.uri, "bench_clients", "IP", Flat(), 30.0)
    file = tmp_path / "interests.npy"
    np.save(file, work.interests)
    with target.connect() as retriever, ClientPool(2, file) as clients:
        with pytest.raises(RetrievalError, match="no such collection"):
            clients.open(target)
        retriever.versions.build(work.vectors, work.ids)
        found = retriever.search(work.queries, K)
        assert quality_of(work, exact_of(work, K), found).index_recall.list.mean == 1
        clients.open(target)
        outcome = clients.run([Load(Flat(), K, requests=20), Load(Flat(), K, requests=30)], 2)
        assert (outcome.requests, outcome.failures) == (50, 0)
        assert outcome.latency().requests == 50
        retriever.versions.drop()
        with pytest.raises(RetrievalError):
            clients.open(target)
