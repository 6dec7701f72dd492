# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A writer that does not write is said, and never a rate of nought."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from paddlerec_milvus.bench import write_load as writer
from paddlerec_milvus.bench.measure_build import Target
from paddlerec_milvus.bench.workload import Workload, synthetic_workload
from paddlerec_milvus.bench.write_load import Writer
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.indexes import Flat


@pytest.fixture
def work() -> Workload:
    return synthetic_workload(
        items=300, dimension=8, users=5, interests=2, clusters=5, spread=0.5, norm_skew=0.0,
        metric="IP", seed=1,
    )  # fmt: skip


def test_a_lite_that_this_process_uses_takes_no_writer(tmp_path: Path, work: Workload) -> None:
    target = Target(str(tmp_path / "bench.db"), "bench", "IP", Flat(), 10.0)
    with target.connect() as retriever:
        retriever.versions.build(work.vectors, work.ids)
        with pytest.raises(RetrievalError, match=r"ended early: .*in use by another process"):
            Writer(target, work, 100).__enter__()


@pytest.mark.server
def test_a_writer_that_dies_is_said(server: Any, work: Workload) -> None:
    target = Target(server.uri, "bench_writer", "IP", Flat(), 30.0)
    with target.connect() as retriever:
        retriever.versions.build(work.vectors, work.ids)
        with Writer(target, work, 1_000) as writing:
            while writing._written.value == writing._first:
                pass
            assert writing.rate() > 0
            psutil.Process(writing._process.pid).kill()
            writing._process.join()
            with pytest.raises(RetrievalError, match="ended early: exit code -9"):
                writing.rate()
        retriever.versions.drop()


@pytest.mark.server
def test_a_writer_that_writes_nothing_is_given_up(
    server: Any, work: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FIRST_SECONDS", 0.0)
    target = Target(server.uri, "bench_writer", "IP", Flat(), 30.0)
    with target.connect() as retriever:
        retriever.versions.build(work.vectors, work.ids)
        with pytest.raises(RetrievalError, match="no row was written in 0 s"):
            Writer(target, work, 1_000).__enter__()
        retriever.versions.drop()
