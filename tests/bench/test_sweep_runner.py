# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A whole run on the real server, on Lite, and what a second run over the first does."""

import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from paddlerec_milvus.bench import sweep_runner
from paddlerec_milvus.bench.cli import main
from paddlerec_milvus.bench.measure_build import BenchServer, measure_build
from paddlerec_milvus.bench.measure_search import exact_of
from paddlerec_milvus.bench.results import SegmentInfo, StudyMeasurement, StudyParams, StudyValues
from paddlerec_milvus.bench.results_file import FILE, ResultsFile, read_rows
from paddlerec_milvus.bench.scale import fitted, line_through
from paddlerec_milvus.bench.sweep_config import load_workload, read_sweep
from paddlerec_milvus.bench.sweep_runner import Progress, SweepRunner
from paddlerec_milvus.bench.workload import synthetic_workload
from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.retrieval.indexes import Hnsw, IvfFlat
from paddlerec_milvus.retrieval.server import LocalMilvus

PLACE = "paddlerec_milvus.bench.measure_build"
SYNTHETIC = {"items": 3_000, "dimension": 8, "users": 30, "interests": 3, "clusters": 20}
SWEEP: dict[str, Any] = {
    "data": {"synthetic": SYNTHETIC},
    "k": 10,
    "indexes": [
        {"type": "FLAT"},
        {"type": "IVF_FLAT", "build": {"nlist": 16}, "search": {"nprobe": [1, 16]}},
        {"type": "HNSW_SQ", "build": {"M": 8}},
    ],
    "measure": {
        "requests": 20,
        "warm_up": 2,
        "clients": [1, 2],
        "seconds": 0.1,
        "repetitions": 1,
        "batches": [4],
        "rates": [50],
    },
    "floor": ["faiss"],
}


def written(folder: Path, **changed: Any) -> Path:
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(SWEEP | changed))
    return file


def by_kind(rows: list[Any], kind: str) -> list[Any]:
    return [row for row in rows if row.kind == kind]


@pytest.mark.slow
@pytest.mark.server
def test_a_sweep_on_a_server(server, tmp_path, capsys):
    out = tmp_path / "out"
    asked = ["-s", str(written(tmp_path, server=server.uri)), "--out", str(out)]
    assert main(asked) == 0
    rows = read_rows(out)
    flat, narrow, whole = by_kind(rows, "point")
    for exact in (flat, whole):  # FLAT, and all 16 cells
        assert exact.measured.quality.index_recall.list.mean == 1
        assert exact.measured.quality.short_lists == 0
    assert narrow.measured.quality.index_recall.list.mean < 1
    assert narrow.measured.latency.requests == 20
    assert [each.clients for each in narrow.measured.throughput] == [1, 2]
    assert narrow.measured.open_loop[0].planned == 20
    assert narrow.measured.batches[0].users == 4
    refused = by_kind(rows, "refused")
    assert [(row.what, row.index_type) for row in refused] == [("build", "HNSW_SQ")]
    assert {row.engine for row in by_kind(rows, "floor")} == {"faiss"}
    assert len(by_kind(rows, "floor")) == 3
    assert [row.index_type for row in by_kind(rows, "repeat")] == ["FLAT"]
    same = {row.search.get("nprobe"): row.measured.index_recall for row in by_kind(rows, "floor")}
    assert same[16].list.mean == 1
    for row in rows:
        assert row.provenance.data.fingerprint
        assert row.provenance.machine["cores"]
        assert row.provenance.seed == 1
    assert {
        "report.html",
        "report.md",
        "report.png",
        "report.csv",
        "report.json",
        "sweep.yaml",
    } <= {file.name for file in out.iterdir()}
    assert "IVF_FLAT" in capsys.readouterr().out

    # killed before the last two rows were written: those alone are measured again
    lines = (out / FILE).read_text().splitlines(keepends=True)
    (out / FILE).write_text("".join(lines[:-2]))
    assert main(asked) == 0
    again = read_rows(out)
    assert [row.key for row in again] == [row.key for row in rows]
    assert again[:-2] == rows[:-2]
    assert again[-2:] != rows[-2:]

    # and a third time nothing is
    assert main(asked) == 0
    assert read_rows(out) == again

    assert main([*asked, "--seed", "2"]) == 2
    assert "holds rows of other data" in capsys.readouterr().err
    assert main(["--compare", str(out), str(out)]) == 0
    assert main(["--report", str(out)]) == 0


@pytest.mark.slow
def test_a_sweep_on_lite_has_one_client(tmp_path):
    indexes = [{"type": "HNSW", "build": {"M": 8}, "search": {"ef": [10, 50]}}]
    out = tmp_path / "out"
    file = written(tmp_path, server="lite", indexes=indexes, floor=[])
    assert main(["-s", str(file), "--out", str(out)]) == 0
    rows = read_rows(out)
    (build,) = by_kind(rows, "build")
    assert "Milvus Lite serves one process" in build.build.warnings[0]
    for point in by_kind(rows, "point"):
        assert [each.clients for each in point.measured.throughput] == [1]
        assert point.measured.warnings == []
        assert 0 <= point.measured.machine_state.load <= 2
    (repeat,) = by_kind(rows, "repeat")
    assert (rows[-1], repeat.search) == (repeat, {"ef": 10})

    # ended before the first setting was timed again: that is all that is left
    lines = (out / FILE).read_text().splitlines(keepends=True)
    (out / FILE).write_text("".join(lines[:-1]))
    sweep = read_sweep(file)
    with ResultsFile(out) as results:
        SweepRunner(sweep, load_workload(sweep), results)()
    assert read_rows(out)[:-1] == rows[:-1]
    assert read_rows(out)[-1].key == repeat.key


def test_progress_is_lines_where_there_is_no_terminal(capsys):
    with Progress(3, "rows", done=1) as progress:
        progress.start("HNSW M 8, ef 10")
        progress.advance()
        progress.start("HNSW M 8, ef 50")
        progress.advance()
    lines = [re.sub(r", \d+ s:", ":", line) for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "1 of 3 rows: HNSW M 8, ef 10",
        "2 of 3 rows: HNSW M 8, ef 50",
        "3 of 3 rows: done",
    ]


def test_what_an_engine_refuses_to_search_is_a_row(tmp_path, monkeypatch):
    def refuse(queries, k, index):
        raise RefusedError("faiss HNSW: cannot be searched: ef is too small")

    library = SimpleNamespace(engine="faiss", search=refuse)
    monkeypatch.setattr(sweep_runner, "LibraryIndex", lambda *given: library)
    grid = {"type": "HNSW", "build": {"M": 8}, "search": {"ef": [10, 50]}}
    sweep = read_sweep(written(tmp_path, server="lite", indexes=[grid]))
    work, out = load_workload(sweep), tmp_path / "out"
    with ResultsFile(out) as rows:
        runner = SweepRunner(sweep, work, rows)
        with Progress(2, "rows") as runner.progress:
            runner._floor(runner.builds[0], exact_of(work, sweep.k))
    assert [(row.kind, row.what, row.engine, row.search) for row in read_rows(out)] == [
        ("refused", "floor", "faiss", {"ef": 10}),
        ("refused", "floor", "faiss", {"ef": 50}),
    ]


def test_a_server_that_is_away(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(f"{PLACE}.CONNECT_SECONDS", 0.5)
    file = written(tmp_path, server="http://127.0.0.1:9", floor=[])
    assert main(["-s", str(file), "--plan"]) == 0
    assert "3 builds, 4 search settings" in capsys.readouterr().out
    assert main(["-s", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "Milvus at http://127.0.0.1:9 refuses connections" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.server
def test_studies(server, tmp_path):
    studies = {
        "index": {"type": "HNSW", "M": 8, "efConstruction": 100, "ef": 64},
        "exclude_ids": [0, 20],
        "filter_shares": [0.5],
        "upsert_rates": [100],
        "replaced_shares": [0.2],
        "freshness_tries": 1,
        "scale_items": [2_000, 4_000],
    }
    out = tmp_path / "out"
    measure = SWEEP["measure"] | {"requests": 500}  # so many that rows are written beside them
    file = written(
        tmp_path,
        **{"server": server.uri, "studies": studies, "measure": measure},
        indexes=[{"type": "FLAT"}],
        floor=[],
    )
    assert main(["-s", str(file), "--out", str(out)]) == 0
    found = [row.measured for row in by_kind(read_rows(out), "study")]
    names = [row.study for row in found]
    assert names == [
        *["exclusion"] * 4,
        "upserts",
        *["freshness"] * 4,
        "filter",
        *["replacement"] * 2,
        *["scale"] * 3,
    ]
    for row in found[:4]:  # by over-fetching or a filter, at 0 and 20 ids: no list is short
        assert row.values.short_lists == 0
        assert row.values.index_recall > 0.9
    assert found[4].values.rows_written_per_second > 0
    assert {row.params.consistency for row in found[5:9]} == {
        "Strong",
        "Bounded",
        "Session",
        "Eventually",
    }
    assert found[10].params.state == "just upserted"
    assert found[10].values.index_recall > 0.9  # of the new vectors
    assert found[-1].params.items == 10_000_000

    assert main(["-s", str(file), "--out", str(out)]) == 0
    assert len(by_kind(read_rows(out), "study")) == len(found)


@pytest.mark.slow
@pytest.mark.server
def test_a_server_that_dies_in_the_middle(tmp_path, capsys, monkeypatch):
    out, data = tmp_path / "out", tmp_path / "server"
    with LocalMilvus(data) as server:
        grid = {"type": "IVF_FLAT", "build": {"nlist": 16}, "search": {"nprobe": [1, 2, 4, 8, 16]}}
        file = written(tmp_path, server=server.uri, indexes=[grid], floor=[])
        asked = ["-s", str(file), "--out", str(out)]

        def kill_after_two_points() -> None:
            while len(by_kind(read_rows(out) if (out / FILE).exists() else [], "point")) < 2:
                time.sleep(0.05)
            for child in psutil.Process(server.process_id).children(recursive=True):
                child.kill()

        killer = threading.Thread(target=kill_after_two_points)
        killer.start()
        with monkeypatch.context() as patience:
            patience.setattr(f"{PLACE}.TIMEOUT_SECONDS", 3.0)
            assert main(asked) == 2
        killer.join()
    said = capsys.readouterr().err
    assert server.uri in said
    assert "Traceback" not in said
    before = read_rows(out)
    assert 2 <= len(by_kind(before, "point")) < 5
    # a Milvus that was killed reads its log first: it may answer after the ten seconds of others
    monkeypatch.setattr(f"{PLACE}.CONNECT_SECONDS", 120.0)
    with LocalMilvus(data, port=server.port):
        assert main(asked) == 0
    after = read_rows(out)
    assert after[: len(before)] == before
    assert len(by_kind(after, "point")) == 5


def test_growth_on_paper():
    # memory 100 + 2 a thousand; insert 3 s and 16 a million; a latency to the power 0.1
    rows = [
        StudyMeasurement(
            study="scale",
            params=StudyParams(items=n),
            values=StudyValues(rss_mib=100 + n / 500, insert_seconds=3 + 16e-6 * n, p99=n**0.1),
        )
        for n in (1_000, 10_000, 100_000)
    ]
    found = fitted(rows, 1_000_000)
    assert found.rss_mib == pytest.approx(2_100)
    assert found.insert_seconds == pytest.approx(19)
    assert found.p99 == pytest.approx(1_000_000**0.1)


def test_growth_has_no_negative_part():
    x = np.array([1.0, 2.0, 3.0])
    # 0, 2, 5 is nearest to -2.67 + 2.5 x; through the origin to (0 + 4 + 15) / 14 x
    assert line_through(x, np.array([0.0, 2.0, 5.0])) == pytest.approx((0, 19 / 14))
    assert line_through(x, np.array([3.0, 2.0, 1.0])) == pytest.approx((2, 0))
    assert line_through(x, np.array([3.0, 5.0, 7.0])) == pytest.approx((1, 2))


@pytest.mark.slow
@pytest.mark.server
def test_a_server_of_its_own_shows_its_memory_and_is_removed(tmp_path):
    work = synthetic_workload(
        items=2_000, dimension=8, users=5, interests=2, clusters=5, spread=0.5, norm_skew=0.0,
        metric="IP", seed=1,
    )  # fmt: skip
    with BenchServer("local", tmp_path) as place:
        folder = place._folder
        row, _ = measure_build(place, place.target("IP", Hnsw()), work)
        assert row.rss_mib > 50
        assert row.disk_mib > 0
        assert row.segments == [SegmentInfo(rows=2_000, indexed=True)]
        assert row.warnings == []
        with place.target("IP", Hnsw()).connect() as retriever:
            retriever.open()
            assert retriever.count() == 2_000
    assert not folder.exists()


@pytest.mark.server
def test_a_build_says_what_looks_wrong(server, tmp_path):
    work = synthetic_workload(
        items=500, dimension=8, users=5, interests=2, clusters=5, spread=0.5, norm_skew=0.0,
        metric="IP", seed=1,
    )  # fmt: skip
    with BenchServer(server.uri, tmp_path) as place:
        row, _ = measure_build(place, place.target("IP", IvfFlat(nlist=64, nprobe=1)), work)
    assert row.segments == [SegmentInfo(rows=500, indexed=False)]
    cells, bare = row.warnings
    assert "at most a cell for 39 rows, that is 12" in cells
    assert "1 segments (500 rows) have no index" in bare
    assert row.rss_mib is None
