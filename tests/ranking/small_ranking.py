# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A small log of random walks, channels counted in it, vectors, and lists to learn from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from support import log_of

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.ranking.channels import QUOTAS, Channels, VectorHits
from paddlerec_milvus.ranking.features import FEATURES, SCORE, ItemTraits
from paddlerec_milvus.ranking.ranker import Ranker, kind_of
from paddlerec_milvus.ranking.ranking_model import RankingManifest, RankingModel
from paddlerec_milvus.ranking.samples import Moment, RankingLists, SearchedUser
from paddlerec_milvus.ranking.tree_graph import graph_of
from paddlerec_milvus.ranking.tree_training import fit_trees
from paddlerec_milvus.ranking.trees import TreesRanker

ITEMS, DIMENSIONS = 40, 4  # ids below this; 39 is never clicked
USERS = [
    np.random.default_rng(seed).integers(1, ITEMS - 1, size=2 + seed % 9).tolist()
    for seed in range(60)
]
VECTORS = np.random.default_rng(0).normal(size=(ITEMS, DIMENSIONS)).astype(np.float32)
CATEGORIES = np.random.default_rng(1).integers(-1, 3, ITEMS)


def channels() -> Channels:
    return Channels.of(log_of(USERS), ITEMS)


def traits() -> ItemTraits:
    return ItemTraits.of(VECTORS, channels(), CATEGORIES)


def users_of(
    histories: list[list[int]], truths: list[list[int]], ids: list[int] | None = None
) -> HeldOutUsers:
    """Held-out users with these clicks, called 100, 101 … where ``ids`` does not say."""
    before, after = log_of(histories), log_of(truths)
    names = range(100, 100 + len(histories)) if ids is None else ids
    return HeldOutUsers(
        np.array(names, np.int64), before.indptr, before.items, after.indptr, after.items
    )


def hits_of(items: list[int]) -> VectorHits:
    """As if the vector model had found ``items``."""
    return VectorHits(
        np.array(items, np.int64),
        np.linspace(1, 0, len(items), dtype=np.float32),
        np.zeros(len(items), np.int64),
    )


def interests(seed: int, count: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)


def searched(seeds: range) -> Iterator[SearchedUser]:
    """Users of random clicks; the vector model's are the three best of their first interest."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        clicks, vectors = rng.integers(1, ITEMS, size=6), interests(seed)
        best = 1 + np.argsort(-(VECTORS[1:] @ vectors[0]), kind="stable")
        found = best[~np.isin(best, clicks[:4])][:3]
        moment = Moment(seed, clicks[:4], clicks[4:])
        yield SearchedUser(moment, clicks[1:4], vectors, hits_of(found.tolist()))


def lists_of(count: int, size: int, seed: int, signal: str = "") -> RankingLists:
    """Lists of random features; ``signal`` is the one whose largest value is clicked, or none."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count * size, len(FEATURES))).astype(np.float32)
    column = rows[:, FEATURES.index(signal)] if signal else rng.random(len(rows))
    best = column.reshape(count, size).argmax(axis=1)
    labels = np.zeros((count, size), np.bool_)
    labels[np.arange(count), best] = True
    items = rng.integers(1, ITEMS, count * size)
    clicks = rng.integers(1, ITEMS, (count, 4)) * (np.arange(4) < rng.integers(1, 5, (count, 1)))
    return RankingLists(rows, labels.ravel(), np.full(count, size, np.int64), items, clicks)


def ranker_of(signal: str = "popularity") -> TreesRanker:
    return fit_trees(lists_of(20, 60, 2, signal))


def model_of(ranker: Ranker) -> RankingModel:
    """Beside the vector model ``m`` of the data ``d``."""
    manifest = RankingManifest(
        ranker=kind_of(ranker),
        model="m",
        data="d",
        item_count=ITEMS,
        channels=list(QUOTAS),
        features=list(FEATURES),
        used=list(ranker.features),
        start=ranker.start,
        seed=1,
        lists=20,
        files={},
    )
    return RankingModel(manifest, channels(), ranker, VECTORS, CATEGORIES)


class ScoreOnly(TreesRanker):
    """The order of the vector model, with whatever is added to the score of one row."""

    def __init__(self, extra: float = 0.0) -> None:
        super().__init__(graph_of([], [], {"columns": FEATURES, "start": 1.0, "importance": {}}))
        self.extra = extra

    def scores(
        self,
        rows: NDArray[np.float32],
        items: NDArray[np.int64] | None = None,
        history: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        values = rows[:, FEATURES.index(SCORE)].copy()
        values[0] += self.extra
        return values
