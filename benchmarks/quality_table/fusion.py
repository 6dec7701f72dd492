# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The fusion of two baselines: a weighted sum of their scores, each brought to one scale.

A user's scores of a baseline are z-scored over all items that were clicked; an item that the
baseline does not list has the score 0 before. Which two and which weight is chosen on valid.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.evaluation.baselines import Baseline
from paddlerec_milvus.evaluation.baselines.base import (
    FloatArray,
    IntArray,
    history_matrix,
    top_items,
)
from quality_table.baselines import METHODS, Params
from quality_table.data import DataSet
from quality_table.relevance import means, relevance_of
from quality_table.results import TOP_N, Measurement, ValidTrial

NAME, TITLE = "fusion", "fusion of two"
CANDIDATES = 4  # the best baselines on valid, of which every pair is tried
WEIGHTS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]  # of the first of a pair
USERS = 256  # scored at a time


class Mix(NamedTuple):
    """``weight`` of the first baseline's scores and 1 - ``weight`` of the second's."""

    first: str
    second: str
    weight: float


def mixes_of(names: Sequence[str]) -> list[Mix]:
    """All that is tried with the baselines ``names``, the best one first."""
    return [Mix(*pair, weight) for pair in combinations(names, 2) for weight in WEIGHTS]


def grid_of(methods: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """What is tried, for the report of a run with ``methods``."""
    pairs = f"pairs of the best {CANDIDATES} on valid"
    return {TITLE: {"of": [pairs], "weight": WEIGHTS}} if NAME in methods else {}


def z_scores(baseline: Baseline, histories: IntArray) -> FloatArray:
    """Scores [B, V] for ``histories`` [B, L], mean 0 and deviation 1 over the clicked items.

    -inf for items that nobody clicked; all 0 where a user's scores are all equal.
    """
    scores = baseline.scores(history_matrix(histories, baseline.item_count, baseline.gamma))
    scores[np.isneginf(scores)] = 0.0
    clicked = scores[:, baseline.clicks > 0]
    spread = clicked.std(axis=1, keepdims=True)
    scores -= clicked.mean(axis=1, keepdims=True)
    scores /= np.where(spread > 0, spread, 1.0)
    scores[:, baseline.clicks == 0] = -np.inf
    return scores


def fused_lists(
    baselines: Mapping[str, Baseline],
    users: HeldOutUsers,
    maxlen: int,
    mixes: Sequence[Mix],
    *,
    exclude_history: bool = False,
) -> list[IntArray]:
    """The lists [U, TOP_N] of each of ``mixes``, best first; ``exclude_history`` leaves out what a
    user clicked, be it among the last ``maxlen`` clicks or not.
    """
    histories, _ = users.histories(maxlen)
    lists: list[list[IntArray]] = [[] for _ in mixes]
    for start in range(0, len(histories), USERS):
        part = histories[start : start + USERS]
        scores = {name: z_scores(baseline, part) for name, baseline in baselines.items()}
        for mix, of_mix in zip(mixes, lists, strict=True):
            first, second = scores[mix.first], scores[mix.second]
            fused = np.float32(mix.weight) * first + np.float32(1 - mix.weight) * second
            if exclude_history:
                for row, past in enumerate(users.history_list()[start : start + USERS]):
                    fused[row, past] = -np.inf
            of_mix.append(top_items(fused, TOP_N))
    return [np.concatenate(of_mix) for of_mix in lists]


def _built(data: DataSet, params: Mapping[str, Params]) -> dict[str, Baseline]:
    log = data.log()
    return {
        name: METHODS[name].build(log, data.item_count, **of_one) for name, of_one in params.items()
    }


def tune(data: DataSet, params: Mapping[str, Params], maxlen: int) -> list[ValidTrial]:
    """Every mix of the baselines that ``params`` names, with their parameters, on valid users."""
    users, mixes = data.users("valid"), mixes_of(list(params))
    lists = fused_lists(_built(data, params), users, maxlen, mixes)
    return [
        ValidTrial(params=_described(mix, params), valid=means(relevance_of(of_mix, users)))
        for mix, of_mix in zip(mixes, lists, strict=True)
    ]


def _described(mix: Mix, params: Mapping[str, Params]) -> dict[str, Any]:
    """All that decides what ``mix`` lists."""
    return mix._asdict() | {
        "first_params": params[mix.first],
        "second_params": params[mix.second],
    }


def measure(data: DataSet, params: Params, maxlen: int) -> Measurement:
    """One mix, described by ``params``, measured on the valid and the test users."""
    mix = Mix(params["first"], params["second"], params["weight"])
    began = time.process_time()
    built = _built(data, {mix.first: params["first_params"], mix.second: params["second_params"]})
    seconds = time.process_time() - began
    valid, test, unseen = (
        relevance_of(fused_lists(built, users, maxlen, [mix], exclude_history=excluded)[0], users)
        for users, excluded in data.lists_measured()
    )
    return Measurement(seconds=seconds, valid=means(valid), test=test, unseen=unseen)
