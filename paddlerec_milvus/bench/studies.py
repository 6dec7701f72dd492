# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""More than static search, on one index: exclusion, filters, writes while searching, freshness."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from paddlerec_milvus.bench.client_pool import Load, calls_of, run_load
from paddlerec_milvus.bench.measure_build import BenchServer, Target
from paddlerec_milvus.bench.measure_search import exact_of, quality_of
from paddlerec_milvus.bench.results import StudyMeasurement, StudyParams, StudyValues
from paddlerec_milvus.bench.scale import scale_rows
from paddlerec_milvus.bench.study_checks import study_index
from paddlerec_milvus.bench.sweep_config import SweepConfig
from paddlerec_milvus.bench.sweep_runner import Progress, SweepRunner
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.bench.write_load import Writer
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.evaluation.metrics import index_recall
from paddlerec_milvus.retrieval.base import FloatArray, IntArray, Retriever
from paddlerec_milvus.retrieval.candidates import CountedHits, merge_interests, search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import Index
from paddlerec_milvus.retrieval.milvus import CONSISTENCY_LEVELS, MilvusRetriever
from paddlerec_milvus.sampling import evenly_spread

T = TypeVar("T")

USERS = 200  # whose lists are compared with exact ones
LONGEST_WAIT = 60.0  # seconds for an insert to be found
ROWS = {"exclusion": 2, "freshness": len(CONSISTENCY_LEVELS), "replacement": 2}  # others: 1


@dataclass
class StudyRunner:
    """The studies of one sweep on one place."""

    sweep: SweepConfig
    workload: Workload
    index: Index
    target: Target
    _plain: bool = field(default=False, init=False)  # whether what is built is the workload itself

    @contextmanager
    def _connected(self, *, plain: bool = True) -> Iterator[MilvusRetriever]:
        """A retriever; on the workload as it is, or on what its user will build."""
        with self.target.connect() as retriever:
            if plain and self._plain:
                retriever.open()
            elif plain:
                retriever.versions.build(self.workload.vectors, self.workload.ids)
            self._plain = plain
            yield retriever

    @property
    def _some(self) -> Workload:
        """A few users, evenly spread, whose lists are compared."""
        return self.workload.take(evenly_spread(len(self.workload.interests), USERS))

    def _timed(self, search: Callable[[T], object], calls: Sequence[T]) -> StudyValues:
        """p50, p99 and failures of one client."""
        requests = self.sweep.measure.requests
        run_load(search, calls, Load(self.index, self.sweep.k, self.sweep.measure.warm_up or 1))
        latency = run_load(search, calls, Load(self.index, self.sweep.k, requests)).latency()
        return StudyValues(p50=latency.p50, p99=latency.p99, failures=latency.failures)

    def exclusion(self, ids: int) -> Iterator[StudyMeasurement]:
        """Lists without ``ids`` items a user: asked for more, or filtered by Milvus."""
        some, k = self._some, self.sweep.k
        exact = ExactRetriever(some.vectors, some.ids, some.metric)
        excluded = [_excluded(some, exact, user, ids) for user in range(len(some.interests))]
        truth = search_users(exact, some.interests, k, excluded).ids
        with self._connected() as retriever:

            def fetched(items: Retriever, user: int) -> IntArray:
                return search_users(items, some.interests[user][None], k, [excluded[user]]).ids

            def filtered(items: Retriever, user: int) -> IntArray:
                words = f"item not in {excluded[user].tolist()}" if ids else ""
                hits = items.search(some.interests[user], k, filter=words)
                return merge_interests(hits.ids[None], hits.scores[None], k).ids

            ways, users = {"over-fetching": fetched, "filter": filtered}, range(len(excluded))
            for way, search in ways.items():
                counted = CountedHits(retriever)
                lists = np.concatenate([search(counted, user) for user in users])
                more = StudyValues(
                    index_recall=float(index_recall(lists, truth).mean()),
                    short_lists=int(((lists >= 0).sum(1) < (truth >= 0).sum(1)).sum()),
                    searched_with=_searched_with(self.index, counted.hits),
                )
                values = _with(self._timed(partial(search, retriever), users), more)
                yield _line("exclusion", StudyParams(ids=ids, by=way), values)

    def filter(self, share: float) -> Iterator[StudyMeasurement]:
        """Search among the ``share`` of the items that a filter by category lets through."""
        some, k = self._some, self.sweep.k
        passing = _share_of(self.workload, share, self.sweep.seed)
        inside = replace(some, vectors=some.vectors[passing], ids=some.ids[passing], truths=None)
        exact = exact_of(inside, min(k, len(inside.ids)))
        words = 'category == "in"'
        with self._connected(plain=False) as retriever:
            categories = ["in" if passes else "out" for passes in passing]
            retriever.versions.build(self.workload.vectors, self.workload.ids, categories)
            hits = retriever.search(some.queries, exact.neighbours.ids.shape[1], filter=words)
            calls = calls_of(some.interests, Load(self.index, k))
            values = self._timed(lambda queries: retriever.search(queries, k, filter=words), calls)
            quality = quality_of(inside, exact, hits)
        recall, short = quality.index_recall.list.mean, quality.short_lists
        values = _with(values, StudyValues(index_recall=recall, short_lists=short))
        yield _line("filter", StudyParams(share=share, items=len(inside.ids)), values)

    def upserts(self, rate: int) -> Iterator[StudyMeasurement]:
        """Search while another process upserts ``rate`` rows a second, unchanged ones."""
        with self._connected() as retriever, Writer(self.target, self.workload, rate) as writer:
            values = self._searched(retriever, self.workload)
            values = _with(values, StudyValues(rows_written_per_second=writer.rate()))
        self._plain = False  # many small segments
        yield _line("upserts", StudyParams(rows_per_second=rate), values)

    def replacement(self, share: float) -> Iterator[StudyMeasurement]:
        """A share of the catalogue gets new vectors by upserts: at once, and after a rebuild."""
        rng = np.random.default_rng(self.sweep.seed)
        rows = rng.permutation(len(self.workload.ids))[: int(share * len(self.workload.ids))]
        vectors = self.workload.vectors.copy()
        vectors[rows] = vectors[np.roll(rows, 1)]
        fresh = replace(self.workload, vectors=vectors, truths=None)
        with self._connected(plain=False) as retriever:
            retriever.versions.build(self.workload.vectors, self.workload.ids)
            began = time.perf_counter()
            retriever.upsert(vectors[rows], self.workload.ids[rows])
            seconds = time.perf_counter() - began
            retriever.search(fresh.queries[:1], 1, consistency="Strong")
            values = _with(self._searched(retriever, fresh), StudyValues(seconds=seconds))
            yield _line("replacement", StudyParams(share=share, state="just upserted"), values)
            began = time.perf_counter()
            retriever.versions.build(vectors, self.workload.ids)
            seconds = time.perf_counter() - began
            values = _with(self._searched(retriever, fresh), StudyValues(seconds=seconds))
            yield _line("replacement", StudyParams(share=share, state="built again"), values)

    def _searched(self, retriever: MilvusRetriever, workload: Workload) -> StudyValues:
        """Latency of one client, and index_recall against the vectors of ``workload``."""
        k = self.sweep.k
        some = replace(workload, interests=self._some.interests, truths=None)
        quality = quality_of(some, exact_of(some, k), retriever.search(some.queries, k))
        calls = calls_of(workload.interests, Load(self.index, k))
        values = self._timed(lambda queries: retriever.search(queries, k), calls)
        return _with(values, StudyValues(index_recall=quality.index_recall.list.mean))

    def freshness(self, tries: int) -> Iterator[StudyMeasurement]:
        """Seconds from an insert's answer to the first search that finds the row."""
        rng = np.random.default_rng(self.sweep.seed)
        longest = float(np.linalg.norm(self.workload.vectors, axis=1).max())
        last, dimension = int(self.workload.ids.max()), self.workload.vectors.shape[1]
        with self._connected() as retriever:
            for level in CONSISTENCY_LEVELS:
                waits = []
                for _ in range(tries):
                    vector = rng.standard_normal((1, dimension), dtype=np.float32)
                    vector *= 2 * longest / np.linalg.norm(vector)  # its own nearest by any metric
                    last += 1
                    retriever.upsert(vector, [last])
                    waits.append(_seconds_until_hit(retriever, vector, last, level))
                retriever.delete(range(last - tries + 1, last + 1))
                middle = float(np.median(waits))
                values = StudyValues(median_seconds=middle, longest_seconds=max(waits))
                yield _line("freshness", StudyParams(consistency=level, tries=tries), values)


def run_studies(run: SweepRunner) -> None:
    """Measure the studies of the sweep that the results folder lacks."""
    index = study_index(run.sweep)
    todo = {
        key: task
        for key, task in _tasks(run, index).items()
        if any(row not in run.rows for row in _row_keys(key, task[0]))
    }
    if todo:
        with (
            BenchServer(run.sweep.server, run.rows.folder) as place,
            Progress(len(todo), "studies") as progress,
        ):
            target = place.target(run.workload.metric, index)
            studies = StudyRunner(run.sweep, run.workload, index, target)
            for key, (name, value) in todo.items():
                progress.start(f"{name} {value}")
                lines = list(getattr(studies, name)(value))
                for row, line in zip(_row_keys(key, name), lines, strict=True):
                    if row not in run.rows:
                        run.add_study(row, index, line)
                progress.advance()
    scale_rows(run, index)


def _row_keys(key: str, name: str) -> list[str]:
    """The keys of all rows of the study ``name`` whose first row has ``key``."""
    return [key, *(f"{key}-{number}" for number in range(1, ROWS.get(name, 1)))]


def _tasks(run: SweepRunner, index: Index) -> dict[str, tuple[str, Any]]:
    """Key of its first row → the method of a study and its argument."""
    config = run.sweep.studies
    tasks: list[tuple[str, Any]] = [
        *(("exclusion", ids) for ids in config.exclude_ids),
        *(("upserts", rate) for rate in config.upsert_rates),
        *(("freshness", tries) for tries in [config.freshness_tries] if tries),
        *(("filter", share) for share in config.filter_shares),
        *(("replacement", share) for share in config.replaced_shares),
    ]
    searched = index.search_params(run.sweep.k)
    return {run.key("study", index, search=searched, study=task): task for task in tasks}


def _searched_with(index: Index, hits: Collection[int]) -> str | None:
    """Parameters of searches for so many ``hits``: ``ef 178 to 1,074``; None: there are none."""
    least, most = index.search_params(min(hits)), index.search_params(max(hits))
    words = [
        f"{name} {value:,}" + (f" to {most[name]:,}" if most[name] != value else "")
        for name, value in least.items()
    ]
    return ", ".join(words) or None


def _excluded(workload: Workload, exact: ExactRetriever, user: int, count: int) -> IntArray:
    """``count`` items that a user shall not see: the own history, then the nearest ones."""
    history = workload.histories[user] if workload.histories else np.empty(0, np.int64)
    if not count:
        return history[:0]
    most = min(count, len(workload.ids))
    nearest = search_users(exact, workload.interests[user][None], most).ids[0]
    both = np.concatenate([history[::-1], nearest[nearest >= 0]])
    _, first = np.unique(both, return_index=True)
    result: IntArray = both[np.sort(first)][:count]
    return result


def _share_of(workload: Workload, share: float, seed: int) -> NDArray[np.bool_]:
    """[N]: a drawn ``share`` of the items."""
    count = max(1, round(share * len(workload.ids)))
    drawn = np.zeros(len(workload.ids), bool)
    drawn[np.random.default_rng(seed).permutation(len(drawn))[:count]] = True
    return drawn


def _with(values: StudyValues, more: StudyValues) -> StudyValues:
    """``values`` and those that ``more`` sets."""
    return values.model_copy(update=more.model_dump(exclude_none=True))


def _line(study: str, params: StudyParams, values: StudyValues) -> StudyMeasurement:
    return StudyMeasurement(study=study, params=params, values=values)


def _seconds_until_hit(
    retriever: MilvusRetriever, vector: FloatArray, item: int, level: str
) -> float:
    began = time.perf_counter()
    while item not in retriever.search(vector, 1, consistency=level).ids:
        if time.perf_counter() - began > LONGEST_WAIT:
            raise RetrievalError(
                f"item {item} was not found {LONGEST_WAIT:g} s after its insert with {level}"
            )
    return time.perf_counter() - began
