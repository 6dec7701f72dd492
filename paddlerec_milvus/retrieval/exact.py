# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Exact retrieval in numpy: the truth that every other retriever is tested against."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from copy import copy

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.base import (
    MISSING_ID,
    MISSING_SCORE,
    FloatArray,
    IntArray,
    Neighbours,
    checked_k,
    checked_metric,
    checked_queries,
)

QUERY_BLOCK = 512
ITEM_BLOCK = 8_192  # with 512 queries: 16 MB of scores, which stay in the cache's reach
FIRST_BLOCK = 2_048
FILTERS = re.compile(r"(category in|category ==|item in|item not in) (.+)", re.DOTALL)


def normalised(vectors: FloatArray) -> FloatArray:
    """``vectors`` [n, D] with L2 norm 1; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: FloatArray = vectors / np.where(norms > 0, norms, np.float32(1))
    return scaled


class ExactRetriever:
    """All items are compared with each query, block by block; ties go to the smaller id.

    ``vectors`` [N, D] float32 and ``ids`` [N] int64 (by default 0 … N-1, the row numbers); metric
    ``IP``, ``COSINE`` or ``L2``. ``categories``: N strings, None: all empty. Memory beside the
    vectors: some 20 MB and the answer.
    Raises SettingsError for shapes that do not fit, NaN, a duplicate id or an unknown metric.
    """

    is_exact = True

    def __init__(
        self,
        vectors: ArrayLike,
        ids: ArrayLike | None = None,
        metric: str = "IP",
        categories: Sequence[str] | None = None,
    ) -> None:
        self.metric = checked_metric(metric)
        array = np.ascontiguousarray(vectors, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] == 0:
            raise SettingsError(f"item vectors have the shape {list(array.shape)}, expected [N, D]")
        if not np.isfinite(array).all():
            raise SettingsError("item vectors hold NaN or infinite values: the model has diverged")
        rows = np.arange(len(array)) if ids is None else np.asarray(ids)
        numbers: IntArray = rows.astype(np.int64)
        if numbers.shape != (len(array),):
            raise SettingsError(
                f"{len(array)} item vectors, but ids have the shape {list(numbers.shape)}"
            )
        labels = np.array(categories if categories is not None else [""] * len(array), object)
        if labels.shape != numbers.shape:
            raise SettingsError(f"{len(array)} item vectors, but {len(labels)} categories")
        # sorted by id, an earlier row wins a tie: "strictly better" is all a later block must test
        if not (np.diff(numbers) > 0).all():
            order = np.argsort(numbers, kind="stable")
            array, numbers, labels = array[order], numbers[order], labels[order]
            if (np.diff(numbers) == 0).any():
                twice = numbers[1:][np.diff(numbers) == 0][0]
                raise SettingsError(f"item id {twice} is given twice")
        self._vectors: FloatArray = normalised(array) if metric == "COSINE" else array
        self._ids, self._categories = numbers, labels
        self._squares: FloatArray | None = (
            np.einsum("nd,nd->n", array, array) if metric == "L2" else None
        )

    @property
    def dimension(self) -> int:
        """D of the item vectors."""
        return int(self._vectors.shape[1])

    def count(self) -> int:
        """N, the number of items."""
        return len(self._ids)

    def search(
        self, queries: ArrayLike, k: int, *, filter: str = "", consistency: str | None = None
    ) -> Neighbours:
        """The true ``k`` nearest items of each of ``queries`` [n, D]; SettingsError if unusable.

        ``filter``: ``category in ["a", "b"]``, ``category == "a"``, ``item in [1, 2]`` or
        ``item not in [1, 2]`` in Milvus' spelling. ``consistency`` is without effect.
        """
        checked_k(k)
        checked = checked_queries(queries, self.dimension)
        if filter:
            return self._passing(filter).search(checked, k)
        ids = np.full((len(checked), k), MISSING_ID, np.int64)
        scores = np.full((len(checked), k), MISSING_SCORE, np.float32)
        width = min(k, len(self._ids))
        for start in range(0, len(checked) if width else 0, QUERY_BLOCK):
            block = slice(start, start + QUERY_BLOCK)
            rows, best = self._search_block(checked[block], width)
            ids[block, :width] = self._ids[rows]
            scores[block, :width] = best
        return Neighbours(ids, scores)

    def _passing(self, filter: str) -> ExactRetriever:
        """A retriever of those items alone that pass ``filter``."""
        values, parts = None, FILTERS.fullmatch(filter)
        if parts is not None:
            with contextlib.suppress(ValueError):  # Milvus escapes as JSON does
                values = json.loads(parts[2], strict=False)
        if parts is None or not isinstance(values, str if parts[1] == "category ==" else list):
            raise SettingsError(
                f"filter: {filter!r} is more than exact search evaluates: category in […], "
                "category == …, item in […] or item not in […]; search in Milvus"
            )
        column = self._ids if parts[1].startswith("item") else self._categories
        rows = np.isin(column, [values] if isinstance(values, str) else values)
        if "not" in parts[1]:
            rows = ~rows
        part = copy(self)
        part._vectors, part._ids = self._vectors[rows], self._ids[rows]
        part._categories = self._categories[rows]
        part._squares = None if self._squares is None else self._squares[rows]
        return part

    def _search_block(self, queries: FloatArray, k: int) -> tuple[NDArray[np.intp], FloatArray]:
        """Rows [q, k] and scores [q, k] of the best ``k`` ≤ N items of each query, best first."""
        if self.metric == "COSINE":
            queries = normalised(queries)
        first = min(len(self._ids), max(FIRST_BLOCK, 2 * k))
        scores = self._scores(queries, 0, first)
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(scores, rows, axis=1)
        for start in range(first, len(self._ids), ITEM_BLOCK):
            scores = self._scores(queries, start, start + ITEM_BLOCK)
            better = scores > best[:, -1:]  # few, once the running threshold has settled
            query, item = np.divmod(np.flatnonzero(better), better.shape[1])
            if len(query):
                rows, best = _merged(rows, best, query, item + start, scores[better])
        if self.metric == "L2":
            best = np.minimum(best - np.einsum("qd,qd->q", queries, queries)[:, None], 0)
        return rows, best

    def _scores(self, queries: FloatArray, start: int, end: int) -> FloatArray:
        """[q, end - start] scores; for L2 without the query's own square, which orders nothing."""
        scores: FloatArray = queries @ self._vectors[start:end].T
        if self._squares is not None:
            scores *= 2
            scores -= self._squares[start:end]
        return scores


def _merged(
    rows: NDArray[np.intp],
    best: FloatArray,
    query: NDArray[np.intp],
    item: NDArray[np.intp],
    score: FloatArray,
) -> tuple[NDArray[np.intp], FloatArray]:
    """The running best [q, k] joined with new finds: flat arrays sorted by query, then item."""
    k = rows.shape[1]
    changed, counts = np.unique(query, return_counts=True)
    width = k + int(counts.max())
    # a padded row for each query that has finds: old ones first, so a stable sort keeps ties right
    all_scores = np.full((len(changed), width), MISSING_SCORE, np.float32)
    all_rows = np.zeros((len(changed), width), np.intp)
    all_scores[:, :k], all_rows[:, :k] = best[changed], rows[changed]
    line = np.repeat(np.arange(len(changed)), counts)
    column = k + np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    all_scores[line, column], all_rows[line, column] = score, item
    order = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]
    rows, best = rows.copy(), best.copy()
    rows[changed] = np.take_along_axis(all_rows, order, axis=1)
    best[changed] = np.take_along_axis(all_scores, order, axis=1)
    return rows, best
