# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The baselines, the grids that they are tuned over, and how one of them is tried and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.evaluation.baselines import (
    ALS,
    BPR,
    EASE,
    GFCF,
    Baseline,
    ItemKNN,
    ItemKNNGamma,
    MostPopular,
    Transitions,
    TransitionsKNN,
)
from quality_table.data import DataSet
from quality_table.relevance import means, relevance_of
from quality_table.results import TOP_N, Measurement, ValidTrial

CODE = "3"  # raised when a baseline changes: what was kept in work folders is measured again

Params = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A baseline: a training for each combination of ``grid``; ``after`` is tried on its result."""

    title: str
    build: Callable[..., Baseline]
    grid: dict[str, Sequence[Any]] = field(default_factory=dict)
    after: dict[str, Sequence[Any]] = field(default_factory=dict)
    seeded: bool = False
    use: Callable[..., None] | None = None
    """Make a trained one use a choice of ``after``; BPR has a way of its own."""

    @property
    def tuned(self) -> bool:
        """Whether there is a choice."""
        return bool(self.grid or self.after)

    def trainings(self) -> list[Params]:
        """The parameters of each training of the grid."""
        return combinations(self.grid)


GAMMAS = [0.7, 0.8, 0.9]


def _use_gamma(baseline: Baseline, gamma: float) -> None:
    baseline.gamma = gamma


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
    "item_knn_gamma": Method(
        "item-kNN γ",
        ItemKNNGamma,
        after={"rows": [0.5, 0.7, 0.9], "columns": [0.3, 0.5, 0.7], "gamma": GAMMAS},
        use=ItemKNNGamma.weigh,
    ),
    "ease_gamma": Method(
        "EASE γ", EASE, {"l2": [300, 1000]}, {"gamma": [0.6, *GAMMAS]}, use=_use_gamma
    ),
    "transitions": Method(
        "transitions",
        Transitions,
        after={"rows": [0.3, 0.5, 0.7, 1.0], "columns": [0.0, 0.3], "gamma": [0.6, *GAMMAS]},
        use=Transitions.weigh,
    ),
    "transitions_knn": Method(
        "transitions + kNN γ",
        TransitionsKNN,
        after={
            "rows": [0.5, 1.0],
            "columns": [0.0],
            "knn_rows": [0.5, 0.7],
            "knn_columns": [0.3, 0.5],
            "gamma": GAMMAS,
        },
        use=TransitionsKNN.weigh,
    ),
    "gf_cf": Method(
        "GF-CF γ",
        GFCF,
        after={
            "rank": [64, 128, 256, 512],
            "alpha": [0.5, 1.0, 2.0, 4.0],
            "gamma": [0.6, 0.7, 0.8, 1.0],
        },
        use=GFCF.weigh,
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
    """Each way to use a training, one after the other; of BPR epochs and scales of one run."""
    if not method.after:
        yield {}, method.build(log, item_count, **params)
        return
    if method.use is not None:
        baseline = method.build(log, item_count, **params)
        for used in combinations(method.after):
            method.use(baseline, **used)
            yield used, baseline
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
    began = time.process_time()  # its one thread, whatever else the machine does
    baseline = method.build(
        log, data.item_count, **params, **({"seed": seed} if method.seeded else {})
    )
    seconds = time.process_time() - began
    valid, test, unseen = (
        relevance_of(baseline.recommend(users, maxlen, TOP_N, exclude_history=excluded), users)
        for users, excluded in data.lists_measured()
    )
    return Measurement(seconds=seconds, valid=means(valid), test=test, unseen=unseen)
