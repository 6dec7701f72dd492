# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The numbers that are measured, of each user."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.evaluation.metrics import find_hits, hitrate, ndcg, recall
from quality_table.results import FIELDS, SHORT, RelevanceByUser, RelevanceMeans


def relevance_of(lists: npt.NDArray[np.int64], users: HeldOutUsers) -> RelevanceByUser:
    """Relevance of ``lists`` [U, TOP_N], and of their first SHORT items, to ``users``."""
    values = {}
    for suffix, part in (("", lists), ("_short", lists[:, :SHORT])):
        hits = find_hits(part, users.truth_indptr, users.truths)
        for metric in (recall, ndcg, hitrate):
            values[f"{metric.__name__}{suffix}"] = metric(hits).tolist()
    return RelevanceByUser(**values)


def means(values: RelevanceByUser) -> RelevanceMeans:
    """Means over users."""
    return RelevanceMeans(**{name: float(np.mean(getattr(values, name))) for name in FIELDS})
