# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The baselines, the grids that they are tuned over, and how one of them is tried and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.evaluation.baselines import ALS, BPR, EASE, Baseline, ItemKNN, MostPopular
from quality_table.data import DataSet
from quality_table.relevance import TOP_N, Relevance, means, relevance_of

CODE = "1"  # raised when a baseline changes: what was kept in work folders is measured again

Params = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A baseline: a training for each combination of ``grid``; ``after`` is tried on its result."""

    title: str
    build: Callable[..., Baseline]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    after: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeded: bool = False

    def trainings(self) -> list[Params]:
        return combinations(self.grid)


METHODS = {
    "most_popular": Method("MostPopular", MostPopular),
    "item_knn": Method(
        "item-kNN",
        ItemKNN,
        {
            "shrink": [0, 10, 30, 100, 300, 1000],
            "alpha": [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0],
        },
    ),
    "ease": Method("EASE", EASE, {"l2": [30, 100, 300, 1000, 3000]}),
    "als": Method(
        "ALS",
        ALS,
        {"factors": [64, 128, 256], "alpha": [1, 10, 40, 100], "l2": [1, 10, 100, 300]},
        seeded=True,
    ),
    "bpr": Method(
        "BPR",
        BPR,
        {"factors": [128], "learning_rate": [0.02, 0.05], "l2": [0.003, 0.01, 0.03]},
        {"epochs": [50, 100, 200], "scale": [1, 4, 16]},
        seeded=True,
    ),
}


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[Params]:
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def tune(data: DataSet, name: str, params: Params, maxlen: int) -> list[dict[str, Any]]:
    """One training, tried on the valid users: recall of each way to use it."""
    method, users = METHODS[name], data.users("valid")
    trials = []
    for used, baseline in _ways(method, data.log(), data.item_count, params):
        found = baseline.recommend(users, maxlen, TOP_N)
        trials.append({"params": params | used, "valid": means(relevance_of(found, users))})
    return trials


def _ways(
    method: Method, log: ClickLog, item_count: int, params: Params
) -> Iterator[tuple[Params, Baseline]]:
    """Each way to use a training; those of BPR are epochs and scales of the same run."""
    if not method.after:
        yield {}, method.build(log, item_count, **params)
        return
    epochs = method.after["epochs"]
    bpr = method.build(log, item_count, **params, epochs=max(epochs), keep=epochs)
    assert isinstance(bpr, BPR)
    for used in combinations(method.after):
        bpr.item_factors, bpr.scale = bpr.snapshots[used["epochs"]], used["scale"]
        yield used, bpr


def measure(data: DataSet, name: str, params: Params, seed: int, maxlen: int) -> dict[str, Any]:
    """One training, measured on the valid and the test users."""
    method, log = METHODS[name], data.log()
    began = time.perf_counter()
    baseline = method.build(
        log, data.item_count, **params, **({"seed": seed} if method.seeded else {})
    )
    seconds = time.perf_counter() - began
    splits: dict[str, Relevance] = {}
    for split in ("valid", "test"):
        users = data.users(split)
        splits[split] = relevance_of(baseline.recommend(users, maxlen, TOP_N), users)
    return {"seconds": seconds, "valid": means(splits["valid"]), "test": splits["test"]}
