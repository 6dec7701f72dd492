# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A user's K lists of neighbours, one for each interest, become one list of candidates."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.base import MISSING_ID, MISSING_SCORE, FloatArray, IntArray

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
        chosen = _first_of_each(items, order[user].tolist(), k, left_out, top_n, room)
        merged.ids[user, : len(chosen)] = flat_ids[user, chosen]
        merged.scores[user, : len(chosen)] = flat_scores[user, chosen]
        merged.interests[user, : len(chosen)] = np.array(chosen, np.int64) // k
    return merged


def item_set(items: Items) -> Set[int]:
    """``items`` as a set."""
    if isinstance(items, Set):
        return items
    return set(np.asarray(items, np.int64).ravel().tolist())


def _first_of_each(
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
