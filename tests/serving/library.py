# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A service of 40 books with authors and years under uvicorn: no checkpoint, no Milvus."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from in_process import CATEGORIES, ITEMS, SmallIndex, TinyEncoder, tiny_settings
from running_service import Running, running

from paddlerec_milvus.data.catalogue import Catalogue, ItemDetails

AUTHORS = ("Ursula Le Guin", "Stanisław Lem", "刘慈欣, a translator", "Homer")
TITLES = {item: f"Book {item}, of some length (A Series, #{item})" for item in range(1, ITEMS + 1)}
TITLES[3] = "三体"
DETAILS = {
    item: ItemDetails(title, AUTHORS[item % 4], "-700" if item % 4 == 3 else str(1960 + item))
    for item, title in TITLES.items()
}


@contextlib.contextmanager
def library(index: SmallIndex | None = None, categories: bool = True) -> Iterator[Running]:
    """``index``: what is searched, by default exact; without ``categories`` books have none."""
    encoder = TinyEncoder()
    named = CATEGORIES if categories else {}
    with running(
        tiny_settings(),
        retriever=index or SmallIndex(encoder.item_vectors()),
        encoder=encoder,
        catalogue=Catalogue(ITEMS, TITLES, named, DETAILS),
    ) as service:
        yield service
