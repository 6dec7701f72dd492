# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The three numbers that are measured, of each user."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.evaluation.metrics import find_hits, hitrate, ndcg, recall
from quality_table.results import RelevanceByUser, RelevanceMeans


def relevance_of(lists: npt.NDArray[np.int64], users: HeldOutUsers) -> RelevanceByUser:
    """Relevance of ``lists`` [U, TOP_N] to ``users``."""
    hits = find_hits(lists, users.truth_indptr, users.truths)
    return RelevanceByUser(
        recall=recall(hits).tolist(), ndcg=ndcg(hits).tolist(), hitrate=hitrate(hits).tolist()
    )


def means(values: RelevanceByUser) -> RelevanceMeans:
    """Means over users."""
    return RelevanceMeans(
        recall=float(np.mean(values.recall)),
        ndcg=float(np.mean(values.ndcg)),
        hitrate=float(np.mean(values.hitrate)),
    )
