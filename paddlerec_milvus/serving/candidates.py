# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Interests to candidate lists, and lists to an answer: what runs in the pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel
from pydantic_core import to_json

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.base import (
    LARGEST_K,
    MISSING_ID,
    FloatArray,
    IntArray,
    Neighbours,
    Retriever,
    WrappedRetriever,
)
from paddlerec_milvus.retrieval.candidates import (
    Candidates,
    find_users,
    no_candidates,
    popular_items,
)
from paddlerec_milvus.retrieval.diversity import diverse
from paddlerec_milvus.retrieval.stored_rows import category_filter
from paddlerec_milvus.serving.schemas import CandidatesAnswer, CandidatesRequest, NamedItem, Source
from paddlerec_milvus.serving.validation import BatchIds, UserBatch

NEAREST = 3  # items that name an interest
POOL, LEAST_POOL = 4, 200  # diversity chooses from the best 4 top_k candidates, at least 200
PIECE = 64  # users whose lists are made JSON at once
PART_QUERIES, PART_HITS = 256, 24_576  # of one call to Milvus: others need not wait for it long


class ModelCandidates(NamedTuple):
    """Candidates of the model for n users."""

    candidates: Candidates
    nearest: IntArray
    """[n, K, 3], the items nearest to each interest; [n, K, 0] if the request wants none."""
    search_seconds: float
    """What the searches took."""


class _CancellableSearch(WrappedRetriever):
    """A retriever that searches part by part until it is cancelled, and counts the seconds."""

    def __init__(self, retriever: Retriever, cancelled: Callable[[], bool]) -> None:
        super().__init__(retriever)
        self._cancelled, self.seconds = cancelled, 0.0

    def search(
        self, queries: FloatArray, k: int, *, filter: str = "", consistency: str | None = None
    ) -> Neighbours:
        """The retriever's neighbours; RetrievalError: nobody waits for them any more."""
        step = max(1, min(PART_QUERIES, PART_HITS // k))
        parts = []
        for start in range(0, len(queries), step):
            if self._cancelled():
                raise RetrievalError("the deadline has passed")
            part, began = queries[start : start + step], time.perf_counter()
            try:
                parts.append(super().search(part, k, filter=filter, consistency=consistency))
            finally:
                self.seconds += time.perf_counter() - began
        if len(parts) == 1:
            return parts[0]
        return Neighbours(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def searched_hits(request: CandidatesRequest[Any]) -> int:
    """The hits that are searched for at least for each interest of a user."""
    if not request.diversity:
        return request.top_k
    return min(max(POOL * request.top_k, LEAST_POOL), LARGEST_K)


def search_candidates(
    retriever: Retriever,
    request: CandidatesRequest[Any],
    interests: FloatArray,
    exclude: Sequence[Set[int]],
    catalogue: Catalogue,
    cancelled: Callable[[], bool] = lambda: False,
    categories: Sequence[str] | None = None,
) -> ModelCandidates:
    """Candidates for ``interests`` [n, K, D], without the n sets ``exclude``, as ``request`` says.

    Of the request only the options count: its users may be others, and the filter is
    ``categories``, those of the request's that items have.
    Errors are the retriever's; RetrievalError, too, before a search that is ``cancelled``.
    """
    searches = _CancellableSearch(retriever, cancelled)
    top_k, quota, pool = request.top_k, request.quota, searched_hits(request)
    if request.diversity:
        quota = quota and -(-quota * pool // top_k)  # as many for each place of the list
    nearest = NEAREST if request.nearest else 0
    if categories is not None and not categories:  # no item has one of them
        users, count, _ = interests.shape
        none = np.full((users, count, nearest), MISSING_ID, np.int64)
        return ModelCandidates(no_candidates(users, top_k), none, 0.0)
    candidates, near = find_users(
        searches,
        interests,
        pool,
        exclude,
        quota,
        nearest,
        filter="" if categories is None else category_filter(categories),
        consistency=request.consistency,
    )
    if request.diversity:
        numbers = catalogue.category_numbers(candidates.ids)
        candidates = diverse(candidates, numbers, request.diversity, top_k, request.quota)
    return ModelCandidates(candidates, near, searches.seconds)


class CandidateList(NamedTuple):
    """The candidates of one user, best first."""

    items: list[int]
    scores: list[float | None]
    interests: list[int | None]
    source: Source
    nearest: list[list[int]]


def answer_by_model(
    batch: UserBatch, catalogue: Catalogue, results: ModelCandidates
) -> CandidatesAnswer:
    """The model's candidates for the users ``batch.rows`` [n], popular items for all others."""
    lists = _by_row(batch.rows, results)
    missing = [row for row in range(len(batch.exclude)) if row not in lists]
    return _answer(batch, catalogue, lists | _popular(batch, catalogue, missing))


def answer_by_popularity(
    batch: UserBatch, catalogue: Catalogue, source: Source | None = None
) -> CandidatesAnswer:
    """Popular items for all users, by ``source`` if it is one for all.

    Who has clicks enough for the model is said to have a fallback.
    """
    lists = _popular(batch, catalogue, range(len(batch.exclude)))
    if source is not None:
        lists = {row: one._replace(source=source) for row, one in lists.items()}
    return _answer(batch, catalogue, lists)


def _by_row(rows: IntArray, results: ModelCandidates) -> dict[int, CandidateList]:
    counts = (results.candidates.ids != MISSING_ID).sum(axis=1).tolist()
    parts = [part.tolist() for part in results.candidates]
    return {
        row: CandidateList(items[:count], scores[:count], interests[:count], "model", near)
        for row, items, scores, interests, count, near in zip(
            rows.tolist(), *parts, counts, results.nearest.tolist(), strict=True
        )
    }


def by_popularity(batch: UserBatch, catalogue: Catalogue) -> Sequence[int] | IntArray:
    """The items that the request's filter lets through, the most popular first."""
    if batch.request.filter is None:
        return range(1, catalogue.total + 1)
    return catalogue.items_of(batch.request.filter.category)


def _popular(
    batch: UserBatch, catalogue: Catalogue, rows: Iterable[int]
) -> dict[int, CandidateList]:
    items = by_popularity(batch, catalogue)
    for_the_model, lists = set(batch.rows.tolist()), dict[int, CandidateList]()
    for row in rows:
        popular = popular_items(batch.request.top_k, batch.not_popular(row), items)
        source: Source = "short" if batch.lengths[row] else "popular"
        if row in for_the_model:
            source = "fallback"
        nothing = [None] * len(popular)
        lists[row] = CandidateList(popular, list(nothing), list(nothing), source, [])
    return lists


def _answer(
    batch: UserBatch, catalogue: Catalogue, by_row: Mapping[int, CandidateList]
) -> CandidatesAnswer:
    lists = [by_row[row] for row in range(len(by_row))]
    own = [batch.ids.own_ids(one.items) for one in lists]
    if any(None in row for row in own):  # an item that somebody else put there, without an id
        lists = [_with_ids(one, row) for one, row in zip(lists, own, strict=True)]
        own = [[item for item in row if item is not None] for row in own]
    request, titles, categories = batch.request, catalogue.titles, catalogue.categories
    return CandidatesAnswer.model_construct(
        candidates=own,
        scores=[one.scores for one in lists],
        interest=[one.interests for one in lists],
        source=[one.source for one in lists],
        unknown=batch.unknown,
        titles=[list(map(titles.get, one.items)) for one in lists] if request.titles else None,
        categories=(
            [list(map(categories.get, one.items)) for one in lists] if request.titles else None
        ),
        nearest=(
            [[_named(near, batch.ids, titles) for near in one.nearest] for one in lists]
            if request.nearest
            else None
        ),
    )


def json_of(answer: BaseModel, users: int) -> bytes:
    """The ``answer`` to so many users as JSON, which has a row for each.

    A long one is made in pieces, between which other requests have their turn.
    """
    if users <= PIECE:
        return answer.model_dump_json().encode()
    fields = ((name, getattr(answer, name)) for name in type(answer).model_fields)
    return b"{%s}" % b",".join(b'"%s":%s' % (name.encode(), _json(rows)) for name, rows in fields)


def _json(rows: Any) -> bytes:
    if not isinstance(rows, list):
        return to_json(rows)
    pieces = (to_json(rows[start : start + PIECE]) for start in range(0, len(rows), PIECE))
    return b"[%s]" % b",".join(piece[1:-1] for piece in pieces)


def _with_ids(one: CandidateList, own: Sequence[OwnId | None]) -> CandidateList:
    places = [place for place, item in enumerate(own) if item is not None]
    return one._replace(
        items=[one.items[place] for place in places],
        scores=[one.scores[place] for place in places],
        interests=[one.interests[place] for place in places],
    )


def _named(items: Sequence[int], ids: BatchIds, titles: Mapping[int, str]) -> list[NamedItem]:
    return [
        NamedItem.model_construct(id=own, title=titles.get(item))
        for item, own in zip(items, ids.own_ids(items), strict=True)
        if item != MISSING_ID and own is not None
    ]
