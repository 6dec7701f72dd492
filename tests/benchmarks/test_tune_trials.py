# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the tuner's trials compare with: the grid's best, its cost, and users that it never saw."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import tune_trials
from support import ROOT
from trial_results import TrialsReport
from tune_trials import (
    Shelf,
    Trial,
    contenders,
    cost_of_grid,
    index_of,
    of_users,
    pace_of,
    queries_of,
    table_of,
    timed,
    tried,
)

from paddlerec_milvus.bench.client_pool import Load, LoadResult, new_histogram
from paddlerec_milvus.bench.load_results import Throughput
from paddlerec_milvus.bench.measure_search import exact_of
from paddlerec_milvus.bench.race import Timing
from paddlerec_milvus.bench.results import (
    BuildMeasurement,
    BuildResult,
    IndexRecall,
    LibraryResult,
    MeanWithError,
    Provenance,
    Refusal,
    SearchMeasurement,
    SearchQuality,
    SearchResult,
)
from paddlerec_milvus.bench.results_file import read_rows
from paddlerec_milvus.bench.tuner import Goal, Served, Tuner
from paddlerec_milvus.bench.workload import synthetic_workload
from paddlerec_milvus.retrieval.base import FloatArray, Neighbours
from paddlerec_milvus.retrieval.build import BuildTimes
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw, Index

K = 5
WORK = synthetic_workload(
    items=200, dimension=8, users=9, interests=3, clusters=5, spread=0.5, norm_skew=0.0,
    metric="IP", seed=1,
)  # fmt: skip


def at(time: str) -> Provenance:
    return Provenance.model_construct(time=f"2026-01-01T00:{time}+00:00")


def point(time: str, found: float, rates: dict[int, float], **search: int) -> SearchResult:
    recall = IndexRecall.model_construct(list=MeanWithError(mean=found))
    measured = SearchMeasurement.model_construct(
        quality=SearchQuality(index_recall=recall),
        throughput=[
            Throughput(clients=n, users_per_second=rate, runs=[rate], failures=0, p50=1, p99=1)
            for n, rate in rates.items()
        ],
    )
    index = {"type": "HNSW", "M": 8}
    return SearchResult.model_construct(
        index=index, search=search, measured=measured, provenance=at(time)
    )


def build(index: Index, **stages: float) -> BuildResult:
    measured = BuildMeasurement.model_construct(**stages)
    return BuildResult.model_construct(index=index.label, build=measured)


GRID = [
    LibraryResult.model_construct(provenance=at("00:00")),
    BuildResult.model_construct(provenance=at("01:00")),
    point("01:30", 0.90, {1: 300, 4: 500, 16: 900}, ef=50),
    LibraryResult.model_construct(provenance=at("05:00")),
    point("05:20", 0.98, {1: 200, 4: 400, 16: 450}, ef=100),
]


def test_the_best_two_of_the_grid_and_what_is_close_are_timed_again():
    lean, dense = Hnsw(M=8, ef=50), Hnsw(M=8, ef=100)
    assert contenders(GRID, 0.9) == [lean, dense]  # 500 and 400, of 1 and 4 clients
    assert contenders(GRID, 0.95) == [dense]
    assert contenders(GRID, 0.99) == []
    more = [point("06:00", 0.99, {4: rate}, ef=ef) for ef, rate in ((60, 451), (70, 449), (80, 1))]
    assert contenders([*GRID, *more], 0.9) == [lean, Hnsw(M=8, ef=60)]  # 449 is below 0.9 of 500
    more = [point("06:00", 0.99, {4: rate}, ef=ef) for ef, rate in ((60, 451), (70, 450), (80, 1))]
    assert contenders([*GRID, *more], 0.9) == [lean, Hnsw(M=8, ef=60), Hnsw(M=8, ef=70)]


def test_a_point_is_a_setting():
    assert index_of(SearchResult.model_construct(index={"type": "FLAT"}, search={})) == Flat()
    index = {"type": "HNSW", "M": 48, "efConstruction": 400}
    row = SearchResult.model_construct(index=index, search={"ef": 50})
    assert index_of(row) == Hnsw(M=48, ef_construction=400, ef=50)


def test_the_kept_grid_of_amazon_books_size_can_be_compared_with():
    rows = read_rows(ROOT / "benchmarks/results/index_amazon_size")
    assert Hnsw(M=48, ef_construction=400, ef=50) in contenders(rows, 0.98)
    assert cost_of_grid(rows) == 2_349


def test_the_kept_trials_are_what_is_written_today():
    file = ROOT / "benchmarks/results/tune_trials.json"
    report = TrialsReport.model_validate_json(file.read_text(encoding="utf-8"))
    assert len(report.trials) == 20
    assert report.model_dump(by_alias=True) == json.loads(file.read_text(encoding="utf-8"))
    assert all(line.met == (line.on_others >= line.target) for line in report.trials)


def test_the_grids_cost_leaves_the_floor_out():
    assert cost_of_grid(GRID) == 60 + 30 + 20


def test_the_two_halves_share_no_user():
    own, others = Trial(0.9, 3).split(101)
    assert sorted([*own, *others]) == list(range(101))
    assert len(own) == 50


def test_the_truth_of_some_users_is_theirs():
    rows = np.array([7, 2])
    some = of_users(exact_of(WORK, K), rows, 3)
    wanted = exact_of(WORK.take(rows), K)
    assert (some.neighbours.ids == wanted.neighbours.ids).all()
    assert (some.lists.ids == wanted.lists.ids).all()
    assert (WORK.queries[queries_of(rows, 3)] == WORK.take(rows).queries).all()


class Fixed:
    """Exact lists, and loads at a rate that falls with each turn of anything."""

    turns = 0

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def search_with(self, index: Index, queries: FloatArray, k: int) -> Neighbours:
        return ExactRetriever(WORK.vectors, WORK.ids, WORK.metric).search(queries, k)

    def run(self, loads: list[Load], warm_up: int = 0) -> LoadResult:
        Fixed.turns += 1
        histogram = new_histogram()
        histogram.record_value(1_000)
        return LoadResult(9, 0, "", self.rate * 0.99**Fixed.turns, histogram.encode())


@pytest.fixture
def shelf():
    """Two indexes, which take a second each to insert and another to build."""

    @contextmanager
    def serve(index: Index) -> Iterator[Served]:
        fixed = Fixed({"FLAT": 100, "HNSW": 200}[index.type_name])
        yield Served(fixed, fixed, BuildTimes(1.0, 1.0, 0.0, 200))

    with Shelf(serve) as kept:
        yield kept


def test_a_trial_pays_for_each_index_that_its_tuner_asks_for(shelf):
    for index in (Flat(), Hnsw()):
        shelf.build(index)
    shelf.served = {name: (served, 50.0) for name, (served, _) in shelf.served.items()}
    tuner, exact = Tuner(WORK, K, Goal(0.5), shelf.serve, [1]), exact_of(WORK, K)
    both, one = Trial(0.9, 1, seconds=7.0), Trial(0.9, 2, seconds=7.0)
    tried(both, tuner, shelf, [Flat(), Hnsw()], exact)
    tried(one, tuner, shelf, [Flat()], exact)
    assert 107 <= both.seconds < 150
    assert 57 <= one.seconds < 100
    assert (both.index, one.index) == (Hnsw(ef=K), Flat())
    assert both.on_others == one.on_others == 1


def test_a_setting_is_timed_once_for_all_trials_and_beside_its_rivals(shelf):
    Fixed.turns = 0
    settings = [Hnsw(ef=50), Flat(), Hnsw(ef=50), Hnsw(ef=60)]
    timings = timed(settings, shelf, K, 4)
    assert Fixed.turns == 3 * tune_trials.WINDOWS
    assert list(shelf.served) == ["HNSW M 16, efConstruction 200", "FLAT"]  # as they are given
    assert timings[Hnsw(ef=50)].users_per_second == pytest.approx(
        2 * timings[Flat()].users_per_second, rel=0.02
    )


def test_a_table_divides_rates_of_one_timing():
    rivals = {0.9: [Hnsw(ef=50), Hnsw(ef=60)], 0.99: []}
    timings = {Flat(): 90, Hnsw(ef=50): 80, Hnsw(ef=60): 100}
    lines = table_of(
        [Trial(0.9, 0, Flat(), 0.91), Trial(0.9, 1, None), Trial(0.99, 2, Flat(), 0.98)],
        rivals,
        {index: Timing(rate, 4, 1.0) for index, rate in timings.items()},
        K,
    )
    assert [line.relative_rate for line in lines] == [0.9, 0.0, float("inf")]
    assert [line.met for line in lines] == [True, False, False]
    assert lines[0].grid_best == "HNSW M 16, efConstruction 200, ef 60"


def test_the_pace_of_two_days_is_that_of_the_same_build(shelf):
    shelf.build(Hnsw())
    stages = {"insert_seconds": 0.5, "compact_seconds": 0.0, "index_seconds": 0.25}
    row = build(Hnsw(), load_seconds=0.25, **stages)
    other = build(Hnsw(M=48), load_seconds=0.25, **stages)
    refused = Refusal.model_construct(index=Hnsw().label, what="build", reason="no")
    assert pace_of([row, other, refused], shelf) == {tune_trials.PACE: 2.0}
