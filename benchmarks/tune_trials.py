# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Does the tuner keep its word? Its settings on other users, beside the full grid of a sweep.

    python benchmarks/index_benchmark.py -s benchmarks/sweeps/amazon_size.yaml --out DIR
    python benchmarks/tune_trials.py -s benchmarks/sweeps/amazon_size.yaml --grid DIR

Each trial draws a half of the users and a target of index_recall, tunes on that half as
benchmarks/tune_index.py does, and looks at the other half. Only builds and the probe are shared:
they are done once, and counted in the cost of each trial that asks for them. A trial's choice
comes from its own timing, as a user's would. What that choice is worth does not: at the end the
chosen settings and the best of the grid at each target are all timed anew, in turn, and one rate
is divided by the other. So the grid may be of another day. Its cost is given twice, as measured
and at the pace of today's builds.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tabulate import tabulate
from tqdm import tqdm
from trial_results import TrialResult, TrialsReport

from paddlerec_milvus.bench.client_pool import clients_for
from paddlerec_milvus.bench.measure_build import BenchServer
from paddlerec_milvus.bench.measure_search import Exact, exact_of, quality_by_user
from paddlerec_milvus.bench.probe import probe
from paddlerec_milvus.bench.race import Timing, race
from paddlerec_milvus.bench.results import BuildResult, Refusal, Result, SearchResult
from paddlerec_milvus.bench.results_file import read_rows
from paddlerec_milvus.bench.sweep_config import load_workload, read_sweep
from paddlerec_milvus.bench.tune_cli import serving
from paddlerec_milvus.bench.tuner import Goal, Served, Tuner, candidates_for
from paddlerec_milvus.command import run
from paddlerec_milvus.evaluation.report import machine, versions, write_json
from paddlerec_milvus.retrieval.base import IntArray, Neighbours
from paddlerec_milvus.retrieval.candidates import Candidates
from paddlerec_milvus.retrieval.indexes import Index, index_from_settings, setting_name

TARGETS = (0.9, 0.95, 0.98, 0.99)
CLIENTS = (1, 4)
WINDOWS, SECONDS = 24, 1.0  # of the timing at the end: many short turns share what disturbs them
PACE = "HNSW M 16, efConstruction 200"  # the build that tells the pace of two machines
CLOSE = 0.9  # of the best rate of the grid: such a setting may be the best one today

Serve = Callable[[Index], AbstractContextManager[Served]]


@dataclass
class Trial:
    """What a tuner found on some users, and what it is worth on the others."""

    target: float
    seed: int
    index: Index | None = None
    on_others: float = 0.0
    seconds: float = 0.0

    def split(self, users: int) -> tuple[IntArray, IntArray]:
        """Rows to tune on and rows to look at."""
        order = np.random.default_rng(self.seed).permutation(users)
        return np.sort(order[: users // 2]), np.sort(order[users // 2 :])


class Shelf:
    """Indexes built once, which stay; a context manager."""

    def __init__(self, serve: Serve) -> None:
        self._serve, self._stack = serve, ExitStack()
        self.served: dict[str, tuple[Served, float]] = {}
        """By the words for a build: what is served, and the seconds that it took to."""
        self.requested: list[str] = []
        """The builds that a tuner asked for, in its order."""

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *problem: object) -> None:
        self._stack.close()

    def build(self, index: Index) -> Served:
        """The index, built if it is not there."""
        name = setting_name(index.label)
        if name not in self.served:
            began = time.perf_counter()
            served = self._stack.enter_context(self._serve(index))
            self.served[name] = served, time.perf_counter() - began
        return self.served[name][0]

    @contextmanager
    def serve(self, index: Index) -> Iterator[Served]:
        """The index for a Tuner, whose request is noted."""
        self.requested.append(setting_name(index.label))
        yield self.build(index)


def queries_of(rows: IntArray, interests: int) -> IntArray:
    """The rows of queries of some users."""
    return (rows[:, None] * interests + np.arange(interests)).ravel()


def of_users(exact: Exact, rows: IntArray, interests: int) -> Exact:
    """The truth of some users."""
    queries, lists = queries_of(rows, interests), exact.lists
    return Exact(
        Neighbours(exact.neighbours.ids[queries], exact.neighbours.scores[queries]),
        Candidates(lists.ids[rows], lists.scores[rows], lists.interests[rows]),
        {name: values[rows] for name, values in exact.relevance.items()},
    )


def tried(trial: Trial, tuner: Tuner, shelf: Shelf, indexes: Sequence[Index], exact: Exact) -> None:
    """Tune on one half as a user would, all of it timed, and look at the other half.

    ``tuner`` is on all users, ``exact`` their truth; ``indexes`` have been built.
    """
    work = tuner.workload
    own, others = trial.split(len(work.interests))
    shelf.requested.clear()
    began = time.perf_counter()
    best = replace(tuner, workload=work.take(own), goal=Goal(trial.target)).advise(indexes).best
    trial.seconds += time.perf_counter() - began
    trial.seconds += sum(shelf.served[name][1] for name in shelf.requested)
    if best is None:
        return
    trial.index = best.index
    rest, retriever = work.take(others), shelf.build(best.index).retriever
    neighbours = retriever.search_with(best.index, rest.queries, tuner.k)
    by_user = quality_by_user(rest, of_users(exact, others, work.interests.shape[1]), neighbours)
    trial.on_others = float(by_user["index_recall"].mean())


def index_of(result: SearchResult) -> Index:
    """The setting that a search result of a grid is about."""
    parameters = {key: value for key, value in result.index.items() if key != "type"}
    return index_from_settings(result.index_type, {**parameters, **result.search})


def contenders(grid: Sequence[Result], target: float) -> list[Index]:
    """The grid's settings at ``target`` that may be the fastest today.

    By the grid's own rates, of the numbers of clients that the tuner tries: the best two, and what
    comes close to the best.
    """
    rates: dict[Index, float] = {}
    for result in grid:
        if not isinstance(result, SearchResult):
            continue
        measured = result.measured
        if measured.quality.index_recall.list.mean >= target:
            rates[index_of(result)] = max(
                load.users_per_second for load in measured.throughput if load.clients in CLIENTS
            )
    order = sorted(rates, key=lambda index: -rates[index])
    return [
        index for n, index in enumerate(order) if n < 2 or rates[index] >= CLOSE * rates[order[0]]
    ]


def cost_of_grid(grid: Sequence[Result]) -> float:
    """Seconds from one result to the next, of builds and searches alone."""
    times = [datetime.fromisoformat(result.provenance.time) for result in grid]
    return sum(
        (now - before).total_seconds()
        for result, before, now in zip(grid[1:], times, times[1:], strict=False)
        if (result.what if isinstance(result, Refusal) else result.kind) in ("build", "point")
    )


def pace_of(grid: Sequence[Result], shelf: Shelf) -> dict[str, float]:
    """How long a build takes now, as a multiple of what it took the grid, by its words.

    Of the stages that each build has: insert, index, load.
    """
    paces = {}
    for result in grid:
        if (
            not isinstance(result, BuildResult)
            or (name := setting_name(result.index)) not in shelf.served
        ):
            continue
        now, then = shelf.served[name][0].times, result.build
        seconds = now.insert_seconds + now.index_seconds + now.load_seconds
        paces[name] = seconds / (then.insert_seconds + then.index_seconds + then.load_seconds)
    return paces


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trials and print them beside the grid."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-s", "--sweep", type=Path, required=True, metavar="YAML", help="that made the grid")
    add("--grid", type=Path, required=True, metavar="DIR", help="its results, or their report")
    add("--trials", type=int, default=20, metavar="N", help="(20)")
    add("--json", type=Path, metavar="FILE", help="all figures")
    arguments = parser.parse_args(argv)
    return run(lambda: _trials(arguments))


def _trials(arguments: argparse.Namespace) -> None:
    sweep, grid = read_sweep(arguments.sweep), read_rows(arguments.grid)
    work, k = load_workload(sweep), sweep.k
    rivals = {target: contenders(grid, target) for target in TARGETS}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        with BenchServer(sweep.server, scratch) as place:
            began = time.perf_counter()
            indexes = candidates_for(len(work.ids), graphs=not probe(work, k, place).warning)
            before = time.perf_counter() - began
        clients = stack.enter_context(clients_for(sweep.server, work, max(CLIENTS)))
        trials = [
            Trial(TARGETS[n % len(TARGETS)], n, seconds=before) for n in range(arguments.trials)
        ]
        serve = stack.enter_context(serving(work, sweep.server, scratch, clients))
        shelf = stack.enter_context(Shelf(serve))
        for index in indexes:
            shelf.build(index)
        counts = (1,) if clients is None else CLIENTS
        tuner, exact = Tuner(work, k, Goal(0.5), shelf.serve, counts), exact_of(work, k)
        for trial in tqdm(trials, "trials", disable=None):
            tried(trial, tuner, shelf, indexes, exact)
        chosen = [trial.index for trial in trials if trial.index is not None]
        used = [index for trial in trials for index in rivals[trial.target]]
        timings = timed([*chosen, *used], shelf, k, max(counts))
        paces = pace_of(grid, shelf)
    cost, pace = cost_of_grid(grid), paces.get(PACE, float("nan"))
    lines = table_of(trials, rivals, timings, k)
    _print(lines, cost, pace)
    if arguments.json:
        report = TrialsReport(
            format=1,
            data=work.described(),
            machine=machine(),
            versions=versions(),
            trials=lines,
            users_per_second={
                named(i, k): timing.users_per_second for i, timing in timings.items()
            },
            grid_seconds=cost,
            paces=paces,
        )
        write_json(report.model_dump(by_alias=True), arguments.json, "--json")


def timed(settings: Iterable[Index], shelf: Shelf, k: int, clients: int) -> dict[Index, Timing]:
    """Each of ``settings`` once, in turn; an index that no trial asked for is built before."""
    distinct = list(dict.fromkeys(settings))
    runners = [(index, shelf.build(index).loads) for index in distinct]
    timings = race(runners, k, (clients,), SECONDS, WINDOWS)
    return dict(zip(distinct, timings, strict=True))


def table_of(
    trials: Sequence[Trial],
    rivals: Mapping[float, Sequence[Index]],
    timings: Mapping[Index, Timing],
    k: int,
) -> list[TrialResult]:
    """A line for each trial: its setting beside the best of the grid's, by one timing of both."""
    rates = {None: 0.0} | {index: timing.users_per_second for index, timing in timings.items()}
    lines = []
    for trial in trials:
        best = max(rivals[trial.target], key=lambda index: rates[index], default=None)
        lines.append(
            TrialResult(
                target=trial.target,
                seed=trial.seed,
                setting=named(trial.index, k),
                on_others=trial.on_others,
                met=trial.on_others >= trial.target,
                users_per_second=rates[trial.index],
                grid_best=named(best, k),
                grid_best_users_per_second=rates[best],
                relative_rate=rates[trial.index] / rates[best] if rates[best] else math.inf,
                seconds=trial.seconds,
            )
        )
    return lines


def named(index: Index | None, k: int) -> str:
    """A setting in words."""
    return "none" if index is None else setting_name(index.label, index.search_params(k))


def _print(lines: Sequence[TrialResult], cost: float, pace: float) -> None:
    rows = [line.model_dump(by_alias=True) for line in lines]
    print(tabulate(rows, headers="keys", floatfmt=".4g", tablefmt="github"))
    rates = [line.relative_rate for line in lines]
    most = max(line.seconds for line in lines)
    print(
        f"met on other users: {sum(line.met for line in lines)} of {len(lines)}\n"
        f"of the rate of the grid's best: at least {CLOSE} in "
        f"{sum(rate >= CLOSE for rate in rates)}, the least {min(rates):.2f}\n"
        f"seconds of a trial, at most: {most:,.0f}, {most / cost:.3f} of the grid's {cost:,.0f}; "
        f"{most / cost / pace:.3f} of what the grid takes today, when {PACE} takes {pace:.2f} "
        "times as long to build"
    )


if __name__ == "__main__":
    sys.exit(main())
