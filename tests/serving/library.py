# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A service of 40 books with authors and years under uvicorn: no checkpoint, no Milvus."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from in_process import CATEGORIES, ITEMS, SmallIndex, TinyEncoder, tiny_settings
from running_service import Running, running
from support import log_of

from paddlerec_milvus.data.catalogue import Catalogue, ItemDetails
from paddlerec_milvus.ranking.channels import QUOTAS, Channels
from paddlerec_milvus.ranking.features import FEATURES
from paddlerec_milvus.ranking.files import RankingManifest
from paddlerec_milvus.ranking.ranking_model import RankingModel

AUTHORS = ("Ursula Le Guin", "Stanisław Lem", "刘慈欣, a translator", "Homer")
TITLES = {item: f"Book {item}, of some length (A Series, #{item})" for item in range(1, ITEMS + 1)}
TITLES[3] = "三体"
DETAILS = {
    item: ItemDetails(title, AUTHORS[item % 4], "-700" if item % 4 == 3 else str(1960 + item))
    for item, title in TITLES.items()
}


WEIGHTS = {"interest_score": 1.0, "transitions_total": 2.0, "popularity": -0.3}


class LinearRanker:
    """A weighted sum of three features."""

    def scores(self, rows: np.ndarray, items: np.ndarray, history: np.ndarray) -> np.ndarray:
        columns = [FEATURES.index(name) for name in WEIGHTS]
        return rows[:, columns].astype(np.float64) @ np.array(list(WEIGHTS.values()))


def small_ranking() -> RankingModel:
    """Channels of a log of random walks among the books, and a ranker."""
    seeds = range(60)
    users = [np.random.default_rng(one).integers(1, ITEMS + 1, 8).tolist() for one in seeds]
    manifest = RankingManifest(
        model="tiny",
        data="",
        item_count=ITEMS + 1,
        channels=list(QUOTAS),
        features=list(FEATURES),
        used=list(FEATURES),
        start=1.0,
        seed=1,
        lists=1,
        files={},
    )
    names = sorted(set(CATEGORIES.values()))
    numbers = [names.index(CATEGORIES[item]) for item in range(1, ITEMS + 1)]
    channels, vectors = Channels.of(log_of(users), ITEMS + 1), TinyEncoder().item_vectors()
    ranker: Any = LinearRanker()
    return RankingModel(manifest, channels, ranker, vectors, np.array([-1, *numbers]))


@contextlib.contextmanager
def library(
    index: SmallIndex | None = None,
    categories: bool = True,
    ranking: RankingModel | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """``index``: what is searched, by default exact; without ``categories`` books have none."""
    encoder = TinyEncoder()
    named = CATEGORIES if categories else {}
    with running(
        tiny_settings(**settings),
        retriever=index or SmallIndex(encoder.item_vectors()),
        encoder=encoder,
        catalogue=Catalogue(ITEMS, TITLES.items(), named.items(), DETAILS),
        ranking=ranking,
    ) as service:
        yield service
