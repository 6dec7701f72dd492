# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What moved a listed item: its score, less what it would be without one group of features.

Without a group: its features have the middle values of the user's candidates (occlusion; Zeiler and
Fergus 2014). It asks a ranker for scores alone, so that it is the same for every ranker. Groups act
together, so the parts need not add up to the score.

Letters: n candidates, k listed items, F features, G groups.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.ranking.features import ALL_FEATURES, ALL_GROUPS

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

MOST_ITEMS = 50  # of a list that are explained
MOST_GROUPS = 3  # that an item names


def group_contributions(
    scores_of: Callable[[FloatArray], FloatArray], rows: FloatArray, listed: IntArray
) -> FloatArray:
    """[k, G] in the order of ``ALL_GROUPS``: what each adds to the scores of ``rows[listed]``.

    Without features of times there is one group less.

    ``rows`` [n, F] are all candidates of one user, ``scores_of`` is the ranker's, called once for
    k x (1 + G) rows, those of the k items again and again. A value that is not known counts as
    larger than all others: so is a place in a list that an item is not in.
    """
    groups = [
        names for names in ALL_GROUPS.values() if ALL_FEATURES.index(names[0]) < rows.shape[1]
    ]
    if not len(listed):
        return np.zeros((0, len(groups)), np.float32)
    middle = np.sort(rows, axis=0)[(len(rows) - 1) // 2]
    own = rows[listed]
    variants = np.repeat(own[None], 1 + len(groups), axis=0)
    for variant, names in zip(variants[1:], groups, strict=True):
        columns = [ALL_FEATURES.index(name) for name in names]
        variant[:, columns] = middle[columns]
    scores = scores_of(variants.reshape(-1, rows.shape[1])).reshape(len(variants), -1)
    contributions: FloatArray = (scores[0] - scores[1:]).T
    return contributions


def main_groups(contributions: FloatArray) -> list[tuple[str, float]]:
    """At most three groups of one item's ``contributions`` [G], the largest first; none that is 0.

    The order is by size, whatever the sign.
    """
    order = np.argsort(-np.abs(contributions), kind="stable")[:MOST_GROUPS]
    names = list(ALL_GROUPS)
    return [(names[at], float(contributions[at])) for at in order if contributions[at]]


def main_groups_text(contributions: FloatArray) -> str:
    """The same as a text: ``transitions +0.41, popularity -0.12``."""
    return ", ".join(f"{name} {value:+.2f}" for name, value in main_groups(contributions))
