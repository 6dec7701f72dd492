# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One point of a sweep: what a search setting finds, how fast, and under how many clients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlerec_milvus.bench.client_pool import (
    GIVE_UP,
    LONGEST_SECONDS,
    ROUNDING,
    Load,
    LoadResult,
    LoadRunner,
    calls_of,
    run_load,
)
from paddlerec_milvus.bench.index_quality import Exact, quality_of
from paddlerec_milvus.bench.results import (
    BatchThroughput,
    LatencySummary,
    OpenLoop,
    SearchMeasurement,
    Throughput,
)
from paddlerec_milvus.bench.sweep_config import MeasureConfig
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.indexes import Index
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

NO_OP_REQUESTS = 2_000


@dataclass(frozen=True)
class SearchMeter:
    """Measures searches of ``workload`` on what ``retriever`` serves."""

    workload: Workload
    exact: Exact
    k: int
    measure: MeasureConfig
    retriever: MilvusRetriever
    loads: LoadRunner
    most_clients: int

    def measured(self, index: Index) -> SearchMeasurement:
        """One search setting. Raises RetrievalError when the server is away."""
        neighbours = self.retriever.search_with(index, self.workload.queries, self.k)
        quality = quality_of(self.workload, self.exact, neighbours)
        alone = self._load(index, requests=self.measure.requests)
        latency = self._run([alone]).latency()
        return SearchMeasurement(
            quality=quality,
            latency=latency.model_copy(update={"harness_ms": self._harness_ms(index)}),
            warnings=warnings_of(latency, self.measure.requests),
            throughput=[
                self._throughput(index, clients)
                for clients in self.measure.clients
                if clients <= self.most_clients
            ],
            batches=[self._batch(index, users) for users in self.measure.batches],
            open_loop=[self._open_loop(index, rate) for rate in self.measure.rates],
        )

    def _load(self, index: Index, **how: Any) -> Load:
        return Load(index, self.k, **how)

    def _run(self, loads: Sequence[Load]) -> LoadResult:
        result = self.loads.run(loads, self.measure.warm_up)
        if result.failures and not result.requests:
            raise RetrievalError(f"no request was answered: {result.first_failure}")
        return result

    def _throughput(self, index: Index, clients: int) -> Throughput:
        step = max(1, len(self.workload.interests) // clients)
        loads = [
            self._load(index, seconds=self.measure.seconds, first=number * step)
            for number in range(clients)
        ]
        runs = [self._run(loads) for _ in range(self.measure.repetitions)]
        rates = [run.rate for run in runs]
        middle = runs[int(np.argsort(rates)[len(rates) // 2])].latency()
        return Throughput(
            clients=clients,
            users_per_second=float(np.median(rates)),
            runs=rates,
            failures=sum(run.failures for run in runs),
            p50=middle.p50,
            p99=middle.p99,
        )

    def _batch(self, index: Index, users: int) -> BatchThroughput:
        run = self._run([self._load(index, seconds=self.measure.seconds, users=users)])
        rate = run.rate * users
        return BatchThroughput(users=users, users_per_second=rate, failures=run.failures)

    def _open_loop(self, index: Index, rate: int) -> OpenLoop:
        """``rate`` users a second in turns over the most clients: evenly, and each is counted."""
        seconds = max(self.measure.seconds, self.measure.requests / rate)
        planned = math.ceil(rate * seconds - ROUNDING)
        clients = min(self.most_clients, max(self.measure.clients), planned)
        loads = [
            self._load(
                index,
                requests=(planned - number + clients - 1) // clients,
                seconds=seconds + clients / rate,
                rate=rate / clients,
                first=number,
            )
            for number in range(clients)
        ]
        latency = self._run(loads).latency()
        return OpenLoop(rate=rate, clients=clients, planned=planned, **latency.model_dump())

    def _harness_ms(self, index: Index) -> float:
        """What our own loop adds to a request: the same with a search that does nothing."""
        return no_op_ms(self.workload.interests, self._load(index, requests=NO_OP_REQUESTS))


def warnings_of(latency: LatencySummary, requests: int) -> list[str]:
    """What to say of a client that ended before it had sent its ``requests``."""
    sent = latency.requests + latency.failures
    if sent >= requests:
        return []
    failed = f", {latency.failures:,} of them without an answer" if latency.failures else ""
    why = (
        f"its {LONGEST_SECONDS:g} s were over"
        if latency.failures < GIVE_UP
        else f"{GIVE_UP} failures in a row, or its {LONGEST_SECONDS:g} s, ended it"
    )
    return [
        f"latencies are of {sent:,} requests, not of {requests:,}{failed}: {why}; the highest "
        "percentiles say little"
    ]


def no_op_ms(interests: FloatArray, load: Load) -> float:
    """Milliseconds a request of ``load`` when the search is a no-op."""
    return 1000 / run_load(lambda queries: None, calls_of(interests, load), load).rate
