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
from quality_table.relevance import means, relevance_of
from quality_table.results import TOP_N, Measurement, ValidTrial

CODE = "1"  # raised when a baseline changes: what was kept in work folders is measured again

Params = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A baseline: a training for each combination of ``grid``; ``after`` is tried on its result."""

    title: str
    build: Callable[..., Baseline]
    grid: dict[str, Sequence[Any]] = field(default_factory=dict)
    after: dict[str, Sequence[Any]] = field(default_factory=dict)
    seeded: bool = False

    def trainings(self) -> list[Params]:
        """The parameters of each training of the grid."""
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
    """Every choice of one value for each parameter of ``grid``, the last one changing first."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def tune(data: DataSet, name: str, params: Params, maxlen: int) -> list[ValidTrial]:
    """One training, and each way to use it tried on the valid users."""
    method, users = METHODS[name], data.users("valid")
    trials = []
    for used, baseline in _ways(method, data.log(), data.item_count, params):
        valid = means(relevance_of(baseline.recommend(users, maxlen, TOP_N), users))
        trials.append(ValidTrial(params=params | used, valid=valid))
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


def measure(data: DataSet, name: str, params: Params, seed: int, maxlen: int) -> Measurement:
    """One training, measured on the valid and the test users."""
    method, log = METHODS[name], data.log()
    began = time.perf_counter()
    baseline = method.build(
        log, data.item_count, **params, **({"seed": seed} if method.seeded else {})
    )
    seconds = time.perf_counter() - began
    valid, test = (
        relevance_of(baseline.recommend(users, maxlen, TOP_N), users)
        for users in (data.users("valid"), data.users("test"))
    )
    return Measurement(seconds=seconds, valid=means(valid), test=test)
