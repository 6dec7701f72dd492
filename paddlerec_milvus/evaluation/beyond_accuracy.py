# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What lists show, whoever made them: how much of the catalogue, how popular, how diverse.

Lists and held-out truths are measured by the same functions. Both are ``Shown``: pairs of a user
row and an item. N items, of ids 1 … N; what lies outside is left out. Functions give one value per
user, NaN where a user has none; the mean over users is taken last, by ``list_report``. Coverage and
the Gini index are of all lists together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from paddlerec_milvus.evaluation.interests import mean_of_known, number
from paddlerec_milvus.evaluation.results import ListSummary

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Shown(NamedTuple):
    """``items`` [M] that the user rows ``owner`` [M] of ``users`` users have; no pair twice."""

    users: int
    owner: IntArray
    items: IntArray


class ItemStatistics(NamedTuple):
    """What is known of the N items; arrays [N + 1], row 0 is padding."""

    popularity_rank: FloatArray
    """See ``popularity_ranks``."""
    popularity_from: str
    """Where the ranks come from, for the report."""
    categories: IntArray | None
    """A number from 0 for each category, -1 for none; None where no item has one."""

    @property
    def size(self) -> int:
        """The number N of items, padding left out."""
        return len(self.popularity_rank) - 1


def of_lists(candidates: IntArray, size: int) -> Shown:
    """Lists [U, top_n], -1 where short, of a catalogue of ``size`` items."""
    owner, place = np.nonzero((candidates > 0) & (candidates <= size))
    return Shown(len(candidates), owner, candidates[owner, place])


def of_truths(indptr: IntArray, truths: IntArray, size: int) -> Shown:
    """Flat truths, those of user u at ``indptr[u]:indptr[u + 1]``, as sets."""
    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    real = (truths > 0) & (truths <= size)
    pairs = np.unique(owner[real] * (size + 1) + truths[real])
    return Shown(len(indptr) - 1, *np.divmod(pairs, size + 1))


def popularity_ranks(clicks: IntArray) -> FloatArray:
    """Rank of each item by ``clicks`` [N + 1] over N, in (0, 1): 0.01 is among the top per cent.

    (rank - 1/2) / N; items of equal clicks share the mean of their ranks. Row 0 is padding.
    """
    ranks = (rankdata(-clicks[1:]) - 0.5) / max(1, len(clicks) - 1)
    return np.concatenate([[0.0], ranks])


def mean_popularity_rank(shown: Shown, ranks: FloatArray) -> FloatArray:
    """[U]: mean ``popularity_ranks`` of a user's items: low where they are the popular ones.

    Popularity bias is its distance from the truths' (Abdollahpouri et al. 2019 compare a user's
    average popularity in lists with that in the profile; ranks need no clicks, only their order).
    """
    count = np.bincount(shown.owner, minlength=shown.users)
    total = np.bincount(shown.owner, weights=ranks[shown.items], minlength=shown.users)
    return np.asarray(total / np.where(count > 0, count, np.nan))


def category_diversity(shown: Shown, categories: IntArray) -> FloatArray:
    """[U]: the share of pairs of a user's items that are of different categories.

    1 - sum_c n_c (n_c - 1) / (n (n - 1)), n_c items of category c, n of any; items without one
    (-1) are left out, NaN below two. Intra-list diversity (Ziegler et al. 2005, there as summed
    similarity; Zhang and Hurley 2008) with the distance 0 or 1: it does not grow with the list.
    """
    known = categories[shown.items] >= 0
    owner = shown.owner[known]
    span = int(categories.max(initial=0)) + 1
    groups, count = np.unique(owner * span + categories[shown.items[known]], return_counts=True)
    alike = np.bincount(groups // span, weights=count * (count - 1), minlength=shown.users)
    n = np.bincount(owner, minlength=shown.users)
    return np.asarray(1 - alike / np.where(n > 1, n * (n - 1), np.nan))


def gini(exposure: IntArray) -> float:
    """Gini index of ``exposure`` [N], how often each item is shown; 0 where all are alike.

    sum_i (2 i - N - 1) x_i / (N sum x), x ascending, items never shown included (Fleder and
    Hosanagar 2009, on lists). NaN when nothing is shown.
    """
    n, total = len(exposure), int(exposure.sum())
    if not total:
        return float("nan")
    return float((2 * np.arange(1, n + 1) - n - 1) @ np.sort(exposure) / (n * total))


def list_report(shown: Shown, statistics: ItemStatistics) -> ListSummary:
    """Means over users; None where unknown. ``coverage`` is the share of the N items shown."""
    exposure = np.bincount(shown.items, minlength=statistics.size + 1)[1:]
    ranks = mean_popularity_rank(shown, statistics.popularity_rank)
    coverage, uneven = number((exposure > 0).mean()), number(gini(exposure))
    rank = number(mean_of_known(ranks))
    if statistics.categories is None:
        return ListSummary(coverage=coverage, gini=uneven, popularity_rank=rank)
    diversity = number(mean_of_known(category_diversity(shown, statistics.categories)))
    return ListSummary(
        coverage=coverage, gini=uneven, popularity_rank=rank, category_diversity=diversity
    )
