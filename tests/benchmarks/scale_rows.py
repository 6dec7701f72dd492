# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of benchmarks/scale.py that obey a law, for its tests: nothing of them was measured."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from scale_study.fit import full_segments
from scale_study.rows import MEASURE, ScaleCase, ScaleRow, TunedSearch, usual_build

from paddlerec_milvus.bench.load_results import LatencySummary, Throughput
from paddlerec_milvus.bench.results import (
    BuildMeasurement,
    IndexRecall,
    MeanWithError,
    SearchMeasurement,
    SearchQuality,
    SegmentInfo,
)

SIZES = (100_000, 370_000, 1_000_000, 3_000_000, 10_000_000)


def case_for(items: int, dimension: int, kind: str = "HNSW", **changed: Any) -> ScaleCase:
    """A case; ``changed`` are build parameters."""
    index = {"type": kind, **usual_build(kind, items, dimension), **changed}
    return ScaleCase(items=items, dimension=dimension, index=index)


def row_of(case: ScaleCase, *, noise: float = 1.0, **changed: Any) -> ScaleRow:
    """A row that obeys the laws of the functions below; ``noise`` times its memory and p50."""
    build = build_of(case, noise)
    key, value = searched_with(case)
    row = ScaleRow(
        key=case.key,
        case=case,
        build=build,
        peak_rss_mib=None,
        tuned=TunedSearch(params={key: value}, users=200, index_recall=0.96, met=True),
        measured=search_of(case, len(build.segments), value, noise),
        relevance="not measured: index_recall only",
        exact_seconds=1,
        seconds=60,
        load_before=0.1,
        machine={},
        versions={},
        time="2026-11-29T12:00:00+00:00",
    )
    return row.model_copy(update=changed)


def build_of(case: ScaleCase, noise: float) -> BuildMeasurement:
    """220 MiB, 300 bytes a row, the index and a third of a segment's vectors; seconds a power."""
    millions = case.items / 1e6
    segments = full_segments(case)
    left_behind = case.raw_mib / segments / 3
    return BuildMeasurement(
        insert_seconds=9 * millions,
        compact_seconds=0,
        index_seconds=150 * millions**1.1 * (case.dimension / 64) ** 0.6,
        load_seconds=2,
        rows=case.items,
        segments=[SegmentInfo(rows=case.items // segments, indexed=True)] * segments,
        rss_mib=(220 + 286 * millions + case.formula_mib + left_behind) * noise,
        disk_mib=50 + 143 * millions + case.raw_mib + case.formula_mib,
        estimate_mib=case.formula_mib,
        warnings=[],
    )


def searched_with(case: ScaleCase) -> tuple[str, float]:
    """ef as a power of rows and dimension; nprobe as 0.5 % of the cells."""
    if case.type == "HNSW":
        return "ef", 100 * (case.items / 1e6) ** 0.2 * (case.dimension / 64) ** 0.3
    return "nprobe", 0.005 * int(case.index["nlist"])


def search_of(case: ScaleCase, segments: int, value: float, noise: float) -> SearchMeasurement:
    """p50 is linear in the steps of a graph's search with ef = ``value``, and in their values."""
    work = segments * value * np.log2(case.items / segments) / 1e3
    p50 = 2 + 0.5 * work + 0.01 * work * case.dimension
    recall = MeanWithError(mean=0.96)
    return SearchMeasurement(
        quality=SearchQuality(index_recall=IndexRecall(interest=recall, list=recall)),
        latency=LatencySummary(
            requests=1000,
            failures=0,
            p50=p50 * noise,
            p95=9,
            p99=9,
            p99_9=9,
            mean=3,
            max=9,
            histogram="",
        ),
        warnings=[],
        throughput=[
            Throughput(clients=n, users_per_second=100 * n, runs=[], failures=0, p50=1, p99=2)
            for n in (4, 16)
        ],
        batches=[],
        open_loop=[],
    )


def rows_for(kind: str = "HNSW") -> list[ScaleRow]:
    """All sizes in both dimensions, of the usual case."""
    return [row_of(case_for(items, dim, kind)) for items, dim in product(SIZES, (64, 128))]


def unusual_rows() -> list[ScaleRow]:
    """Rows far from the law, each of another case than the usual one."""
    usual = case_for(3_000_000, 64)
    short = MEASURE.model_copy(update={"seconds": 1.0})
    changes: list[dict[str, Any]]
    changes = [{"target": 0.8}, {"k": 10}, {"users": 50}, {"seed": 2}, {"measure": short}]
    cases = [usual.model_copy(update=change) for change in changes]
    dense = case_for(3_000_000, 64, M=32)
    return [row_of(case, noise=7) for case in [*cases, dense, dense.model_copy(update=changes[0])]]
