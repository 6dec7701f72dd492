# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Interests to lists of candidates, and lists to an answer: what runs in the pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.base import (
    LARGEST_K,
    MISSING_ID,
    FloatArray,
    IntArray,
    Neighbours,
    Retriever,
)
from paddlerec_milvus.retrieval.candidates import Candidates, find_users
from paddlerec_milvus.retrieval.diversity import diverse
from paddlerec_milvus.serving.schemas import CandidatesAnswer, NamedItem, Source
from paddlerec_milvus.serving.user_batch import Asked, popular_items

NEAREST = 3  # items that name an interest
POOL, LEAST_POOL = 4, 200  # diversity chooses from the best 4 top_k candidates, at least 200
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})


class Found(NamedTuple):
    """Lists of the model for n users."""

    candidates: Candidates
    nearest: IntArray
    """[n, K, 3], the items nearest to each interest; [n, K, 0] if they were not asked for."""
    search_seconds: float
    """What the searches took."""


class _Searches:
    """A retriever that searches while somebody waits for it, and counts the seconds."""

    def __init__(self, retriever: Retriever, wanted: Callable[[], bool]) -> None:
        self._retriever, self._wanted = retriever, wanted
        self.seconds = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether the neighbours are the true ones."""
        return self._retriever.is_exact

    def search(
        self, queries: FloatArray, k: int, *, filter: str = "", consistency: str | None = None
    ) -> Neighbours:
        """The retriever's neighbours; RetrievalError: nobody waits for them."""
        if not self._wanted():
            raise RetrievalError("the deadline has passed")
        began = time.perf_counter()
        try:
            return self._retriever.search(queries, k, filter=filter, consistency=consistency)
        finally:
            self.seconds += time.perf_counter() - began


def category_filter(categories: Iterable[str]) -> str:
    """Milvus' expression for items of these categories, whatever is in their names."""
    quoted = ", ".join(f'"{name.translate(_ESCAPES)}"' for name in categories)
    return f"category in [{quoted}]"


def find(
    retriever: Retriever,
    interests: FloatArray,
    asked: Asked,
    rows: IntArray,
    catalogue: Catalogue,
    wanted: Callable[[], bool] = lambda: True,
) -> Found:
    """Candidates of the users ``rows`` [n] of ``asked`` by their ``interests`` [n, K, D].

    Errors are the retriever's; RetrievalError, too, before a search that is ``wanted`` no more.
    """
    request, searches = asked.request, _Searches(retriever, wanted)
    top_k, quota, pool = request.top_k, request.quota, request.top_k
    if request.diversity:
        pool = min(max(POOL * top_k, LEAST_POOL), LARGEST_K)
        quota = quota and -(-quota * pool // top_k)  # as many for each place of the list
    exclude = [asked.exclude[row] for row in rows.tolist()]
    nearest = NEAREST if request.nearest else 0
    candidates, near = find_users(
        searches,
        interests,
        pool,
        exclude,
        quota,
        nearest,
        filter="" if request.filter is None else category_filter(request.filter.category),
        consistency=request.consistency,
    )
    if request.diversity:
        categories = catalogue.category_numbers(candidates.ids)
        candidates = diverse(candidates, categories, request.diversity, top_k, request.quota)
    return Found(candidates, near, searches.seconds)


class _List(NamedTuple):
    """One user's."""

    items: list[int]
    scores: list[float | None]
    interest: list[int | None]
    source: Source
    nearest: list[list[int]]


def answer(
    asked: Asked, catalogue: Catalogue, rows: IntArray | None = None, found: Found | None = None
) -> CandidatesAnswer:
    """The lists ``found`` for the users ``rows`` [n], popular items for all others.

    Who has clicks enough for the model and no list of it is said to have a fallback.
    """
    by_row = {} if rows is None or found is None else _by_row(rows, found)
    if len(by_row) < len(asked.exclude):
        by_row |= _popular(asked, catalogue, set(range(len(asked.exclude))) - set(by_row))
    lists = [by_row[row] for row in range(len(by_row))]
    request, titles, categories = asked.request, catalogue.titles, catalogue.categories
    return CandidatesAnswer.model_construct(
        candidates=[each.items for each in lists],
        scores=[each.scores for each in lists],
        interest=[each.interest for each in lists],
        source=[each.source for each in lists],
        unknown=asked.unknown,
        titles=[list(map(titles.get, each.items)) for each in lists] if request.titles else None,
        categories=(
            [list(map(categories.get, each.items)) for each in lists] if request.titles else None
        ),
        nearest=(
            [[_named(near, titles) for near in each.nearest] for each in lists]
            if request.nearest
            else None
        ),
    )


def _by_row(rows: IntArray, found: Found) -> dict[int, _List]:
    counts = (found.candidates.ids != MISSING_ID).sum(axis=1).tolist()
    parts = [part.tolist() for part in found.candidates]
    return {
        row: _List(items[:count], scores[:count], interests[:count], "model", near)
        for row, items, scores, interests, count, near in zip(
            rows.tolist(), *parts, counts, found.nearest.tolist(), strict=True
        )
    }


def _popular(asked: Asked, catalogue: Catalogue, rows: Iterable[int]) -> dict[int, _List]:
    items: Sequence[int] | IntArray = range(1, catalogue.total + 1)
    if asked.request.filter is not None:
        items = catalogue.items_of(asked.request.filter.category)
    for_the_model, lists = set(asked.rows.tolist()), dict[int, _List]()
    for row in rows:
        popular = popular_items(asked.request.top_k, asked.exclude[row], items)
        source: Source = "short" if asked.lengths[row] else "popular"
        if row in for_the_model:
            source = "fallback"
        nothing = [None] * len(popular)
        lists[row] = _List(popular, list(nothing), list(nothing), source, [])
    return lists


def _named(items: Iterable[int], titles: Mapping[int, str]) -> list[NamedItem]:
    return [
        NamedItem.model_construct(id=item, title=titles.get(item))
        for item in items
        if item != MISSING_ID
    ]
