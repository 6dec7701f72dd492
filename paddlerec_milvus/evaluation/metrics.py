# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Relevance of candidate lists against held-out clicks, and how exact an index is.

Every function gives one value per user; the mean over users is taken last, by the caller. Lists are
``candidates`` [U, N] int64, best first, -1 where a list is short. Truths are flat: those of user u
are ``truths[indptr[u]:indptr[u + 1]]``; they are taken as a set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Hits:
    """Where each list hits: ``at`` [U, N] bool, and how many distinct ``truths`` [U] there are."""

    at: npt.NDArray[np.bool_]
    truths: IntArray


def find_hits(candidates: IntArray, indptr: IntArray, truths: IntArray) -> Hits:
    """Match ``candidates`` [U, N] with the truths; ValueError if a list holds an item twice."""
    users, top_n = candidates.shape
    ordered = np.sort(candidates, axis=1)
    if bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != -1)).any()):
        raise ValueError("a list of candidates holds an item twice")
    span = max(int(candidates.max(initial=0)), int(truths.max(initial=0))) + 1
    owner = np.repeat(np.arange(users), np.diff(indptr))
    relevant = np.unique(owner * span + truths)  # a number for each pair of a user and an item
    listed = np.where(candidates < 0, -1, np.arange(users)[:, None] * span + candidates)
    place = np.minimum(np.searchsorted(relevant, listed), max(len(relevant) - 1, 0))
    at = relevant[place] == listed if len(relevant) else np.zeros((users, top_n), dtype=bool)
    return Hits(at, np.bincount(relevant // span, minlength=users).astype(np.int64))


def _discounts(n: int) -> FloatArray:
    return np.asarray(1.0 / np.log2(np.arange(2, n + 2, dtype=np.float64)))


def _ideal_dcg(relevant: IntArray, top_n: int) -> FloatArray:
    """DCG of a list that starts with ``relevant`` [U] hits."""
    return np.concatenate([[0.0], np.cumsum(_discounts(top_n))])[np.minimum(relevant, top_n)]


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """``part / whole``, 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def recall(hits: Hits) -> FloatArray:
    """recall@N [U] = |top N ∩ truths| / |truths|; 0 for a user without truths.

    Equivalent to trec_eval's ``recall`` at the cut N. This is recall against held-out clicks: how
    much of the exact top N an index returns is ``index_recall``.
    """
    return _share(hits.at.sum(axis=1).astype(np.float64), hits.truths.astype(np.float64))


def hitrate(hits: Hits) -> FloatArray:
    """hitrate@N [U] = 1 if the list holds at least one truth (trec_eval's ``success``)."""
    return np.asarray(hits.at.any(axis=1), dtype=np.float64)


def ndcg(hits: Hits) -> FloatArray:
    """ndcg@N [U] = DCG / IDCG, IDCG over min(N, |truths|) hits at the top, gain 1, log2 discount.

    Equivalent to trec_eval's ``ndcg_cut``. ComiRec and PaddleRec print ``ndcg_hits`` instead.
    """
    top_n = hits.at.shape[1]
    return _share(hits.at @ _discounts(top_n), _ideal_dcg(hits.truths, top_n))


def ndcg_hits(hits: Hits) -> FloatArray:
    """ndcg_hits@N [U] = the same DCG over the IDCG of the *hits*: the order of what was found.

    This is what ComiRec and PaddleRec print as NDCG; it is never compared with ``ndcg``.
    """
    top_n = hits.at.shape[1]
    count = hits.at.sum(axis=1).astype(np.int64)
    return _share(hits.at @ _discounts(top_n), _ideal_dcg(count, top_n))


def reciprocal_rank(hits: Hits) -> FloatArray:
    """mrr@N [U] = 1 / place of the first hit, 0 without one (trec_eval's ``recip_rank``)."""
    first = hits.at.argmax(axis=1) + 1.0
    return np.where(hits.at.any(axis=1), 1.0 / first, 0.0)


def index_recall(candidates: IntArray, exact: IntArray) -> FloatArray:
    """index_recall@N [U]: the share of the exact top N [U, N] that an index returned, by id.

    It says nothing of relevance. -1 fills short lists on both sides.
    """
    indptr = np.concatenate([[0], np.cumsum((exact >= 0).sum(axis=1))]).astype(np.int64)
    return recall(find_hits(candidates, indptr, exact[exact >= 0]))


def relevance_by_user(
    candidates: IntArray, indptr: IntArray, truths: IntArray, top_n: int
) -> dict[str, FloatArray]:
    """All four, [U] each, by the names that reports use."""
    hits = find_hits(candidates[:, :top_n], indptr, truths)
    return {
        f"{function.__name__}@{top_n}": function(hits)
        for function in (recall, ndcg, ndcg_hits, hitrate)
    }


def measures_by_user(
    candidates: IntArray, indptr: IntArray, truths: IntArray, top_n: int
) -> dict[str, FloatArray]:
    """recall, ndcg, hitrate and mrr of the first ``top_n`` candidates, [U] each: ``recall@10`` …"""
    hits = find_hits(candidates[:, :top_n], indptr, truths)
    functions = {"recall": recall, "ndcg": ndcg, "hitrate": hitrate, "mrr": reciprocal_rank}
    return {f"{name}@{top_n}": function(hits) for name, function in functions.items()}


def reciprocal_rank_by_user(
    candidates: IntArray, indptr: IntArray, truths: IntArray, top_n: int
) -> FloatArray:
    """mrr@N [U] of the first ``top_n`` candidates."""
    return reciprocal_rank(find_hits(candidates[:, :top_n], indptr, truths))


def relevance(
    candidates: IntArray, indptr: IntArray, truths: IntArray, top_n: int
) -> dict[str, float]:
    """Their means over users."""
    by_user = relevance_by_user(candidates, indptr, truths, top_n)
    return {name: float(values.mean()) for name, values in by_user.items()}


def in_a_line(report: Mapping[str, float], top_n: int) -> str:
    """Three of the means of ``report`` as PaddleRec's scripts grep them in a log line."""
    names = (f"{name}@{top_n}" for name in ("recall", "ndcg", "hitrate"))
    return ", ".join(f"{name}: {report[name]:.5f}" for name in names)
