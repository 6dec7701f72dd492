# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Exports, read back by the formats' own libraries and compared with FAISS' exact search."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from paddlerec_milvus.bench import export
from paddlerec_milvus.bench.export import about_file, export_ann_benchmarks, export_vectordbbench
from paddlerec_milvus.bench.workload import Workload, synthetic_workload
from paddlerec_milvus.errors import SettingsError, UserError
from paddlerec_milvus.retrieval.base import METRICS
from paddlerec_milvus.retrieval.exact import normalised

faiss: Any = pytest.importorskip("faiss")
h5py: Any = pytest.importorskip("h5py")
K = 10
SKEWED = 0.5


def workload(metric: str, norm_skew: float = SKEWED) -> Workload:
    made = synthetic_workload(
        items=500,
        dimension=16,
        users=12,
        interests=3,
        clusters=10,
        spread=0.8,
        norm_skew=norm_skew,
        metric=metric,
        seed=2,
    )
    return replace(made, ids=made.ids[::-1] * 3)


def by_faiss(given: Workload) -> Any:
    """FAISS' own values and rows: squared distances for L2, inner products or cosines else."""
    vectors, queries = given.vectors, given.queries
    if given.metric == "COSINE":
        vectors, queries = normalised(vectors), normalised(queries)
    measure = faiss.METRIC_L2 if given.metric == "L2" else faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexFlat(vectors.shape[1], measure)
    index.add(np.ascontiguousarray(vectors))
    return index.search(np.ascontiguousarray(queries), K)


@pytest.mark.parametrize("metric", METRICS)
def test_vectordbbench_reads_it(tmp_path: Path, metric: str) -> None:
    given = workload(metric)
    files = export_vectordbbench(given, K, tmp_path / "set")
    assert sorted(files) == sorted((tmp_path / "set").iterdir())
    train, test, neighbours = (pl.read_parquet(file) for file in files[:3])
    assert train.schema == test.schema == {"id": pl.Int64, "emb": pl.List(pl.Float32)}
    assert neighbours.schema == {"id": pl.Int64, "neighbors_id": pl.List(pl.Int64)}
    assert train["id"].to_list() == list(range(500))
    assert test["id"].to_list() == neighbours["id"].to_list() == list(range(36))
    np.testing.assert_array_equal(np.array(train["emb"].to_list(), np.float32), given.vectors)
    np.testing.assert_array_equal(np.array(test["emb"].to_list(), np.float32), given.queries)
    found = np.array(neighbours["neighbors_id"].to_list())
    np.testing.assert_array_equal(found, by_faiss(given)[1])

    about = json.loads(files[3].read_text())
    assert about["data"]["fingerprint"] == given.fingerprint
    assert about["item_of_row"] == given.ids.tolist()
    assert about["custom_dataset"]["metric_type"] == metric
    assert (about["custom_dataset"]["size"], about["custom_dataset"]["dim"]) == (500, 16)


@pytest.mark.parametrize(
    ("metric", "norm_skew", "distance"),
    [
        ("COSINE", SKEWED, "angular"),
        ("L2", SKEWED, "euclidean"),
        ("IP", SKEWED, "dot"),
        ("IP", 0.0, "angular"),  # of unit vectors: what ann-benchmarks can measure
    ],
)
def test_ann_benchmarks_reads_it(
    tmp_path: Path, metric: str, norm_skew: float, distance: str
) -> None:
    given = workload(metric, norm_skew)
    file = export_ann_benchmarks(given, K, tmp_path / "new" / "set.hdf5")
    values, rows = by_faiss(given)
    if distance == "euclidean":
        distances = np.sqrt(values)
    else:
        distances = -values if distance == "dot" else 1 - values
    with h5py.File(file) as read:
        assert dict(read.attrs) == {
            "type": "dense",
            "distance": distance,
            "dimension": 16,
            "point_type": "float",
        }
        kinds = {name: (each.shape, each.dtype) for name, each in read.items()}
        assert kinds == {
            "train": ((500, 16), np.float32),
            "test": ((36, 16), np.float32),
            "neighbors": ((36, K), np.int32),
            "distances": ((36, K), np.float32),
        }
        np.testing.assert_array_equal(read["train"], given.vectors)
        np.testing.assert_array_equal(read["test"], given.queries)
        np.testing.assert_array_equal(read["neighbors"], rows)
        np.testing.assert_allclose(read["distances"], distances, atol=2e-4)
    about = json.loads(about_file(file).read_text())
    assert about["item_of_row"] == given.ids.tolist()
    assert about["distances"].startswith(distance)


def test_near_items_have_right_euclidean_distances(tmp_path: Path) -> None:
    """A query that is an item, far from the origin: its distance is 0, not the root of noise."""
    given = workload("L2")
    asked = (given.vectors[:36] + 100).reshape(12, 3, 16)
    given = replace(given, vectors=given.vectors + 100, interests=asked)
    with h5py.File(export_ann_benchmarks(given, K, tmp_path / "set.hdf5")) as read:
        rows, distances = read["neighbors"][:], read["distances"][:]
    own = rows == np.arange(36)[:, None]
    assert own.any(axis=1).all()
    assert (distances[own] == 0).all()


def test_an_export_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file = tmp_path / "set", tmp_path / "set.hdf5"
    first, second = workload("IP"), workload("COSINE")
    for given in (first, second):
        export_vectordbbench(given, K, folder)
        export_ann_benchmarks(given, K, file)
    assert json.loads((folder / "about.json").read_text())["data"]["metric"] == "COSINE"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = {each: each.read_bytes() for each in [*folder.iterdir(), file]}
    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    monkeypatch.setattr(export, "_distances", full)
    with pytest.raises(UserError, match="No space left"):
        export_vectordbbench(first, K, folder)
    with pytest.raises(UserError, match="No space left"):
        export_ann_benchmarks(first, K, file)
    assert {each: each.read_bytes() for each in before} == before
    assert sorted(tmp_path.iterdir()) == sorted([folder, file, about_file(file)])


def test_what_cannot_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = workload("IP")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingsError, match="something else than an export"):
        export_vectordbbench(given, K, mine)
    assert (mine / "thesis.txt").exists()
    with pytest.raises(SettingsError, match="k: 501 neighbours of 500 items"):
        export_vectordbbench(given, 501, tmp_path / "set")
    with pytest.raises(SettingsError, match="k: 501 neighbours of 500 items"):
        export_ann_benchmarks(given, 501, tmp_path / "set.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"pip install 'paddlerec-milvus\[bench\]'"):
        export_ann_benchmarks(given, K, tmp_path / "set.hdf5")
    assert list(tmp_path.iterdir()) == [mine]
