# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One point of a sweep: what a search finds beside exact search, how fast, by how many clients."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

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
from paddlerec_milvus.bench.load_results import (
    BatchThroughput,
    LatencySummary,
    OpenLoop,
    Throughput,
)
from paddlerec_milvus.bench.results import (
    IndexRecall,
    MeanWithError,
    RelevanceComparison,
    RelevanceLoss,
    RelevanceLosses,
    RelevanceMeans,
    SearchMeasurement,
    SearchQuality,
)
from paddlerec_milvus.bench.sweep_config import MeasureConfig
from paddlerec_milvus.bench.workload import Truths, Workload
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.evaluation.metrics import index_recall, relevance_by_user
from paddlerec_milvus.evaluation.statistics import paired_bootstrap, standard_error
from paddlerec_milvus.machine_state import MachineRecorder
from paddlerec_milvus.retrieval.base import FloatArray, IntArray, Neighbours
from paddlerec_milvus.retrieval.candidates import Candidates, merge_interests
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import Index
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

TIE = 1e-6  # of the k-th score: what float32 sums of another order differ by
PerUser = dict[str, npt.NDArray[np.float64]]


class Exact(NamedTuple):
    """The truth for k neighbours of all interests of a workload."""

    neighbours: Neighbours
    """[U * K, k]."""
    lists: Candidates
    """[U, k], merged."""
    relevance: PerUser
    """By metric, ``recall@k`` …: [U]; empty without truths."""


def merged(neighbours: Neighbours, users: int) -> Candidates:
    """The lists [U, k] of neighbours [U * K, k]."""
    shape = (users, -1, neighbours.ids.shape[1])
    ids, scores = neighbours.ids.reshape(shape), neighbours.scores.reshape(shape)
    return merge_interests(ids, scores, shape[2])


def exact_of(workload: Workload, k: int) -> Exact:
    """The truth of a workload, by exact search of all interests."""
    retriever = ExactRetriever(workload.vectors, workload.ids, workload.metric)
    neighbours = retriever.search(workload.queries, k)
    lists = merged(neighbours, len(workload.interests))
    return Exact(neighbours, lists, relevance_of(lists.ids, workload.truths))


def relevance_of(lists: IntArray, truths: Truths | None) -> PerUser:
    """recall, ndcg, ndcg_hits and hitrate [U] of lists [U, k]; empty without truths."""
    return {} if truths is None else relevance_by_user(lists, *truths, lists.shape[1])


def with_ties(ids: IntArray, scores: FloatArray, exact: IntArray, cut: FloatArray) -> IntArray:
    """``ids`` [n, k] where an item as good as the exact k-th stands for an exact one it misses.

    ``scores`` [n, k] of the found, ``exact`` [n, k] ids, ``cut`` [n] the exact k-th scores. Which
    of several equal items comes k-th is chance, and no fault of an index.
    """
    result: IntArray = ids.copy()
    edge = np.where(np.isfinite(cut), cut, 0)[:, None]
    near = np.abs(scores - edge) <= TIE * np.maximum(np.abs(edge), 1)
    for row in np.flatnonzero((near & (ids > 0)).any(axis=1)):
        missed = np.setdiff1d(exact[row], ids[row])
        wrong = np.flatnonzero(near[row] & ~np.isin(ids[row], exact[row]))
        fits = min(len(missed), len(wrong))
        result[row, wrong[:fits]] = missed[:fits]
    return result


def quality_of(workload: Workload, exact: Exact, neighbours: Neighbours) -> SearchQuality:
    """index_recall of an interest and after the merge, relevance and its loss, short lists."""
    users = len(workload.interests)
    began = time.perf_counter()
    lists = merged(neighbours, users)
    merge_ms = 1000 * (time.perf_counter() - began) / users
    interest = index_recall(_tied(neighbours, exact.neighbours), exact.neighbours.ids)
    by_user = _by_user(workload, exact, lists)
    full = (exact.lists.ids >= 0).sum(axis=1)
    return SearchQuality(
        index_recall=IndexRecall(
            interest=mean_of(interest), list=mean_of(by_user.pop("index_recall"))
        ),
        short_lists=int(((lists.ids >= 0).sum(axis=1) < full).sum()),
        ids_digest=sha256(neighbours.ids.tobytes()).hexdigest()[:16],
        merge_ms=merge_ms,
        relevance=compared(exact.relevance, by_user) if exact.relevance else None,
    )


def quality_by_user(workload: Workload, exact: Exact, neighbours: Neighbours) -> PerUser:
    """index_recall of the merged list, and relevance where there are truths, [U] each."""
    return _by_user(workload, exact, merged(neighbours, len(workload.interests)))


def _by_user(workload: Workload, exact: Exact, lists: Candidates) -> PerUser:
    whole = index_recall(_tied(lists, exact.lists), exact.lists.ids)
    return {"index_recall": whole, **relevance_of(lists.ids, workload.truths)}


def _tied(neighbours: Neighbours | Candidates, exact: Neighbours | Candidates) -> IntArray:
    return with_ties(neighbours.ids, neighbours.scores, exact.ids, exact.scores[:, -1])


def mean_of(values: npt.NDArray[np.float64]) -> MeanWithError:
    """The mean of ``values`` [U], and its standard error."""
    return MeanWithError(mean=float(values.mean()), se=standard_error(values))


def compared(exact: PerUser, index: PerUser) -> RelevanceComparison:
    """``exact`` and ``index`` [U] of the same users, by names such as ``recall@50``."""
    losses = {_metric(name): _loss(exact[name], index[name]) for name in exact}
    return RelevanceComparison(
        index=_means(index), exact=_means(exact), loss=RelevanceLosses.model_validate(losses)
    )


def _metric(name: str) -> str:
    return name.partition("@")[0]


def _means(by_user: PerUser) -> RelevanceMeans:
    means = {_metric(name): float(values.mean()) for name, values in by_user.items()}
    return RelevanceMeans.model_validate(means)


def _loss(exact: npt.NDArray[np.float64], index: npt.NDArray[np.float64]) -> RelevanceLoss:
    lost, base = paired_bootstrap(exact, index), float(exact.mean())
    relative = lost.mean / base if base else 0.0
    return RelevanceLoss(mean=lost.mean, low=lost.low, high=lost.high, relative=relative)


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
        recorder = MachineRecorder(self.retriever.uri)
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
            machine_state=recorder.state(),
        )

    def timed_again(self, index: Index) -> SearchMeasurement:
        """What the speed of a search setting is compared by, without batches and open loops."""
        measure = self.measure.model_copy(update={"batches": [], "rates": []})
        return replace(self, measure=measure).measured(index)

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
