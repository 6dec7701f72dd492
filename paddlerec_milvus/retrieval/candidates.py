# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From users' interests to their candidates: each interest is searched, and the lists merged."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.base import (
    LARGEST_K,
    MISSING_ID,
    MISSING_SCORE,
    FloatArray,
    IntArray,
    Neighbours,
    Retriever,
    WrappedRetriever,
    checked_k,
)

FEW, MANY = 32, 128  # hits searched beyond top_n for users who exclude up to 32, and more items
GROWTH = 8

Items: TypeAlias = "ArrayLike | Set[int]"
"""Item ids."""


class Candidates(NamedTuple):
    """One list for each of B users, best first; a short list ends with -1, -inf, -1."""

    ids: IntArray
    """[B, top_n] int64."""
    scores: FloatArray
    """[B, top_n] float32, the best score that any interest gave to the item."""
    interests: IntArray
    """[B, top_n] int64, the interest (0 … K-1) that gave this score."""


class NamedCandidates(NamedTuple):
    """Candidates, and the items that name the interests they come from."""

    candidates: Candidates
    nearest: IntArray
    """[B, K, n] items nearest to each interest, excluded ones among them; -1 where there are fewer.
    """


class CountedHits(WrappedRetriever):
    """A retriever that keeps how many ``hits`` its searches asked for, spare ones included."""

    def __init__(self, retriever: Retriever) -> None:
        super().__init__(retriever)
        self.hits = set[int]()

    def search(
        self, queries: FloatArray, k: int, *, filter: str = "", consistency: str | None = None
    ) -> Neighbours:
        """The retriever's neighbours."""
        self.hits.add(k)
        return super().search(queries, k, filter=filter, consistency=consistency)


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
) -> NamedCandidates:
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
    candidates = no_candidates(users, top_n)
    near = np.full((users, count, nearest), MISSING_ID, np.int64)
    waiting = {user: _spare(len(items)) for user, items in enumerate(lists)}
    while waiting:
        spare = min(waiting.values())
        group = [user for user, beyond in waiting.items() if beyond == spare]
        k = min(max(top_n + spare, nearest), LARGEST_K)
        queries = vectors[group].reshape(-1, dimension)
        hits = retriever.search(queries, k, filter=filter, consistency=consistency)
        ids = hits.ids.reshape(len(group), count, k)
        scores = hits.scores.reshape(ids.shape)
        merged = merge_interests(ids, scores, top_n, [lists[user] for user in group], quota)
        candidates.ids[group] = merged.ids
        candidates.scores[group] = merged.scores
        candidates.interests[group] = merged.interests
        near[group] = ids[:, :, :nearest]
        for user, rows in zip(group, ids, strict=True):
            if k == LARGEST_K or _enough(rows, lists[user], k - top_n):
                del waiting[user]
            else:
                waiting[user] = GROWTH * spare
    return NamedCandidates(candidates, near)


def popular_items(top_k: int, exclude: Set[int], items: Sequence[int] | IntArray) -> list[int]:
    """The first ``top_k`` of ``items``, the most popular first, that are not in ``exclude``."""
    first = map(int, items[: top_k + len(exclude)])
    return [item for item in first if item not in exclude][:top_k]


def no_candidates(users: int, top_n: int) -> Candidates:
    """Empty lists, to be filled."""
    shape = (users, top_n)
    return Candidates(
        np.full(shape, MISSING_ID, np.int64),
        np.full(shape, MISSING_SCORE, np.float32),
        np.full(shape, -1, np.int64),
    )


def merge_interests(
    ids: ArrayLike,
    scores: ArrayLike,
    top_n: int,
    exclude: Sequence[Items] | None = None,
    quota: int | None = None,
) -> Candidates:
    """Join the interests' neighbours by item id; an item's best score wins.

    ``ids`` and ``scores`` are [B, K, k], each list with falling scores. Ids ≤ 0 (padding,
    missing) and each user's ``exclude`` (B lists of item ids) are left out. Ordered by falling
    score; equal scores by interest, then by the place in its list. With a ``quota`` no interest
    gives more than that many; what it may not give any more, another one may that found it, too.
    Raises SettingsError for shapes that do not fit together.
    """
    all_ids, all_scores = np.asarray(ids, np.int64), np.asarray(scores, np.float32)
    if all_ids.ndim != 3 or all_ids.shape != all_scores.shape:
        raise SettingsError(
            f"ids {list(all_ids.shape)} and scores {list(all_scores.shape)} must both be [B, K, k]"
        )
    if top_n < 1:
        raise SettingsError(f"top_n: {top_n} candidates cannot be asked for; at least 1")
    users, interests, k = all_ids.shape
    if exclude is not None and len(exclude) != users:
        raise SettingsError(f"{len(exclude)} lists to exclude for {users} users; one for each")
    flat_scores = all_scores.reshape(users, interests * k)
    flat_ids = np.where(np.isnan(all_scores), MISSING_ID, all_ids).reshape(flat_scores.shape)
    # by falling score; a stable sort keeps (interest, place) for equal ones
    order = np.argsort(-flat_scores, axis=1, kind="stable")

    merged = no_candidates(users, top_n)
    for user in range(users):
        left_out = item_set(exclude[user]) if exclude is not None else frozenset()
        items = flat_ids[user, order[user]].tolist()
        room = [quota or top_n] * interests
        chosen = _distinct_places(items, order[user].tolist(), k, left_out, top_n, room)
        merged.ids[user, : len(chosen)] = flat_ids[user, chosen]
        merged.scores[user, : len(chosen)] = flat_scores[user, chosen]
        merged.interests[user, : len(chosen)] = np.array(chosen, np.int64) // k
    return merged


def item_set(items: Items) -> Set[int]:
    """``items`` as a set."""
    if isinstance(items, Set):
        return items
    return set(np.asarray(items, np.int64).ravel().tolist())


def _distinct_places(
    items: list[int],
    places: list[int],
    k: int,
    left_out: Set[int],
    top_n: int,
    room: list[int],
) -> list[int]:
    """The first ``top_n`` of ``places`` whose items are new, not left out, and have room.

    ``room`` says how many each interest may give; a place belongs to the interest place // k.
    """
    seen: set[int] = set()
    chosen: list[int] = []
    for item, place in zip(items, places, strict=True):
        if item <= 0 or item in seen or item in left_out or not room[place // k]:
            continue
        room[place // k] -= 1
        seen.add(item)
        chosen.append(place)
        if len(chosen) == top_n:
            break
    return chosen


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
