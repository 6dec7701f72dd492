# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What memory, disk, build seconds and latency follow, for each index type, with few parameters.

Memory: the index by its formula, a constant, so much a row, and so much a byte of one segment's
vectors, which is what loading leaves behind: segments are loaded one after the other, and each
takes the place of the one before. Disk: a constant, so much a row, and so much a byte of index and
vectors. Latency: a constant of client and server, and the work of a search. Build seconds of cells:
a constant, so much a row, and the comparisons with the cells' centres. All by least squares of
relative errors, no part below 0. Build seconds of graphs, and ef: a power of rows and dimension;
nprobe: of cells and dimension.

Letters: N rows, D dimensions, S segments that a search goes through, n points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from paddlerec_milvus.retrieval.indexes import Hnsw, Ivf
from paddlerec_milvus.retrieval.memory_estimate import MIB, ROW_BYTES
from scale_study.rows import ScaleCase, ScaleRow, usual_rows

Floats = NDArray[np.float64]
QUANTITIES = ("memory, MiB", "disk, MiB", "build, s", "p50, ms")
MILLION = 1e6
SEGMENT_BYTES = 512 << 20  # dataCoord.segment.maxSize
COUNTED_BYTES = 536  # of a row beside its vector, as Milvus counts: 8 of a number, 256 of a string
USUAL_LINKS, USUAL_BREADTH = 16, 200  # M and efConstruction, that build seconds are scaled from


def full_segments(case: ScaleCase) -> int:
    """In how many segments Milvus stores the rows of a case, all but one of them full."""
    row_bytes = 4 * case.dimension + COUNTED_BYTES
    return -(-case.items * row_bytes // SEGMENT_BYTES)


class ScalePoint(NamedTuple):
    """Where something is predicted: a case, its segments and its search parameter."""

    case: ScaleCase
    segments: float
    search: float
    """ef or nprobe; 0 for FLAT."""


def point_of(row: ScaleRow) -> ScalePoint:
    """Where a row was measured: for fitting alone, what is predicted has :meth:`ScaleFit.point`."""
    search = next(iter(row.tuned.params.values()), 0)
    return ScalePoint(row.case, row.segments, float(search))


def values_of(row: ScaleRow) -> Mapping[str, float | None]:
    """What a row measured, by ``QUANTITIES``."""
    measured = (
        row.build.rss_mib,
        row.build.disk_mib,
        row.build.index_seconds,
        row.measured.latency.p50,
    )
    return dict(zip(QUANTITIES, measured, strict=True))


def memory_terms(point: ScalePoint) -> list[float]:
    """1, N in millions, and MiB of one segment's vectors; the index comes on top."""
    case = point.case
    return [1.0, case.items / MILLION, case.raw_mib / point.segments]


def disk_terms(point: ScalePoint) -> list[float]:
    """1, N in millions, and MiB of the index and of the vectors, which lie beside it on disk."""
    case = point.case
    return [1.0, case.items / MILLION, _index_mib(case) + case.raw_mib]


def _index_mib(case: ScaleCase) -> float:
    return case.formula_mib - case.items * ROW_BYTES / MIB


def known_part(name: str, case: ScaleCase) -> float:
    """What of a quantity is known without any row: of memory the index by its formula."""
    return _index_mib(case) if name == "memory, MiB" else 0.0


def search_terms(point: ScalePoint) -> list[float]:
    """1, and the work of a search: what it visits, and the values that it compares there."""
    case, index = point.case, point.case.built
    if isinstance(index, Hnsw):
        steps = point.segments * point.search * np.log2(max(2.0, case.items / point.segments))
        steps *= index.M / USUAL_LINKS
        visited = float(steps) / 1e3
    elif isinstance(index, Ivf):
        cells = point.segments * index.nlist / MILLION
        visited = case.items / MILLION * min(1.0, point.search / index.nlist) + cells
    else:
        visited = case.items / MILLION
    return [1.0, visited, visited * case.dimension]


def power_terms(point: ScalePoint) -> list[float]:
    """1, log N and log D: a power of either."""
    return [1.0, float(np.log(point.case.items)), float(np.log(point.case.dimension))]


def search_power_terms(point: ScalePoint) -> list[float]:
    """Of a graph's ef those of a power; of nprobe 1, log nlist and log D."""
    constant, size, dimension = power_terms(point)
    # nprobe / nlist is the share of rows that a search visits, and recall follows it: more rows ask
    # for more only as nlist grows with them (at most MOST_CELLS). A power: finer cells waste less.
    if isinstance(index := point.case.built, Ivf):
        size = float(np.log(index.nlist))
    return [constant, size, dimension]


def build_terms(point: ScalePoint) -> list[float]:
    """Of a graph those of a power; of cells 1, N in millions, and that times cells and D."""
    case, index = point.case, point.case.built
    if isinstance(index, Hnsw):
        return power_terms(point)
    millions = case.items / MILLION
    cells = index.nlist if isinstance(index, Ivf) else 1
    return [1.0, millions, millions * cells * case.dimension / MILLION]


def is_power(name: str, case: ScaleCase) -> bool:
    """Whether a quantity is fitted as a power."""
    return name == "build, s" and isinstance(case.built, Hnsw)


def build_scale(case: ScaleCase) -> float:
    """How a graph's M and efConstruction multiply its build seconds: in proportion."""
    index = case.built
    if isinstance(index, Hnsw):
        return index.M / USUAL_LINKS * index.ef_construction / USUAL_BREADTH
    return 1.0


TERMS: Mapping[str, Callable[[ScalePoint], list[float]]] = {
    "memory, MiB": memory_terms,
    "disk, MiB": disk_terms,
    "build, s": build_terms,
    "p50, ms": search_terms,
}


@dataclass(frozen=True)
class ScaleFit:
    """The fit of one index type."""

    type: str
    rows: tuple[ScaleRow, ...]
    weights: Mapping[str, Floats]
    search: Floats
    """log of ef or nprobe, by ``search_power_terms``."""

    @classmethod
    def of(cls, rows: Sequence[ScaleRow]) -> ScaleFit:
        """Fit ``rows`` of one type; two sizes or more."""
        points = [point_of(row) for row in rows]
        weights = {}
        for name in QUANTITIES:
            pairs = [
                (point, value)
                for point, row in zip(points, rows, strict=True)
                if (value := values_of(row)[name]) is not None and value > 0
            ]
            if pairs:
                weights[name] = _fitted(name, pairs)
        searched = np.array([max(1.0, point.search) for point in points])
        powers = _power([search_power_terms(point) for point in points], searched)
        return cls(rows[0].case.type, tuple(rows), weights, powers)

    def value(self, name: str, point: ScalePoint) -> float:
        """What the fit says of one of ``QUANTITIES``; NaN where it was not measured."""
        if name not in self.weights:
            return float("nan")
        total = float(np.array(TERMS[name](point)) @ self.weights[name])
        if is_power(name, point.case):
            return float(np.exp(total)) * build_scale(point.case)
        return total + known_part(name, point.case)

    def point(self, case: ScaleCase) -> ScalePoint:
        """Where a case would be searched: full segments, ef or nprobe by the fit."""
        terms = np.array(search_power_terms(ScalePoint(case, 1, 0)))
        search = float(np.exp(terms @ self.search))
        index = case.built
        if isinstance(index, Ivf):
            search = min(search, float(index.nlist))
        else:
            search = max(search, float(case.k))  # Milvus refuses an ef below the hits asked for
        return ScalePoint(case, full_segments(case), max(1.0, search))


def _fitted(name: str, pairs: Sequence[tuple[ScalePoint, float]]) -> Floats:
    terms = [TERMS[name](point) for point, _ in pairs]
    values = np.array([value for _, value in pairs])
    if is_power(name, pairs[0][0].case):
        scales = np.array([build_scale(point.case) for point, _ in pairs])
        return _power(terms, values / scales)
    relative = np.array(terms) / values[:, None]
    size = relative.max(axis=0)
    size[size == 0] = 1.0
    known = np.array([known_part(name, point.case) for point, _ in pairs])
    weights, _ = nnls(relative / size, 1 - known / values)
    return np.asarray(weights / size, float)


def _power(terms: Sequence[Sequence[float]], values: Floats) -> Floats:
    """Least squares of log values; a term that never changes takes no part beside the constant."""
    matrix = np.array(terms)
    varies = np.ptp(matrix, axis=0) > 0
    varies[0] = True
    weights = np.zeros(matrix.shape[1])
    weights[varies] = np.linalg.lstsq(matrix[:, varies], np.log(values), rcond=None)[0]
    return weights


def fits_of(rows: Sequence[ScaleRow]) -> dict[str, ScaleFit]:
    """A fit of each type that was measured at two sizes or more, by type; of usual rows alone."""
    by_type: dict[str, list[ScaleRow]] = {}
    for row in usual_rows(rows):
        by_type.setdefault(row.case.type, []).append(row)
    return {
        name: ScaleFit.of(of_type)
        for name, of_type in sorted(by_type.items())
        if len({row.case.items for row in of_type}) > 1
    }
