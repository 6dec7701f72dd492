# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How build time, memory and latency grow with the catalogue, measured, and on paper to 10 M."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from paddlerec_milvus.bench.client_pool import Load
from paddlerec_milvus.bench.index_quality import exact_of, quality_of
from paddlerec_milvus.bench.loads import OneClient
from paddlerec_milvus.bench.measure_build import built
from paddlerec_milvus.bench.servers import Place
from paddlerec_milvus.bench.sweep_config import SyntheticData
from paddlerec_milvus.bench.sweep_runner import Found, Run
from paddlerec_milvus.bench.synthetic import synthetic_workload
from paddlerec_milvus.retrieval.indexes import Index

USERS = 250
ON_PAPER = 10_000_000
STRAIGHT = ("rss_mib", "disk_mib", "insert_seconds", "index_seconds")
POWERS = ("p50", "p99")
PAPER = "on paper: a constant and so much a row; p50 and p99 by a power law"


def scale_rows(run: Run, index: Index) -> None:
    """A row for each size of ``studies.scale_items`` that the results folder lacks, and the fit."""
    sizes = run.sweep.studies.scale_items
    searched = index.search_params(run.sweep.k)
    keys = {
        items: run.key("study", index, search=searched, study=("scale", items)) for items in sizes
    }
    for items in tqdm(sizes, "scale", disable=None):
        if keys[items] not in run.rows:
            run.add_study(keys[items], index, _measured(run, index, items))
    paper = run.key("study", index, search=searched, study=("scale on paper", sorted(sizes)))
    measured = [row for row in run.rows.rows if row["key"] in keys.values()]
    if len(measured) > 1 and paper not in run.rows:
        params = {"items": ON_PAPER, "vectors": PAPER}
        run.add_study(paper, index, Found("scale", params, fitted(measured, ON_PAPER)))


def _measured(run: Run, index: Index, items: int) -> Found:
    given = SyntheticData(
        items=items,
        dimension=run.workload.vectors.shape[1],
        users=USERS,
        interests=run.workload.interests.shape[1],
        metric="IP",
    )
    workload = synthetic_workload(**given.model_dump(), seed=run.sweep.seed)
    k, measure = run.sweep.k, run.sweep.measure
    with Place(run.sweep.server, run.rows.folder) as place:
        target = place.target(workload.metric, index)
        build = built(place, target, workload)
        with target.connect() as retriever:
            retriever.open()
            found = retriever.search(workload.queries, k)
            quality = quality_of(workload, exact_of(workload, k), found)
            one = OneClient(retriever, workload.interests)
            latency = one.run([Load(index, k, measure.requests)], measure.warm_up).latency()
    values = {name: build[name] for name in (*STRAIGHT, *POWERS) if name in build}
    values |= {name: latency[name] for name in ("p50", "p99")}
    values["index_recall"] = quality["index_recall"]["list"]["mean"]
    described = f"synthetic, {given.clusters} clusters, spread {given.spread}"
    return Found("scale", {"items": items, "vectors": described}, values)


def fitted(rows: Sequence[Mapping[str, Any]], items: int) -> dict[str, float]:
    """Each value at ``items``: memory, disk, insert and index seconds by a line, latencies by a
    power law.

    The line is a constant and so much a row, neither below 0. Least squares, from two sizes on.
    Extrapolation: what changes with size (memory that runs out, segments, a graph's longer ways) is
    not in it.
    """
    sizes = np.array([row["params"]["items"] for row in rows], float)
    found = {}
    for name in (*STRAIGHT, *POWERS):
        values = [row["values"].get(name) for row in rows]
        if any(value is None or value <= 0 for value in values):
            continue
        measured = np.array(values, float)
        if name in STRAIGHT:
            constant, slope = line_through(sizes, measured)
            found[name] = constant + slope * items
        else:
            line = np.polyfit(np.log(sizes), np.log(measured), 1)
            found[name] = float(np.exp(np.polyval(line, np.log(items))))
    return found


def line_through(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Constant and slope of the nearest line by least squares, of those where neither is below 0.

    ``x`` and ``y`` [n] above 0. Where the nearest of all has one below 0, that one is 0 in ours.
    """
    slope, constant = np.polyfit(x, y, 1)
    if slope < 0:
        slope, constant = 0.0, y.mean()
    elif constant < 0:
        slope, constant = (x @ y) / (x @ x), 0.0
    return float(constant), float(slope)
