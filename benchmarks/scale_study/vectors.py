# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Catalogues too large for memory: clustered vectors made block by block, and their exact lists."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from paddlerec_milvus.bench.workload import Truths, unit_vectors, vectors_around
from paddlerec_milvus.retrieval.base import FloatArray, IntArray, Neighbours
from paddlerec_milvus.retrieval.build import RowBlocks, Rows
from paddlerec_milvus.retrieval.exact import ExactRetriever

BLOCK = 100_000  # rows; 51 MB at 128 dimensions
NOISE = 0.3  # of what a model knows of an interest, beside its length 1
CLICKS = 5  # of an interest
NEAR = 100  # items nearest to an interest, that its clicks are among


@dataclass
class VectorStream:
    """``items`` vectors of length 1 around centres; a smaller catalogue is the start of a larger.

    As :func:`~paddlerec_milvus.bench.workload.synthetic_workload` draws them, a block at a time.
    """

    items: int
    dimension: int
    clusters: int
    spread: float
    seed: int
    seconds: float = field(default=0.0, init=False)
    """Spent in making blocks so far."""

    @property
    def rows(self) -> RowBlocks:
        """The rows for Milvus, ids from 1."""
        return RowBlocks(self.items, self.dimension, self.blocks)

    def blocks(self) -> Iterator[Rows]:
        """All rows, block by block."""
        for number, first in enumerate(range(0, self.items, BLOCK)):
            began = time.perf_counter()
            size = min(BLOCK, self.items - first)
            rng = np.random.default_rng([self.seed, 1, number])
            nearest = self._centres[rng.integers(self.clusters, size=BLOCK)]
            vectors = vectors_around(nearest, self.spread, rng)[:size]
            block = Rows.checked(vectors, np.arange(first + 1, first + size + 1))
            self.seconds += time.perf_counter() - began
            yield block

    def interests(self, users: int, interests: int) -> tuple[FloatArray, FloatArray]:
        """What ``users`` want, and what a model knows of it: [U, K, D] each."""
        rng = np.random.default_rng([self.seed, 2])
        nearest = self._centres[rng.integers(self.clusters, size=users * interests)]
        wanted = vectors_around(nearest, self.spread, rng)
        known = vectors_around(wanted, NOISE, rng)
        shape = (users, interests, self.dimension)
        return wanted.reshape(shape), known.reshape(shape)

    @property
    def _centres(self) -> FloatArray:
        rng = np.random.default_rng([self.seed, 0])
        shape = (self.clusters, self.dimension)
        return unit_vectors(rng.standard_normal(shape, dtype=np.float32))


def exact_neighbours(stream: VectorStream, queries: FloatArray, k: int) -> Neighbours:
    """The true ``k`` nearest items of each of ``queries`` [n, D], with a block in memory."""
    ids: IntArray = np.empty((len(queries), 0), np.int64)
    scores: FloatArray = np.empty((len(queries), 0), np.float32)
    for rows in stream.blocks():
        part = ExactRetriever(rows.vectors, rows.ids, "IP").search(queries, k)
        ids, scores = np.hstack([ids, part.ids]), np.hstack([scores, part.scores])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # a tie: the smaller id
        ids = np.take_along_axis(ids, order, axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
    return Neighbours(ids, scores)


def planted_clicks(stream: VectorStream, wanted: FloatArray) -> Truths:
    """Later clicks of each user: some of the items nearest to each of ``wanted`` [U, K, D]."""
    users, interests, dimension = wanted.shape
    near = exact_neighbours(stream, wanted.reshape(-1, dimension), NEAR).ids
    rng = np.random.default_rng([stream.seed, 3])
    clicks = rng.permuted(near, axis=1)[:, :CLICKS].reshape(users, interests * CLICKS)
    of_user = [np.unique(items) for items in clicks]
    ends = np.cumsum([0, *map(len, of_user)]).astype(np.int64)
    return Truths(ends, np.concatenate(of_user))
