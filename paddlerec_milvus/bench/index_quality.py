# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What an index finds beside exact search: index_recall, and the relevance that is lost."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.bench.results import (
    IndexRecall,
    MeanWithError,
    RelevanceComparison,
    RelevanceLoss,
    RelevanceLosses,
    RelevanceMeans,
    SearchQuality,
)
from paddlerec_milvus.bench.workload import Truths, Workload
from paddlerec_milvus.evaluation.metrics import index_recall, relevance_by_user
from paddlerec_milvus.evaluation.statistics import paired_bootstrap, standard_error
from paddlerec_milvus.retrieval.base import FloatArray, IntArray, Neighbours
from paddlerec_milvus.retrieval.candidates import Candidates, merge_interests
from paddlerec_milvus.retrieval.exact import ExactRetriever

TIE = 1e-6  # of the k-th score: what float32 sums of another order differ by
PerUser = dict[str, npt.NDArray[np.float64]]


class Exact(NamedTuple):
    """The truth for k neighbours of all interests of a workload."""

    neighbours: Neighbours
    """[U * K, k]."""
    lists: Candidates
    """[U, k], merged."""
    relevance: PerUser
    """By metric, ``recall@k`` …: [U]; empty without truths."""


def merged(neighbours: Neighbours, users: int) -> Candidates:
    """The lists [U, k] of neighbours [U * K, k]."""
    shape = (users, -1, neighbours.ids.shape[1])
    ids, scores = neighbours.ids.reshape(shape), neighbours.scores.reshape(shape)
    return merge_interests(ids, scores, shape[2])


def exact_of(workload: Workload, k: int) -> Exact:
    """The truth of a workload, by exact search of all interests."""
    retriever = ExactRetriever(workload.vectors, workload.ids, workload.metric)
    neighbours = retriever.search(workload.queries, k)
    lists = merged(neighbours, len(workload.interests))
    return Exact(neighbours, lists, relevance_of(lists.ids, workload.truths))


def relevance_of(lists: IntArray, truths: Truths | None) -> PerUser:
    """recall, ndcg, ndcg_hits and hitrate [U] of lists [U, k]; empty without truths."""
    return {} if truths is None else relevance_by_user(lists, *truths, lists.shape[1])


def with_ties(ids: IntArray, scores: FloatArray, exact: IntArray, cut: FloatArray) -> IntArray:
    """``ids`` [n, k] where an item as good as the exact k-th stands for an exact one it misses.

    ``scores`` [n, k] of the found, ``exact`` [n, k] ids, ``cut`` [n] the exact k-th scores. Which
    of several equal items comes k-th is chance, and no fault of an index.
    """
    result: IntArray = ids.copy()
    edge = np.where(np.isfinite(cut), cut, 0)[:, None]
    near = np.abs(scores - edge) <= TIE * np.maximum(np.abs(edge), 1)
    for row in np.flatnonzero((near & (ids > 0)).any(axis=1)):
        missed = np.setdiff1d(exact[row], ids[row])
        wrong = np.flatnonzero(near[row] & ~np.isin(ids[row], exact[row]))
        fits = min(len(missed), len(wrong))
        result[row, wrong[:fits]] = missed[:fits]
    return result


def quality_of(workload: Workload, exact: Exact, neighbours: Neighbours) -> SearchQuality:
    """index_recall of an interest and after the merge, relevance and its loss, short lists."""
    users = len(workload.interests)
    began = time.perf_counter()
    lists = merged(neighbours, users)
    merge_ms = 1000 * (time.perf_counter() - began) / users
    interest = index_recall(_tied(neighbours, exact.neighbours), exact.neighbours.ids)
    by_user = _by_user(workload, exact, lists)
    full = (exact.lists.ids >= 0).sum(axis=1)
    return SearchQuality(
        index_recall=IndexRecall(interest=_mean(interest), list=_mean(by_user.pop("index_recall"))),
        short_lists=int(((lists.ids >= 0).sum(axis=1) < full).sum()),
        ids_digest=sha256(neighbours.ids.tobytes()).hexdigest()[:16],
        merge_ms=merge_ms,
        relevance=_relevance(exact.relevance, by_user) if exact.relevance else None,
    )


def quality_by_user(workload: Workload, exact: Exact, neighbours: Neighbours) -> PerUser:
    """index_recall of the merged list, and relevance where there are truths, [U] each."""
    return _by_user(workload, exact, merged(neighbours, len(workload.interests)))


def _by_user(workload: Workload, exact: Exact, lists: Candidates) -> PerUser:
    whole = index_recall(_tied(lists, exact.lists), exact.lists.ids)
    return {"index_recall": whole, **relevance_of(lists.ids, workload.truths)}


def _tied(neighbours: Neighbours | Candidates, exact: Neighbours | Candidates) -> IntArray:
    return with_ties(neighbours.ids, neighbours.scores, exact.ids, exact.scores[:, -1])


def _mean(values: npt.NDArray[np.float64]) -> MeanWithError:
    return MeanWithError(mean=float(values.mean()), se=standard_error(values))


def _relevance(exact: PerUser, index: PerUser) -> RelevanceComparison:
    """``exact`` and ``index`` [U] of the same users, by names such as ``recall@50``."""
    losses = {_metric(name): _loss(exact[name], index[name]) for name in exact}
    return RelevanceComparison(
        index=_means(index), exact=_means(exact), loss=RelevanceLosses.model_validate(losses)
    )


def _metric(name: str) -> str:
    return name.partition("@")[0]


def _means(by_user: PerUser) -> RelevanceMeans:
    means = {_metric(name): float(values.mean()) for name, values in by_user.items()}
    return RelevanceMeans.model_validate(means)


def _loss(exact: npt.NDArray[np.float64], index: npt.NDArray[np.float64]) -> RelevanceLoss:
    lost, base = paired_bootstrap(exact, index), float(exact.mean())
    relative = lost.mean / base if base else 0.0
    return RelevanceLoss(mean=lost.mean, low=lost.low, high=lost.high, relative=relative)
