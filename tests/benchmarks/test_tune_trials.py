# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the tuner's trials compare with: the grid's best, its cost, and users that it never saw."""

import numpy as np
from tune_trials import Trial, best_of_grid, cost_of_grid, of_users, queries_of

from paddlerec_milvus.bench.quality import exact_of
from paddlerec_milvus.bench.synthetic import synthetic_workload


def point(at: str, found: float, rates: dict[int, float], **search: int) -> dict[str, object]:
    return {
        "kind": "point",
        "index": {"type": "HNSW", "M": 8},
        "search": search,
        "index_recall": {"list": {"mean": found}},
        "throughput": [{"clients": n, "users_per_second": rate} for n, rate in rates.items()],
        "provenance": {"time": f"2026-01-01T00:{at}+00:00"},
    }


GRID = [
    {"kind": "floor", "provenance": {"time": "2026-01-01T00:00:00+00:00"}},
    {"kind": "build", "provenance": {"time": "2026-01-01T00:01:00+00:00"}},
    point("01:30", 0.90, {1: 300, 4: 500, 16: 900}, ef=50),
    {"kind": "floor", "provenance": {"time": "2026-01-01T00:05:00+00:00"}},
    point("05:20", 0.98, {1: 200, 4: 400, 16: 450}, ef=100),
]


def test_the_grids_best_at_a_target():
    assert best_of_grid(GRID, 0.9) == ("type HNSW M 8 ef 50", 500)  # of 1 and 4 clients
    assert best_of_grid(GRID, 0.95) == ("type HNSW M 8 ef 100", 400)
    assert best_of_grid(GRID, 0.99) == ("none", 0.0)


def test_the_grids_cost_leaves_the_floor_out():
    assert cost_of_grid(GRID) == 60 + 30 + 20


def test_the_two_halves_share_no_user():
    own, others = Trial(0.9, 3).split(101)
    assert sorted([*own, *others]) == list(range(101))
    assert len(own) == 50


def test_the_truth_of_some_users_is_theirs():
    work = synthetic_workload(
        items=200, dimension=8, users=9, interests=3, clusters=5, spread=0.5, norm_skew=0.0,
        metric="IP", seed=1,
    )  # fmt: skip
    rows = np.array([7, 2])
    some = of_users(exact_of(work, 5), rows, 3)
    wanted = exact_of(work.take(rows), 5)
    assert (some.neighbours.ids == wanted.neighbours.ids).all()
    assert (some.lists.ids == wanted.lists.ids).all()
    assert (work.queries[queries_of(rows, 3)] == work.take(rows).queries).all()
