# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Loads count what happened; the open loop charges a stall to all that wait behind it."""

import time

import numpy as np
import pytest

from paddlerec_milvus.bench.clients import (
    GIVE_UP,
    Clients,
    Load,
    Target,
    calls_of,
    joined,
    run_load,
)
from paddlerec_milvus.bench.points import no_op_ms
from paddlerec_milvus.bench.quality import exact_of, quality_of
from paddlerec_milvus.bench.synthetic import synthetic_workload
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
    assert outcome.latency()["requests"] == 7


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
    assert waited["p50"] > 50
    stalls = iter([0.2])
    closed = run_load(search, ["a"], Load(Flat(), K, requests=20)).latency()
    assert closed["p50"] < 50 < closed["max"]


def test_clients_together():
    one = run_load(lambda _: None, ["a"], Load(Flat(), K, requests=3))
    two = run_load(lambda _: None, ["a"], Load(Flat(), K, requests=4))
    both = joined([one, two])
    assert both.requests == both.latency()["requests"] == 7
    assert both.rate == one.rate + two.rate


def test_the_harness_alone_costs_microseconds():
    interests = np.zeros((10, 4, 8), np.float32)
    assert no_op_ms(interests, Load(Flat(), K, requests=100)) > 0


@pytest.mark.server
def test_processes_search_a_real_server(server, tmp_path):
    work = synthetic_workload(
        items=300, dimension=8, users=10, interests=2, clusters=5, spread=0.5, norm_skew=0.0,
        metric="IP", seed=1,
    )  # fmt: skip
    target = Target(server.uri, "bench_clients", "IP", Flat(), 30.0)
    file = tmp_path / "interests.npy"
    np.save(file, work.interests)
    with target.connect() as retriever, Clients(2, file) as clients:
        with pytest.raises(RetrievalError, match="no such collection"):
            clients.open(target)
        retriever.build(work.vectors, work.ids)
        found = retriever.search(work.queries, K)
        assert quality_of(work, exact_of(work, K), found)["index_recall"]["list"]["mean"] == 1
        clients.open(target)
        outcome = clients.run([Load(Flat(), K, requests=20), Load(Flat(), K, requests=30)], 2)
        assert (outcome.requests, outcome.failures) == (50, 0)
        assert outcome.latency()["requests"] == 50
        retriever.drop()
        with pytest.raises(RetrievalError):
            clients.open(target)
