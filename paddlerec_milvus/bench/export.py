# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A workload in the formats of other benchmarks, so that anyone can measure it with those.

- VectorDBBench's custom dataset (its README, "Custom Dataset for Performance case"): a folder of
  parquet files.
- ann-benchmarks' HDF5 (its ``ann_benchmarks/datasets.py``): one file.

Both take single vectors: a query is one interest, and nothing is merged. Items go by their row, 0 …
N-1, as both ask for; ``about.json`` says which item that is.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.data.staging import staged
from paddlerec_milvus.errors import SettingsError, UserError
from paddlerec_milvus.retrieval.base import FloatArray, IntArray, Neighbours
from paddlerec_milvus.retrieval.exact import ExactRetriever

MADE_BY = "paddlerec-milvus"
UNIT = 1e-4  # how far from 1 a length may be
BLOCK = 1_024  # queries
DISTANCES = {
    "angular": "1 - cosine",
    "euclidean": "the root of the summed squares",
    "dot": "minus the inner product; ann-benchmarks itself has no such distance, and item vectors "
    "of different lengths cannot be given in one that it has",
}


def export_vectordbbench(workload: Workload, k: int, folder: Path) -> list[Path]:
    """Write ``folder`` for VectorDBBench, whole or not at all; returns its files.

    ``train.parquet`` (id, emb) holds the N items, ``test.parquet`` (id, emb) the U * K interests,
    ``neighbors.parquet`` (id, neighbors_id) the ``k`` exact neighbours of each; ids are int64 from
    0, vectors lists of float32. ``about.json`` holds what its page for custom datasets asks for.
    Raises SettingsError for a folder that holds something else, or ``k`` above N; DataError where
    it cannot be written.
    """
    _check_free(folder)
    rows = _exact(workload, k, workload.metric).ids
    about = _about(workload, k) | {
        "format": "VectorDBBench custom dataset",
        "custom_dataset": {
            "name": workload.name,
            "size": len(workload.ids),
            "dim": workload.vectors.shape[1],
            "metric_type": workload.metric,
            "file_count": 1,
            "use_shuffled": False,
            "with_gt": True,
        },
    }
    with staged(folder) as fresh:
        _table(emb=workload.vectors).write_parquet(fresh / "train.parquet")
        _table(emb=workload.queries).write_parquet(fresh / "test.parquet")
        _table(neighbors_id=rows).write_parquet(fresh / "neighbors.parquet")
        _write_about(about, fresh / "about.json")
    names = ("train.parquet", "test.parquet", "neighbors.parquet", "about.json")
    return [folder / name for name in names]


def export_ann_benchmarks(workload: Workload, k: int, file: Path) -> Path:
    """Write ``file`` (HDF5) for ann-benchmarks, whole or not at all; returns it.

    Datasets: ``train`` [N, D] and ``test`` [U * K, D] float32, ``neighbors`` [U * K, k] int32 (rows
    of ``train``) and ``distances`` [U * K, k] float32, nearest first. Attribute ``distance`` is
    ``angular`` (COSINE, or IP of normalised items, which orders them alike), ``euclidean`` (L2), or
    ``dot`` (IP of others; ann-benchmarks itself cannot measure that). Beside it, ``about.json``
    with the file's name before it. Raises SettingsError for ``k`` above N, UserError where it
    cannot be written or h5py is not installed.
    """
    h5py = _h5py()
    distance = _distance(workload)
    metric = {"angular": "COSINE", "euclidean": "L2", "dot": "IP"}[distance]
    neighbours = _exact(workload, k, metric)
    about = _about(workload, k) | {
        "format": "ann-benchmarks HDF5",
        "distances": f"{distance}: {DISTANCES[distance]}",
    }
    with replacing(file) as fresh, h5py.File(fresh, "w") as out:
        out.attrs["type"] = "dense"
        out.attrs["distance"] = distance
        out.attrs["dimension"] = workload.vectors.shape[1]
        out.attrs["point_type"] = "float"
        out["train"] = workload.vectors
        out["test"] = workload.queries
        out["neighbors"] = neighbours.ids.astype(np.int32)
        out["distances"] = _distances(workload, neighbours, distance)
    with replacing(about_file(file)) as fresh:
        _write_about(about, fresh)
    return file


def about_file(file: Path) -> Path:
    """Where what is said of an HDF5 file stands: ``NAME.about.json``."""
    return file.with_name(f"{file.stem}.about.json")


def _exact(workload: Workload, k: int, metric: str) -> Neighbours:
    """Rows of the item table [U * K, k] and their scores."""
    if k > len(workload.ids):
        raise SettingsError(
            f"k: {k} neighbours of {len(workload.ids):,} items cannot be exported; lower k"
        )
    return ExactRetriever(workload.vectors, metric=metric).search(workload.queries, k)


def _about(workload: Workload, k: int) -> dict[str, Any]:
    return {
        "made_by": MADE_BY,
        "data": workload.described(),
        "k": k,
        "neighbors": f"the exact {k} nearest items of each query by {workload.metric}, best first; "
        "a query is one interest: recall of these is no recall of clicks, and nothing is merged",
        "query_of_row": f"query i is interest i % {workload.interests.shape[1]} of user "
        f"i // {workload.interests.shape[1]}",
        "item_of_row": workload.ids.tolist(),
    }


def _write_about(about: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(about) + "\n", encoding="utf-8")


def _table(**column: FloatArray | IntArray) -> pl.DataFrame:
    """``id`` from 0, and one column of lists."""
    ((name, values),) = column.items()
    lists = pl.Series(name, np.ascontiguousarray(values)).arr.to_list()
    return pl.DataFrame([pl.Series("id", np.arange(len(values), dtype=np.int64)), lists])


def _check_free(folder: Path) -> None:
    """SettingsError unless the folder is missing, empty, or an export of ours."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        ours = json.loads((folder / "about.json").read_text(encoding="utf-8"))["made_by"] == MADE_BY
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise SettingsError(f"{folder}: holds something else than an export: give another folder")


def _distance(workload: Workload) -> str:
    """ann-benchmarks' word for the workload's metric."""
    if workload.metric != "IP":
        return {"COSINE": "angular", "L2": "euclidean"}[workload.metric]
    lengths = np.linalg.norm(workload.vectors, axis=1)
    return "angular" if np.abs(lengths - 1).max() < UNIT else "dot"


def _distances(
    workload: Workload, neighbours: Neighbours, distance: str
) -> npt.NDArray[np.float32]:
    """[U * K, k] float32 of ``neighbours``."""
    if distance != "euclidean":
        return (distance == "angular") - neighbours.scores
    # the root of a score, which is a difference of large sums, would be far off for near items
    distances = np.empty(neighbours.ids.shape, np.float32)
    for start in range(0, len(distances), BLOCK):
        block = slice(start, start + BLOCK)
        apart = workload.vectors[neighbours.ids[block]] - workload.queries[block, None]
        distances[block] = np.linalg.norm(apart, axis=2)
    return distances


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise UserError(
            "the export for ann-benchmarks needs h5py: pip install 'paddlerec-milvus[bench]'"
        ) from error
