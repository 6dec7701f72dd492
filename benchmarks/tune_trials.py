# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Does the tuner keep its word? Its settings on other users, beside the full grid of a sweep.

    python benchmarks/index_benchmark.py -s benchmarks/sweeps/amazon_size.yaml --out DIR
    python benchmarks/tune_trials.py -s benchmarks/sweeps/amazon_size.yaml --grid DIR

Each trial draws a half of the users and a target of index_recall, tunes on that half as
benchmarks/tune_index.py does, and looks at the other half. What trials share is done once and
counted in the cost of each: the builds, and a setting's lists, which do not depend on the trial.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from paddlerec_milvus.bench.loads import clients_for
from paddlerec_milvus.bench.quality import Exact, exact_of, found_by_user
from paddlerec_milvus.bench.rows import read_rows
from paddlerec_milvus.bench.sweep import load_workload, read_sweep
from paddlerec_milvus.bench.tune_cli import serving
from paddlerec_milvus.bench.tuner import Goal, Served, Tuner, candidates_for, in_words
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.command import run
from paddlerec_milvus.evaluation.report import machine, versions, write_json
from paddlerec_milvus.retrieval.base import FloatArray, IntArray, Neighbours
from paddlerec_milvus.retrieval.indexes import Index
from paddlerec_milvus.retrieval.merge import Candidates

TARGETS = (0.9, 0.95, 0.98, 0.99)
CLIENTS = (1, 4)


@dataclass
class Trial:
    """What a tuner found on some users, and what it is worth on the others."""

    target: float
    seed: int
    setting: str = ""
    on_others: float = 0.0
    users_per_second: float = 0.0
    seconds: float = 0.0

    def split(self, users: int) -> tuple[IntArray, IntArray]:
        """Rows to tune on and rows to look at."""
        order = np.random.default_rng(self.seed).permutation(users)
        return np.sort(order[: users // 2]), np.sort(order[users // 2 :])


class Lists:
    """The lists of all users by setting, searched once; ``seconds`` of a search are kept, too."""

    def __init__(self, served: Served, work: Workload) -> None:
        self._served, self._work = served, work
        self._kept: dict[Index, tuple[Neighbours, float]] = {}

    def of(self, index: Index, k: int) -> tuple[Neighbours, float]:
        """Of all users, and what the search took."""
        if index not in self._kept:
            began = time.perf_counter()
            found = self._served.retriever.search_with(index, self._work.queries, k)
            self._kept[index] = found, time.perf_counter() - began
        return self._kept[index]


class SomeLists:
    """Those of some users; what searching for these alone takes is added up in ``seconds``."""

    def __init__(self, lists: Lists, rows: IntArray, users: int, interests: int) -> None:
        self._lists, self._share = lists, len(rows) / users
        self._queries = queries_of(rows, interests)
        self.seconds = 0.0

    def search_with(self, index: Index, queries: FloatArray, k: int) -> Neighbours:
        """As a retriever's, for the users' own queries."""
        found, seconds = self._lists.of(index, k)
        self.seconds += seconds * self._share
        return Neighbours(found.ids[self._queries], found.scores[self._queries])


def queries_of(rows: IntArray, interests: int) -> IntArray:
    """The rows of queries of some users."""
    return (rows[:, None] * interests + np.arange(interests)).ravel()


def of_users(exact: Exact, rows: IntArray, interests: int) -> Exact:
    """The truth of some users."""
    queries = queries_of(rows, interests)
    return Exact(
        Neighbours(exact.neighbours.ids[queries], exact.neighbours.scores[queries]),
        Candidates(*(each[rows] for each in exact.lists)),
        {name: values[rows] for name, values in exact.relevance.items()},
    )


def tried(
    trial: Trial, tuner: Tuner, served: Served, lists: Lists, index: Index, exact: Exact
) -> None:
    """Tune ``index`` for one trial; it is kept if it beats what another index gave."""
    work = tuner.workload
    users, count = work.interests.shape[:2]
    own, others = trial.split(users)
    own_lists, other_lists = (SomeLists(lists, rows, users, count) for rows in (own, others))
    found = tuner.smallest(work.take(own), of_users(exact, own, count), own_lists, index)
    began = time.perf_counter()
    if found is not None:
        tuner.timed(found, served.loads)
    trial.seconds += own_lists.seconds + time.perf_counter() - began
    if found is None or found.users_per_second <= trial.users_per_second:
        return
    rest = work.take(others)
    seen = other_lists.search_with(found.index, rest.queries, tuner.k)
    by_user = found_by_user(rest, of_users(exact, others, count), seen)
    trial.on_others = float(by_user["index_recall"].mean())
    trial.users_per_second = found.users_per_second
    trial.setting = in_words(found, tuner.k)["index"]


def best_of_grid(rows: Sequence[dict[str, Any]], target: float) -> tuple[str, float]:
    """The grid's fastest setting at ``target``, by the numbers of clients that the tuner tries."""
    best = ("none", 0.0)
    for row in rows:
        if row["kind"] != "point" or "refused" in row:
            continue
        if row["index_recall"]["list"]["mean"] >= target:
            rates = [
                each["users_per_second"] for each in row["throughput"] if each["clients"] in CLIENTS
            ]
            words = " ".join(f"{k} {v}" for k, v in {**row["index"], **row["search"]}.items())
            best = max(best, (words, max(rates)), key=lambda each: each[1])
    return best


def cost_of_grid(rows: Sequence[dict[str, Any]]) -> float:
    """Seconds from one row to the next, of builds and points; floors and studies left out."""
    times = [datetime.fromisoformat(row["provenance"]["time"]) for row in rows]
    return sum(
        (now - before).total_seconds()
        for row, before, now in zip(rows[1:], times, times[1:], strict=False)
        if row["kind"] in ("build", "point")
    )


def main() -> int:
    """Run the trials and print them beside the grid."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-s", "--sweep", type=Path, required=True, metavar="YAML", help="that made the grid")
    add("--grid", type=Path, required=True, metavar="DIR", help="its results")
    add("--trials", type=int, default=20, metavar="N", help="(20)")
    add("--json", type=Path, metavar="FILE", help="all figures")
    given = parser.parse_args()
    return run(lambda: _trials(given))


def _trials(given: argparse.Namespace) -> None:
    sweep, grid = read_sweep(given.sweep), read_rows(given.grid)
    work = load_workload(sweep)
    trials = [Trial(TARGETS[n % len(TARGETS)], n) for n in range(given.trials)]
    exact = exact_of(work, sweep.k)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        clients = stack.enter_context(clients_for(sweep.server, work, max(CLIENTS)))
        serve = stack.enter_context(serving(work, sweep.server, scratch, clients))
        for index in candidates_for(len(work.ids)):
            began = time.perf_counter()
            with serve(index) as served:
                built = time.perf_counter() - began
                lists = Lists(served, work)
                for trial in tqdm(trials, index.type_name, disable=None):
                    tuner = Tuner(work, sweep.k, Goal(trial.target), serve, CLIENTS)
                    trial.seconds += built
                    tried(trial, tuner, served, lists, index, exact)
    _told(given, trials, grid, work)


def _told(
    given: argparse.Namespace, trials: list[Trial], grid: list[dict[str, Any]], work: Workload
) -> None:
    cost = cost_of_grid(grid)
    rows = []
    for trial in trials:
        words, rate = best_of_grid(grid, trial.target)
        rows.append(
            asdict(trial)
            | {
                "met": trial.on_others >= trial.target,
                "grid's best": words,
                "of its rate": trial.users_per_second / rate if rate else float("inf"),
                "of its cost": trial.seconds / cost,
            }
        )
    print(tabulate(rows, headers="keys", floatfmt=".4g", tablefmt="github"))
    print(
        f"met on other users: {sum(row['met'] for row in rows)} of {len(rows)}; "
        f"least share of the grid's best rate {min(row['of its rate'] for row in rows):.2f}; "
        f"largest share of the grid's {cost:,.0f} s {max(row['of its cost'] for row in rows):.3f}"
    )
    if given.json:
        about = {"data": work.described(), "machine": machine(), "versions": versions()}
        write_json(about | {"trials": rows}, given.json, "--json")


if __name__ == "__main__":
    sys.exit(main())
