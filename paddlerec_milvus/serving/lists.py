# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Interests to lists of candidates, and lists to the bytes of an answer: what runs in the pool."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np

from paddlerec_milvus.retrieval.base import (
    MISSING_ID,
    MISSING_SCORE,
    FloatArray,
    IntArray,
    Neighbours,
    Retriever,
)
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.merge import Candidates
from paddlerec_milvus.serving.histories import Asked, popular_items
from paddlerec_milvus.serving.schemas import CandidatesAnswer, Source

GROUP_HITS = 256


class Timed:
    """A retriever that keeps the seconds spent in its searches."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self.seconds = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether the neighbours are the true ones."""
        return self._retriever.is_exact

    def search(self, queries: FloatArray, k: int) -> Neighbours:
        """The same neighbours."""
        began = time.perf_counter()
        try:
            return self._retriever.search(queries, k)
        finally:
            self.seconds += time.perf_counter() - began


def find(retriever: Retriever, interests: FloatArray, asked: Asked, rows: IntArray) -> Candidates:
    """Candidates of the users ``rows`` [n] of ``asked`` by their ``interests`` [n, K, D].

    Users who leave out much are searched apart: all that are searched together get as many hits
    as the one who leaves out most.
    """
    shape = (len(rows), asked.top_k)
    found = Candidates(
        np.full(shape, MISSING_ID, np.int64),
        np.full(shape, MISSING_SCORE, np.float32),
        np.full(shape, -1, np.int64),
    )
    for group in _groups([asked.top_k + len(asked.exclude[row]) for row in rows]):
        exclude = [asked.exclude[row] for row in rows[group]]
        part = search_users(retriever, interests[group], asked.top_k, exclude)
        found.ids[group], found.scores[group] = part.ids, part.scores
        found.interests[group] = part.interests
    return found


def _groups(hits: list[int]) -> Iterator[IntArray]:
    """Places of users whose numbers of hits are alike: up to 256, 512, 1,024 …"""
    sizes = np.array([((count - 1) // GROUP_HITS).bit_length() for count in hits])
    for size in np.unique(sizes):
        yield np.flatnonzero(sizes == size)


def answer(
    asked: Asked,
    items: int,
    titles: Mapping[int, str],
    rows: IntArray | None = None,
    found: Candidates | None = None,
) -> CandidatesAnswer:
    """The lists ``found`` for the users ``rows``, popular items for all others.

    Who has a known history and no list of the model is said to have a fallback.
    """
    place = {} if rows is None else {row: at for at, row in enumerate(rows.tolist())}
    candidates: list[list[int]] = []
    scores: list[list[float | None]] = []
    interest: list[list[int | None]] = []
    source: list[Source] = []
    for row, length in enumerate(asked.lengths.tolist()):
        if found is not None and row in place:
            at = place[row]
            count = int((found.ids[at] != MISSING_ID).sum())
            candidates.append(found.ids[at, :count].tolist())
            scores.append(found.scores[at, :count].tolist())
            interest.append(found.interests[at, :count].tolist())
            source.append("model")
        else:
            popular = popular_items(asked.top_k, asked.exclude[row], items)
            candidates.append(popular)
            scores.append([None] * len(popular))
            interest.append([None] * len(popular))
            source.append("fallback" if length else "popular")
    return CandidatesAnswer.model_construct(
        candidates=candidates,
        scores=scores,
        interest=interest,
        source=source,
        unknown=asked.unknown,
        titles=[[titles.get(item) for item in row] for row in candidates] if asked.titles else None,
    )
