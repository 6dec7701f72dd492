# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a ranker knows of a candidate: one definition, for training and for serving.

Letters: n candidates, K interests, D dimensions, L clicks, F features, V items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.ranking.channels import (
    INTERESTS,
    NEIGHBOURS,
    PAIR_TABLES,
    TRANSITIONS,
    Channels,
    Pool,
    VectorHits,
)
from paddlerec_milvus.ranking.graph_filter import GraphFilter
from paddlerec_milvus.ranking.pair_table import PairHits
from paddlerec_milvus.ranking.trends import Trends

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

NO_CATEGORY = -1
NEVER = 99.0  # the age of a category that the history lacks
RECENT = 3  # clicks whose vectors are compared
SCORE = "interest_score"
PAIR_FEATURES = ("total", "largest", "newest", "clicks")
GROUPS: Mapping[str, tuple[str, ...]] = {
    INTERESTS: (
        *(SCORE, "interest_gap", "interest_second", "interest_mean", "interest_rank"),
        *("newest_cosine", "recent_cosine"),
    ),
    **{name: tuple(f"{name}_{one}" for one in PAIR_FEATURES) for name in PAIR_TABLES},
    "channel_ranks": (f"{TRANSITIONS}_rank", f"{NEIGHBOURS}_rank"),
    "graph_filter": ("graph_filter_score", "graph_filter_mean", "graph_filter_largest"),
    "popularity": ("popularity", "popularity_to_history", "popularity_to_newest"),
    "category": ("category_clicks", "category_age"),
    "history": ("history_clicks",),
}
"""Features by group, as an ablation leaves them out."""
FEATURES = tuple(name for names in GROUPS.values() for name in names)
ALL_GROUPS: Mapping[str, tuple[str, ...]] = {**GROUPS, "trend": ("item_age", "item_trend")}
"""With those that are known where the log was split by time; they are the last columns."""
ALL_FEATURES = tuple(name for names in ALL_GROUPS.values() for name in names)

_Put = Callable[[npt.ArrayLike], None]


class ItemTraits(NamedTuple):
    """What features need of items."""

    vectors: FloatArray
    """[V, D], as the vector model's index holds them."""
    popularity: FloatArray
    """[V], log(1 + users that clicked it)."""
    categories: IntArray
    """[V], a number for the category, -1: none."""
    graph: GraphFilter
    """What all clicks say of them."""
    trends: Trends | None = None
    """Since when and how lately they are clicked; None: not known."""

    @classmethod
    def of(cls, vectors: FloatArray, channels: Channels, categories: IntArray) -> ItemTraits:
        """From the item table, what ``channels`` know of its items, and ``categories`` [V]."""
        popularity = np.log1p(channels.clicks).astype(np.float32)
        return cls(np.asarray(vectors), popularity, categories, channels.graph, channels.trends)

    @property
    def features(self) -> tuple[str, ...]:
        """Those that are known of a candidate, in the order of their columns."""
        return FEATURES if self.trends is None else ALL_FEATURES


def feature_rows(
    pool: Pool, history: IntArray, interests: FloatArray, hits: VectorHits, traits: ItemTraits
) -> FloatArray:
    """[n, F] float32, nan where a feature is not known; columns as in ``traits.features``.

    ``history`` [L] are the user's last known clicks, the newest last, at least one, of which the
    vector model made ``interests`` [K, D] and found ``hits``. Of an item that came after the model,
    with an id of V or above, its hit's score is known and no other feature.
    """
    rows: FloatArray = np.empty((len(traits.features), len(pool.items)), np.float32).T
    columns = iter(rows.T)  # one after the other in memory: each is written and used as a whole

    def put(values: npt.ArrayLike) -> None:
        next(columns)[:] = values

    if len(rows):
        known = int(pool.items.searchsorted(len(traits.popularity)))  # those before it
        rows_of = pool.items.copy()
        rows_of[known:] = 0
        vectors = traits.vectors.take(rows_of, axis=0)
        recent = traits.vectors[history[::-1][:RECENT]]
        _put_interests(put, pool.ranks[:, 0], known, vectors, interests, recent, hits)
        for name in PAIR_TABLES:
            _put_pairs(put, pool.items, pool.pairs[name])
        for ranks in pool.ranks.T[1:3]:
            put(np.where(ranks > 0, ranks, np.nan))
        popularity, clicked = traits.popularity[rows_of], traits.popularity[history]
        # a click of an item that all clicked says little: its weight is 1 / sqrt(1 + its clicks)
        for values in traits.graph.features(rows_of, history, np.exp(-0.5 * clicked)):
            put(values)
        for value in (0, clicked.mean(), clicked[-1]):
            put(popularity - value)
        _put_categories(put, traits.categories[rows_of], traits.categories[history[::-1]])
        put(len(history))
        if traits.trends is not None:
            put(traits.trends.age[rows_of])
            put(traits.trends.trend[rows_of])
    return rows


def _put_interests(
    put: _Put,
    ranks: IntArray,
    known: int,
    vectors: FloatArray,
    interests: FloatArray,
    recent: FloatArray,
    hits: VectorHits,
) -> None:
    """Scores of the interests, the gap to the best candidate's, cosines to the newest clicks.

    ``ranks`` [n] among the ``hits``, ``vectors`` [n, D]; those behind the first ``known`` are none.
    """
    products = np.concatenate([interests, recent]) @ vectors.T
    products[:, known:] = np.nan
    scores, near = products[: len(interests)], products[len(interests) :]
    best, second = scores[0], np.full_like(scores[0], -np.inf)
    for one in scores[1:]:  # faster than to sort them
        best, second = np.maximum(best, one), np.maximum(second, np.minimum(best, one))
    best = np.concatenate([best[:known], hits.scores[ranks[known:] - 1]])
    put(best)
    put(best - best.max())
    put(second if len(scores) > 1 else best)
    put(scores.mean(axis=0))
    put(np.where(ranks > 0, ranks, np.nan))
    put(near[0])
    put(near.max(axis=0))


def _put_pairs(put: _Put, items: IntArray, hits: PairHits) -> None:
    """What a pair table says of ``items`` [n]; zeros where it says nothing."""
    if not len(hits.items):
        for _ in PAIR_FEATURES:
            put(0)
        return
    place = hits.items.searchsorted(items)
    known = hits.items.take(place, mode="clip") == items
    for name in PAIR_FEATURES:
        put(getattr(hits, name).take(place, mode="clip") * known)


def _put_categories(put: _Put, categories: IntArray, clicked: IntArray) -> None:
    """How many clicks share the category, and the age of the newest of them."""
    if (clicked == NO_CATEGORY).all():
        put(0)
        put(NEVER)
        return
    clicked = np.where(clicked == NO_CATEGORY, NO_CATEGORY - 1, clicked)  # like no candidate's
    same = clicked[:, None] == categories
    count = same.sum(axis=0)
    put(count)
    put(np.where(count > 0, same.argmax(axis=0), NEVER))
