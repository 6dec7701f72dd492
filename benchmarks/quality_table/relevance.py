# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The three numbers that are measured, of each user."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.evaluation.metrics import find_hits, hitrate, ndcg, recall

TOP_N = 50
METRICS = {f"{metric.__name__}@{TOP_N}": metric for metric in (recall, ndcg, hitrate)}
RECALL = f"recall@{TOP_N}"

Relevance = dict[str, list[float]]  # metric → a value for each user


def relevance_of(found: npt.NDArray[np.int64], users: HeldOutUsers) -> Relevance:
    """Of the lists ``found`` [U, TOP_N]."""
    hits = find_hits(found, users.truth_indptr, users.truths)
    return {name: metric(hits).tolist() for name, metric in METRICS.items()}


def means(values: Relevance) -> dict[str, float]:
    return {name: float(np.mean(each)) for name, each in values.items()}
