# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How build time, memory and latency grow with the catalogue, measured, and on paper to 10 M."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from paddlerec_milvus.bench.client_pool import InProcessClient, Load
from paddlerec_milvus.bench.measure_build import BenchServer, measure_build
from paddlerec_milvus.bench.measure_search import exact_of, quality_of
from paddlerec_milvus.bench.results import StudyMeasurement, StudyParams, StudyResult, StudyValues
from paddlerec_milvus.bench.sweep_config import SyntheticData
from paddlerec_milvus.bench.sweep_runner import Progress, SweepRunner
from paddlerec_milvus.bench.workload import synthetic_workload
from paddlerec_milvus.retrieval.indexes import Index

USERS = 250
ON_PAPER = 10_000_000
Growing = Literal["rss_mib", "disk_mib", "insert_seconds", "index_seconds", "p50", "p99"]
STRAIGHT: tuple[Growing, ...] = ("rss_mib", "disk_mib", "insert_seconds", "index_seconds")
POWERS: tuple[Growing, ...] = ("p50", "p99")
PAPER = "on paper: a constant and so much a row; p50 and p99 by a power law"


def scale_rows(run: SweepRunner, index: Index) -> None:
    """A row for each size of ``studies.scale_items`` that the results folder lacks, and the fit."""
    sizes = run.sweep.studies.scale_items
    search = index.search_params(run.sweep.k)
    keys = {
        items: run.key("study", index, search=search, study=("scale", items)) for items in sizes
    }
    todo = [items for items in sizes if keys[items] not in run.rows]
    with Progress(len(todo), "catalogues") as progress:
        for items in todo:
            progress.start(f"{items:,} items")
            run.add_study(keys[items], index, _measured(run, index, items))
            progress.advance()
    paper = run.key("study", index, search=search, study=("scale on paper", sorted(sizes)))
    measured = [
        row.measured
        for row in run.rows.rows
        if isinstance(row, StudyResult) and row.key in keys.values()
    ]
    if len(measured) > 1 and paper not in run.rows:
        params = StudyParams(items=ON_PAPER, vectors=PAPER)
        values = fitted(measured, ON_PAPER)
        run.add_study(paper, index, StudyMeasurement(study="scale", params=params, values=values))


def _measured(run: SweepRunner, index: Index, items: int) -> StudyMeasurement:
    data = SyntheticData(
        items=items,
        dimension=run.workload.vectors.shape[1],
        users=USERS,
        interests=run.workload.interests.shape[1],
        metric="IP",
    )
    workload = synthetic_workload(**data.model_dump(), seed=run.sweep.seed)
    k, measure = run.sweep.k, run.sweep.measure
    with BenchServer(run.sweep.server, run.rows.folder) as place:
        target = place.target(workload.metric, index)
        build, _ = measure_build(place, target, workload)
        with target.connect() as retriever:
            retriever.open()
            neighbours = retriever.search(workload.queries, k)
            quality = quality_of(workload, exact_of(workload, k), neighbours)
            client = InProcessClient(retriever, workload.interests)
            latency = client.run([Load(index, k, measure.requests)], measure.warm_up).latency()
    values = StudyValues(
        rss_mib=build.rss_mib,
        disk_mib=build.disk_mib,
        insert_seconds=build.insert_seconds,
        index_seconds=build.index_seconds,
        p50=latency.p50,
        p99=latency.p99,
        index_recall=quality.index_recall.list.mean,
    )
    vectors = f"synthetic, {data.clusters} clusters, spread {data.spread}"
    params = StudyParams(items=items, vectors=vectors)
    return StudyMeasurement(study="scale", params=params, values=values)


def fitted(lines: Sequence[StudyMeasurement], items: int) -> StudyValues:
    """Each value at ``items``: memory, disk, insert and index seconds by a line, latencies by a
    power law.

    The line is a constant and so much a row, neither below 0. Least squares, from two sizes on.
    Extrapolation: what changes with size (memory that runs out, segments, a graph's longer ways) is
    not in it.
    """
    sizes = np.array([line.params.items for line in lines], float)
    fits = {}
    for name in (*STRAIGHT, *POWERS):
        values = [getattr(line.values, name) for line in lines]
        if any(value is None or value <= 0 for value in values):
            continue
        measured = np.array(values, float)
        if name in STRAIGHT:
            constant, slope = line_through(sizes, measured)
            fits[name] = constant + slope * items
        else:
            line = np.polyfit(np.log(sizes), np.log(measured), 1)
            fits[name] = float(np.exp(np.polyval(line, np.log(items))))
    return StudyValues.model_validate(fits)


def line_through(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Constant and slope of the nearest line by least squares, of those where neither is below 0.

    ``x`` and ``y`` [n] above 0.
    """
    scale = x.max()  # as large as the constant's column
    (constant, slope), _ = nnls(np.stack([np.ones_like(x), x / scale], axis=1), y)
    return float(constant), float(slope / scale)
