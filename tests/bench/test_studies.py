# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""StudyRunner: their section is checked before anything is built, and each goes on row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from paddlerec_milvus.bench.cli import main
from paddlerec_milvus.bench.results import (
    StudyMeasurement,
    StudyParams,
    StudyResult,
    StudyValues,
)
from paddlerec_milvus.bench.results_file import FILE, ResultsFile, read_rows
from paddlerec_milvus.bench.studies import StudyRunner, _excluded, run_studies
from paddlerec_milvus.bench.study_checks import check_studies
from paddlerec_milvus.bench.sweep_config import load_workload, read_sweep
from paddlerec_milvus.bench.sweep_runner import SweepRunner
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw

SYNTHETIC = {"items": 300, "dimension": 8, "users": 10, "interests": 2, "clusters": 5}


def written(folder: Path, studies: dict[str, Any], **changed: Any) -> Path:
    file = folder / "mine.yaml"
    plain = {"data": {"synthetic": SYNTHETIC}, "indexes": [{"type": "FLAT"}], "server": "lite"}
    file.write_text(yaml.safe_dump(plain | {"studies": studies} | changed))
    return file


@pytest.mark.parametrize(
    ("studies", "said"),
    [
        ({"index": {"type": "HNWS"}}, "studies.index.type: 'HNWS' is not known (did you mean"),
        ({"index": {"type": "HNSW", "m": 8}}, "studies.index.m: HNSW has no such parameter"),
        (
            {"index": {"type": "HNSW", "efConstructon": 8}},
            "studies.index.efConstructon: no index has this parameter (did you mean",
        ),
        ({"index": {"type": "HNSW", "ef": "1OO"}}, "studies.index.ef: '1OO' cannot be used"),
        ({"index": {"type": "HNSW", "ef": 49}}, "studies.index: ef 49 is below k 50"),
        (
            {"index": {"type": "IVF_FLAT", "nlist": 4, "nprobe": 8}},
            "studies.index.nprobe: 8 is more than studies.index.nlist: 4",
        ),
        (
            {"index": {"type": "IVF_FLAT", "nlist": 301}, "exclude_ids": [0]},
            "studies.index.nlist: 301 cells on the 300 items of the data",
        ),
        (
            {"index": {"type": "IVF_FLAT", "nlist": 512}, "scale_items": [1000, 500]},
            "studies.index.nlist: 512 cells on the 500 items of studies.scale_items",
        ),
        ({"scale_items": [1000, 49]}, "studies.scale_items: 50 neighbours of 49 items"),
        (
            {"exclude_ids": [16_335]},
            "studies.exclude_ids: 16,335 and k 50 are more than the 16,384 neighbours",
        ),
        ({"exclude_ids": [0, 251]}, "studies.exclude_ids: without 251 of 300 items less than k"),
        ({"replaced_shares": [0.001]}, "studies.replaced_shares: 0.001 of 300 items is not one"),
        ({"upsert_rates": [100]}, "studies.upsert_rates: another process writes there, and Milvus"),
    ],
)
def test_a_mistake_is_said_before_anything_is_built(tmp_path, capsys, studies, said):
    out = tmp_path / "out"
    assert main(["-s", str(written(tmp_path, studies)), "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_what_is_not_asked_for_is_not_checked(tmp_path):
    check_studies(read_sweep(written(tmp_path, {}, k=200)))  # the ef of the default is 128


@pytest.mark.parametrize(
    ("studies", "names", "lost"),
    [
        ({"exclude_ids": [20]}, ["over-fetching", "filter"], 1),
        ({"replaced_shares": [0.5]}, ["just upserted", "built again"], 1),
        ({"freshness_tries": 1}, ["Strong", "Bounded", "Session", "Eventually"], 3),
    ],
)
def test_a_row_that_was_lost_is_measured_again(tmp_path, monkeypatch, studies, names, lost):
    def study(self: StudyRunner, value: float) -> Iterator[StudyMeasurement]:
        for name in names:
            params, values = StudyParams(by=name), StudyValues(p50=1.0)
            yield StudyMeasurement(study="any", params=params, values=values)

    for name in ("exclusion", "replacement", "freshness"):
        monkeypatch.setattr(StudyRunner, name, study)
    sweep = read_sweep(written(tmp_path, studies))
    work, out = load_workload(sweep), tmp_path / "out"

    def measured() -> list[StudyResult]:
        with ResultsFile(out) as rows:
            run_studies(SweepRunner(sweep, work, rows))
        return [row for row in read_rows(out) if isinstance(row, StudyResult)]

    rows = measured()
    assert [row.measured.params.by for row in rows] == names
    lines = (out / FILE).read_text().splitlines(keepends=True)
    (out / FILE).write_text("".join(lines[:-lost]))  # the disk was full after the others
    again = measured()
    assert [(row.key, row.measured.params) for row in again] == [
        (row.key, row.measured.params) for row in rows
    ]
    assert again[:-lost] == rows[:-lost]
    assert measured() == again


def test_a_line_says_which_ef_its_searches_had(tmp_path, monkeypatch):
    """What is excluded is fetched beside it, 128 hits and then 1,024, and ef has to reach them."""
    data = {"synthetic": SYNTHETIC | {"interests": 1}}
    measure = {"requests": 2, "warm_up": 1}
    sweep = read_sweep(written(tmp_path, {}, data=data, k=10, measure=measure))
    work = load_workload(sweep)
    exact = ExactRetriever(work.vectors, work.ids)
    monkeypatch.setattr(StudyRunner, "_connected", lambda self: nullcontext(exact))

    def searched_with(index, ids):
        lines = StudyRunner(sweep, work, index, None).exclusion(ids)
        return {line.params.by: line.values.searched_with for line in lines}

    assert searched_with(Hnsw(ef=20), 0) == {"over-fetching": "ef 20", "filter": "ef 20"}
    assert searched_with(Hnsw(ef=20), 100) == {"over-fetching": "ef 138", "filter": "ef 20"}
    assert searched_with(Hnsw(ef=20), 200) == {
        "over-fetching": "ef 138 to 1,034",
        "filter": "ef 20",
    }
    assert searched_with(Flat(), 100) == {"over-fetching": None, "filter": None}


def test_who_excludes_nearly_all_that_a_query_may_find():
    ids = np.arange(1, 16_501)
    vectors = np.random.default_rng(1).standard_normal((len(ids), 2), dtype=np.float32)
    history = ids[:200]
    work = Workload("any", vectors, ids, vectors[None, :1], "IP", histories=[history])
    exact = ExactRetriever(vectors, ids)
    nearest = exact.search(vectors[:1], 400).ids[0]
    expected = [*history[::-1], *(item for item in nearest if item not in history)]
    few = _excluded(work, exact, 0, 300)
    assert few.tolist() == expected[:300]
    most = _excluded(work, exact, 0, 16_300)  # with the history more than the 16,384 of a query
    assert len(set(most.tolist())) == len(most) == 16_300
    assert most[:200].tolist() == history[::-1].tolist()
