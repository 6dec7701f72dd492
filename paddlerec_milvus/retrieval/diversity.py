# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A list with more categories in it, for as much of its scores as the caller gives.

ComiRec's controllable aggregation (Cen et al. 2020, "Controllable Multi-Interest Framework for
Recommendation", KDD; arXiv 2005.09347, section 3.3) chooses the set S of N candidates by

    Q(u, S) = sum_{i in S} f(u, i) + λ sum_{i, j in S} g(i, j),   g(i, j) = [CATE(i) ≠ CATE(j)]

with f the best score that an interest gives. As in the authors' code each pair counts once, which
makes the gain of one more item f(u, i) - λ (items of its category in S) + λ |S|. Unlike there,
items without a category are not left out; they count as one category.
"""

from __future__ import annotations

import heapq
from collections import Counter

from paddlerec_milvus.retrieval.base import MISSING_ID, FloatArray, IntArray
from paddlerec_milvus.retrieval.candidates import Candidates, no_candidates


def diverse(
    pool: Candidates,
    categories: IntArray,
    weight: float,
    top_n: int,
    quota: int | None = None,
) -> Candidates:
    """The ``top_n`` of each user's ``pool`` that are best by Q with λ ``weight`` ≥ 0, greedily.

    ``categories`` [B, P] holds a number for each candidate. An interest gives at most ``quota``.
    The order is that of the choice: where λ is not 0 scores need not fall. Without a quota the
    greedy choice is the best of all: Q is a sum of f - λ (rank in its category) over the items.
    """
    chosen = no_candidates(len(pool.ids), top_n)
    for user in range(len(pool.ids)):
        count = int((pool.ids[user] != MISSING_ID).sum())
        places = _greedy(
            pool.scores[user, :count],
            categories[user, :count],
            pool.interests[user, :count],
            weight,
            top_n,
            quota or top_n,
        )
        chosen.ids[user, : len(places)] = pool.ids[user, places]
        chosen.scores[user, : len(places)] = pool.scores[user, places]
        chosen.interests[user, : len(places)] = pool.interests[user, places]
    return chosen


def _greedy(
    scores: FloatArray,
    categories: IntArray,
    interests: IntArray,
    weight: float,
    top_n: int,
    quota: int,
) -> list[int]:
    """Places of the chosen in arrays [P] with falling scores; equal gains by place.

    The next one is always the first of those that are left in its category: these are compared.
    """
    marks, owners = scores.tolist(), interests.tolist()
    lines: dict[int, list[int]] = {}
    for place, category in enumerate(categories.tolist()):
        lines.setdefault(category, []).append(place)
    rest = {category: iter(line) for category, line in lines.items()}
    heads = [
        (-marks[place], place, category)
        for category, line in rest.items()
        for place in [next(line)]
    ]
    heapq.heapify(heads)
    taken, counts = Counter[int](), Counter[int]()
    chosen: list[int] = []
    while heads and len(chosen) < top_n:
        _, place, category = heads[0]
        if counts[owners[place]] < quota:
            counts[owners[place]] += 1
            taken[category] += 1
            chosen.append(place)
        following = next(rest[category], None)
        if following is None:
            heapq.heappop(heads)
        else:
            loss = weight * taken[category] - marks[following]
            heapq.heapreplace(heads, (loss, following, category))
    return chosen
