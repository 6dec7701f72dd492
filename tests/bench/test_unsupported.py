# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What Milvus refuses is a row only where the index or the parameter is what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from paddlerec_milvus.bench.measure_build import Target
from paddlerec_milvus.bench.results import Refusal, Result
from paddlerec_milvus.bench.results_file import ResultsFile, read_rows
from paddlerec_milvus.bench.sweep_config import load_workload, read_sweep
from paddlerec_milvus.bench.sweep_runner import SweepRunner
from paddlerec_milvus.bench.unsupported import check_search_refused
from paddlerec_milvus.bench.workload import synthetic_workload
from paddlerec_milvus.errors import RefusedError, RetrievalError
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.indexes import (
    AutoIndex,
    Hnsw,
    Index,
    IvfFlat,
    IvfPq,
    IvfSq8,
    Scann,
)

SWEEP: dict[str, Any] = {
    "data": {"synthetic": {"items": 300, "dimension": 8, "users": 5, "interests": 2}},
    "server": "lite",
    "k": 10,
    "indexes": [{"type": "HNSW", "build": {"M": 8}, "search": {"ef": [10, 20]}}],
    "measure": {"requests": 5, "warm_up": 0, "seconds": 0.05, "repetitions": 1, "batches": []},
}


def measured(folder: Path, **changed: Any) -> list[Result]:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(SWEEP | changed))
    sweep = read_sweep(file)
    with ResultsFile(folder / "out") as rows:
        SweepRunner(sweep, load_workload(sweep), rows)()
    return read_rows(folder / "out")


def failing(monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> None:
    """The first ``times`` calls ``name`` are refused as by a server whose disk is full."""
    real, left = Connection.call, [times]

    def call(self: Connection, asked: str, *arguments: Any, **options: Any) -> Any:
        if asked == name and left[0]:
            left[0] -= 1
            raise RefusedError(f"Milvus refused '{name}': disk quota exceeded")
        return real(self, asked, *arguments, **options)

    monkeypatch.setattr(Connection, "call", call)


def test_an_index_that_is_lacked_is_a_row(tmp_path: Path) -> None:
    lacked = [{"type": "IVF_PQ", "build": {"nlist": 16, "m": 4}}, {"type": "FLAT"}]
    rows = measured(tmp_path, indexes=lacked)
    assert [row.kind for row in rows] == ["refused", "build", "point"]
    assert isinstance(rows[0], Refusal)
    assert rows[0].what == "build"
    assert "IVF_PQ" in rows[0].reason
    assert measured(tmp_path, indexes=lacked) == rows  # not tried again


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (1, r"quota exceeded\. On 300 rows the same index was built right after, so this may pass"),
        (9, r"quota exceeded\. FLAT on a few rows cannot be built either \(.*quota exceeded\)"),
    ],
)
def test_a_build_that_a_full_disk_refuses_is_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, said: str
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, "insert", times)
        with pytest.raises(RetrievalError, match=said):
            measured(tmp_path)
    assert not (tmp_path / "out" / "rows.jsonl").exists()
    assert [row.kind for row in measured(tmp_path)] == ["build", "point", "point", "repeat"]


@pytest.mark.parametrize("times", [1, 9])
def test_a_search_that_a_quota_refuses_is_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    assert [row.kind for row in measured(tmp_path)] == ["build", "point", "point", "repeat"]
    file = tmp_path / "out" / "rows.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    real = SweepRunner._search

    def refused(self: SweepRunner, *arguments: Any) -> None:
        failing(patched, "search", times)
        real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(SweepRunner, "_search", refused)
        with pytest.raises(RetrievalError, match=r"so this may pass|so this is no matter of"):
            measured(tmp_path)
    assert len(read_rows(tmp_path / "out")) == 2
    rows = measured(tmp_path)
    assert ["refused" in row for row in rows] == [False] * 4


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize(
    "index",
    [IvfFlat(16, 4), IvfSq8(16, 4), IvfPq(16, 4, m=4), Scann(16, 4), Hnsw(), AutoIndex()],
    ids=lambda index: index.type_name,
)
def test_a_server_searches_each_type_without_parameters(server: Any, index: Index) -> None:
    work = synthetic_workload(
        items=2_000, dimension=8, users=5, interests=2, clusters=5, spread=0.5, norm_skew=0.0,
        metric="IP", seed=1,
    )  # fmt: skip
    problem = RefusedError("no such parameter")
    with Target(server.uri, "bench_refusals", "IP", index, 30.0).connect() as retriever:
        retriever.versions.build(work.vectors, work.ids)
        retriever.open()
        with pytest.raises(RetrievalError, match="Asked again for one vector it answered"):
            check_search_refused(retriever, index, work, 100, problem)
        if isinstance(index, Hnsw):  # an ef below k
            object.__setattr__(index, "reaching_k", "")
            object.__setattr__(index, "ef", 5)
            check_search_refused(retriever, index, work, 100, problem)
        retriever.versions.drop()
