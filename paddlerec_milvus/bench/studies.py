# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""More than static search, on one index: exclusion, filters, writes while searching, freshness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from paddlerec_milvus.bench.client_pool import Load, Target, calls_of, run_load
from paddlerec_milvus.bench.index_quality import exact_of, quality_of
from paddlerec_milvus.bench.scale import scale_rows
from paddlerec_milvus.bench.servers import Place
from paddlerec_milvus.bench.study_checks import study_index
from paddlerec_milvus.bench.sweep_config import Sweep
from paddlerec_milvus.bench.sweep_runner import Found, Run
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.bench.write_load import Writer
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.evaluation.metrics import index_recall
from paddlerec_milvus.evaluation.statistics import spread
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.retrieval.candidates import merge_interests, search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import Index
from paddlerec_milvus.retrieval.milvus import CONSISTENCY_LEVELS, MilvusRetriever

USERS = 200  # whose lists are compared with exact ones
LONGEST_WAIT = 60.0  # seconds for an insert to be found
ROWS = {"exclusion": 2, "freshness": len(CONSISTENCY_LEVELS), "replacement": 2}  # others: 1


@dataclass
class Studies:
    """The studies of one sweep on one place."""

    sweep: Sweep
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
        return self.workload.take(spread(len(self.workload.interests), USERS))

    def _timed(self, search: Callable[[Any], object], asked: Sequence[Any]) -> dict[str, Any]:
        """p50, p99 and failures of one client."""
        requests = self.sweep.measure.requests
        run_load(search, asked, Load(self.index, self.sweep.k, self.sweep.measure.warm_up or 1))
        outcome = run_load(search, asked, Load(self.index, self.sweep.k, requests))
        latency = outcome.latency()
        return {name: latency[name] for name in ("p50", "p99", "failures")}

    def exclusion(self, ids: int) -> Iterator[Found]:
        """Lists without ``ids`` items a user: asked for more, or filtered by Milvus."""
        some, k = self._some, self.sweep.k
        exact = ExactRetriever(some.vectors, some.ids, some.metric)
        excluded = [_excluded(some, exact, user, ids) for user in range(len(some.interests))]
        truth = search_users(exact, some.interests, k, excluded).ids
        with self._connected() as retriever:

            def fetched(user: int) -> IntArray:
                return search_users(retriever, some.interests[user][None], k, [excluded[user]]).ids

            def filtered(user: int) -> IntArray:
                words = f"item not in {excluded[user].tolist()}" if ids else ""
                found = retriever.search(some.interests[user], k, filter=words)
                return merge_interests(found.ids[None], found.scores[None], k).ids

            ways = {"over-fetching": fetched, "filter": filtered}
            for way, search in ways.items():
                lists = np.concatenate([search(user) for user in range(len(some.interests))])
                values = self._timed(search, range(len(some.interests)))
                values |= {
                    "index_recall": float(index_recall(lists, truth).mean()),
                    "short_lists": int(((lists >= 0).sum(1) < (truth >= 0).sum(1)).sum()),
                }
                yield Found("exclusion", {"ids": ids, "by": way}, values)

    def filter(self, share: float) -> Iterator[Found]:
        """Search among the ``share`` of the items that a filter by category lets through."""
        some, k = self._some, self.sweep.k
        kept = _share_of(self.workload, share, self.sweep.seed)
        inside = replace(some, vectors=some.vectors[kept], ids=some.ids[kept], truths=None)
        exact = exact_of(inside, min(k, len(inside.ids)))
        words = 'category == "in"'
        with self._connected(plain=False) as retriever:
            retriever.versions.build(
                self.workload.vectors, self.workload.ids, ["in" if each else "out" for each in kept]
            )
            found = retriever.search(some.queries, exact.neighbours.ids.shape[1], filter=words)
            asked = calls_of(some.interests, Load(self.index, k))
            values = self._timed(lambda queries: retriever.search(queries, k, filter=words), asked)
            quality = quality_of(inside, exact, found)
            values |= {"index_recall": quality["index_recall"]["list"]["mean"]}
            values |= {"short_lists": quality["short_lists"]}
        yield Found("filter", {"share": share, "items": len(inside.ids)}, values)

    def upserts(self, rate: int) -> Iterator[Found]:
        """Search while another process upserts ``rate`` rows a second, unchanged ones."""
        with self._connected() as retriever, Writer(self.target, self.workload, rate) as writer:
            values = self._searched(retriever, self.workload)
            values |= {"rows_written_per_second": writer.rate()}
        self._plain = False  # many small segments
        yield Found("upserts", {"rows_per_second": rate}, values)

    def replacement(self, share: float) -> Iterator[Found]:
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
            values = self._searched(retriever, fresh) | {"seconds": seconds}
            yield Found("replacement", {"share": share, "state": "just upserted"}, values)
            began = time.perf_counter()
            retriever.versions.build(vectors, self.workload.ids)
            seconds = time.perf_counter() - began
            values = self._searched(retriever, fresh) | {"seconds": seconds}
            yield Found("replacement", {"share": share, "state": "built again"}, values)

    def _searched(self, retriever: MilvusRetriever, workload: Workload) -> dict[str, Any]:
        """Latency of one client, and index_recall against the vectors of ``workload``."""
        k = self.sweep.k
        some = replace(workload, interests=self._some.interests, truths=None)
        found = retriever.search(some.queries, k)
        quality = quality_of(some, exact_of(some, k), found)
        asked = calls_of(workload.interests, Load(self.index, k))
        values = self._timed(lambda queries: retriever.search(queries, k), asked)
        return values | {"index_recall": quality["index_recall"]["list"]["mean"]}

    def freshness(self, tries: int) -> Iterator[Found]:
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
                    waits.append(_seconds_until_found(retriever, vector, last, level))
                retriever.delete(range(last - tries + 1, last + 1))
                values = {"median_seconds": float(np.median(waits)), "longest_seconds": max(waits)}
                yield Found("freshness", {"consistency": level, "tries": tries}, values)


def run_studies(run: Run) -> None:
    """Measure the studies of the sweep that the results folder lacks."""
    index = study_index(run.sweep)
    todo = {
        key: task
        for key, task in _tasks(run, index).items()
        if any(each not in run.rows for each in _row_keys(key, task[0]))
    }
    if todo:
        with Place(run.sweep.server, run.rows.folder) as place:
            target = place.target(run.workload.metric, index)
            studies = Studies(run.sweep, run.workload, index, target)
            for key, (name, value) in tqdm(todo.items(), "studies", disable=None):
                found = list(getattr(studies, name)(value))
                for each, row in zip(_row_keys(key, name), found, strict=True):
                    if each not in run.rows:
                        run.add_study(each, index, row)
    scale_rows(run, index)


def _row_keys(key: str, name: str) -> list[str]:
    """The keys of all rows of the study ``name`` whose first row has ``key``."""
    return [key, *(f"{key}-{number}" for number in range(1, ROWS.get(name, 1)))]


def _tasks(run: Run, index: Index) -> dict[str, tuple[str, Any]]:
    """Key of its first row → the method of a study and what it is told."""
    asked = run.sweep.studies
    tasks: list[tuple[str, Any]] = [
        *(("exclusion", ids) for ids in asked.exclude_ids),
        *(("upserts", rate) for rate in asked.upsert_rates),
        *(("freshness", tries) for tries in [asked.freshness_tries] if tries),
        *(("filter", share) for share in asked.filter_shares),
        *(("replacement", share) for share in asked.replaced_shares),
    ]
    searched = index.search_params(run.sweep.k)
    return {run.key("study", index, search=searched, study=task): task for task in tasks}


def _excluded(workload: Workload, exact: ExactRetriever, user: int, count: int) -> IntArray:
    """``count`` items that a user shall not see: the own history, then the nearest ones."""
    history = workload.histories[user] if workload.histories else np.empty(0, np.int64)
    if not count:
        return history[:0]
    wanted = min(count, len(workload.ids))
    nearest = search_users(exact, workload.interests[user][None], wanted).ids[0]
    both = np.concatenate([history[::-1], nearest[nearest >= 0]])
    _, first = np.unique(both, return_index=True)
    result: IntArray = both[np.sort(first)][:count]
    return result


def _share_of(workload: Workload, share: float, seed: int) -> NDArray[np.bool_]:
    """[N]: a drawn ``share`` of the items."""
    count = max(1, round(share * len(workload.ids)))
    kept = np.zeros(len(workload.ids), bool)
    kept[np.random.default_rng(seed).permutation(len(kept))[:count]] = True
    return kept


def _seconds_until_found(
    retriever: MilvusRetriever, vector: FloatArray, item: int, level: str
) -> float:
    began = time.perf_counter()
    while item not in retriever.search(vector, 1, consistency=level).ids:
        if time.perf_counter() - began > LONGEST_WAIT:
            raise RetrievalError(
                f"item {item} was not found {LONGEST_WAIT:g} s after its insert with {level}"
            )
    return time.perf_counter() - began
