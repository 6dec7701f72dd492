# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a user's K interests are good for: how alike they are, and what each brings to the list.

B users, K interests, D dimensions, N places of a list, V rows of the item table (row 0 is padding).
Functions give one value, or one row, per user; ``interest_report`` takes the mean last. NaN stands
where a user has no value. A vector of zeros is no interest: it has no cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.evaluation.results import CosineSummary, InterestSummary

Vectors = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SAME = 0.99  # two interests of a higher cosine ask for the same items
ROUNDING = 1e-5  # scores that differ by less, relatively, are equal
BLOCK = 4_000_000  # numbers of gathered item vectors: 16 MB


class InterestUse(NamedTuple):
    """One row a user."""

    cosine: FloatArray
    """[B], see ``pairwise_cosine``."""
    repeated: BoolArray
    """[B, K], see ``repeated``."""
    brought: IntArray
    """[B, K], how many candidates of the list belong to each interest."""


def cosines(interests: Vectors) -> FloatArray:
    """Cosine [B, K, K] of each two of a user's ``interests`` [B, K, D]; NaN with a zero vector."""
    norms = np.linalg.norm(interests, axis=2, keepdims=True)
    units = interests / np.where(norms > 0, norms, np.nan)
    return np.asarray(units @ units.transpose(0, 2, 1), dtype=np.float64)


def pairwise_cosine(alike: FloatArray) -> FloatArray:
    """[B] = 2 / (K (K - 1)) sum over k < l of cos(interest k, interest l), of ``cosines``.

    1: all interests are one; 0: they have nothing in common. NaN where there is no pair.
    """
    first, second = np.triu_indices(alike.shape[1], 1)
    return mean_of_known(alike[:, first, second])


def repeated(alike: FloatArray, above: float = SAME) -> BoolArray:
    """[B, K]: whether an interest's cosine with an earlier one of its user is ``above`` that."""
    earlier = np.tri(alike.shape[1], k=-1, dtype=bool)  # [K, K], column before row
    return np.asarray(((alike > above) & earlier).any(axis=2))


def owners(interests: Vectors, ids: IntArray, vectors: Vectors, metric: str) -> IntArray:
    """The interest [B, N] (0 … K-1) that each candidate belongs to, -1 where a list is short.

    It is the one that gives the candidate its best score by ``metric`` (IP, COSINE, L2), the
    earlier of equals (a user is the best of the K: MIND, Li et al. 2019, section 3.5). Scores are
    taken from ``vectors`` [V, D], and not from the search: an approximate index may have found the
    item by a lesser interest only.
    """
    if metric == "COSINE":
        norms = np.linalg.norm(interests, axis=2, keepdims=True)
        interests = interests / np.where(norms > 0, norms, np.float32(1))
    # the item's own length is the same for all K: it changes no order, nor does its square for L2
    offset = (interests**2).sum(axis=2, keepdims=True) / 2 if metric == "L2" else np.float32(0)
    scores = interests @ vectors[np.maximum(ids, 0)].transpose(0, 2, 1) - offset  # [B, K, N]
    best = scores.max(axis=1, keepdims=True)
    first = np.argmax(scores >= best - ROUNDING * np.abs(best), axis=1)
    return np.where(ids > 0, first, -1)


def use_of(interests: Vectors, ids: IntArray, vectors: Vectors, metric: str) -> InterestUse:
    """Measure users' ``interests`` [B, K, D] and lists ``ids`` [B, N] (-1 where short).

    ``vectors`` [V, D] float32 is the item table, row i is item i.
    """
    users, count, dimension = interests.shape
    alike = cosines(interests)
    brought = np.zeros((users, count), np.int64)
    step = max(1, BLOCK // (dimension * max(1, ids.shape[1])))
    for start in range(0, users, step):
        block = slice(start, start + step)
        owner = owners(interests[block], ids[block], vectors, metric)
        brought[block] = (owner[:, :, None] == np.arange(count)).sum(axis=1)
    return InterestUse(pairwise_cosine(alike), repeated(alike), brought)


def joined(parts: Sequence[InterestUse]) -> InterestUse:
    """Batches of users as one."""
    return InterestUse(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def shares(brought: IntArray) -> FloatArray:
    """[B, K]: the share of the user's list that each interest brings; NaN for an empty list."""
    whole = brought.sum(axis=1, keepdims=True)
    return brought / np.where(whole > 0, whole, np.nan)


def dead(use: InterestUse) -> BoolArray:
    """[B, K]: an interest that brings nothing to the list, or repeats an earlier one."""
    return np.asarray((use.brought == 0) | use.repeated)


def mean_of_known(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def number(value: npt.ArrayLike) -> float | None:
    """A single value for JSON, None for NaN."""
    single = float(np.asarray(value))
    return None if np.isnan(single) else single


def interest_report(use: InterestUse) -> InterestSummary:
    """Means over users; a number is None where no user has one (a cosine for K = 1)."""
    share = shares(use.brought)
    known = use.cosine[~np.isnan(use.cosine)]
    p10, p50, p90 = np.percentile(known, [10, 50, 90]) if len(known) else [np.nan] * 3
    return InterestSummary(
        count=use.brought.shape[1],
        cosine=CosineSummary(
            mean=number(mean_of_known(use.cosine)),
            p10=number(p10),
            p50=number(p50),
            p90=number(p90),
        ),
        dead=float(dead(use).sum(axis=1).mean()),
        idle=float((use.brought == 0).sum(axis=1).mean()),
        repeated=float(use.repeated.sum(axis=1).mean()),
        dead_for_all=float((use.brought.sum(axis=0) == 0).mean()),
        share_by_index=[number(mean) for mean in mean_of_known(share.T)],
        share_by_rank=[number(mean) for mean in mean_of_known(-np.sort(-share, axis=1).T)],
    )
