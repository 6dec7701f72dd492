# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From users' interests to their candidates: search, then merge."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.base import (
    LARGEST_K,
    MISSING_ID,
    IntArray,
    Retriever,
    checked_k,
)
from paddlerec_milvus.retrieval.merge import (
    Candidates,
    Items,
    item_set,
    merge_interests,
    no_candidates,
)

FEW, MANY = 32, 128  # hits searched beyond top_n for users who exclude up to 32, and more items
GROWTH = 8


class Found(NamedTuple):
    """Lists of candidates, and what names the interests that found them."""

    candidates: Candidates
    nearest: IntArray
    """[B, K, n] items nearest to each interest, excluded ones among them; -1 where there are fewer.
    """


def search_users(
    retriever: Retriever,
    interests: ArrayLike,
    top_n: int,
    exclude: Sequence[Items] | None = None,
    quota: int | None = None,
) -> Candidates:
    """The ``top_n`` candidates of each user: each interest's neighbours, merged.

    ``interests`` [B, K, D] float32. ``exclude`` holds B lists of item ids (say, each user's
    history) that must not come back, ``quota`` limits what an interest gives, see
    :func:`merge_interests`. A user's list does not depend on who else is in ``interests``.
    Raises SettingsError for a shape or ``top_n`` that cannot be used, and the retriever's errors.
    """
    return find_users(retriever, interests, top_n, exclude, quota).candidates


def find_users(
    retriever: Retriever,
    interests: ArrayLike,
    top_n: int,
    exclude: Sequence[Items] | None = None,
    quota: int | None = None,
    nearest: int = 0,
    *,
    filter: str = "",
    consistency: str | None = None,
) -> Found:
    """:func:`search_users`, and the ``nearest`` ≤ ``top_n`` items of each interest.

    ``filter`` and ``consistency`` are those of :meth:`Retriever.search`.

    What is excluded is searched for all the same: ``top_n`` and some more hits, and where an
    interest's hits turn out to hold more excluded items than that, again with more, at most 16,384
    (Milvus' limit: only there a list can be shorter than it need be).
    """
    checked_k(top_n)
    vectors = np.asarray(interests, np.float32)
    if vectors.ndim != 3:
        raise SettingsError(f"interests have the shape {list(vectors.shape)}, expected [B, K, D]")
    users, count, dimension = vectors.shape
    lists = [frozenset[int]()] * users if exclude is None else [item_set(one) for one in exclude]
    if len(lists) != users:
        raise SettingsError(f"{len(lists)} lists to exclude for {users} users; one for each")
    found = Found(no_candidates(users, top_n), np.full((users, count, nearest), MISSING_ID))
    waiting = {user: _spare(len(each)) for user, each in enumerate(lists)}
    while waiting:
        spare = min(waiting.values())
        group = [user for user, wanted in waiting.items() if wanted == spare]
        k = min(max(top_n + spare, nearest), LARGEST_K)
        queries = vectors[group].reshape(-1, dimension)
        hits = retriever.search(queries, k, filter=filter, consistency=consistency)
        ids = hits.ids.reshape(len(group), count, k)
        scores = hits.scores.reshape(ids.shape)
        merged = merge_interests(ids, scores, top_n, [lists[user] for user in group], quota)
        found.candidates.ids[group] = merged.ids
        found.candidates.scores[group] = merged.scores
        found.candidates.interests[group] = merged.interests
        found.nearest[group] = ids[:, :, :nearest]
        for user, rows in zip(group, ids, strict=True):
            if k == LARGEST_K or _enough(rows, lists[user], k - top_n):
                del waiting[user]
            else:
                waiting[user] = GROWTH * spare
    return found


def _spare(excluded: int) -> int:
    """Hits beyond ``top_n`` to begin with: few different numbers, so that many users share one."""
    if not excluded:
        return 0
    return FEW if excluded <= FEW else MANY


def _enough(rows: IntArray, excluded: Set[int], spare: int) -> bool:
    """Whether more hits than ``rows`` [K, k] would change nothing, ``spare`` of which may go."""
    return len(excluded) <= spare or all(
        row[-1] == MISSING_ID or len(excluded & set(row)) <= spare for row in rows.tolist()
    )
