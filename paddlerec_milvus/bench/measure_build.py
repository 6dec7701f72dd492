# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One index, built once and waited for: seconds of each stage, memory, disk, what looks wrong."""

from __future__ import annotations

from paddlerec_milvus.bench.memory_estimate import MIB, estimate_mib
from paddlerec_milvus.bench.results import BuildMeasurement, SegmentInfo
from paddlerec_milvus.bench.servers import BenchServer, Target
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.retrieval.indexes import ROWS_A_CELL, most_cells
from paddlerec_milvus.retrieval.milvus import Segment

SMALLEST_SEGMENT = 1_024  # rows; a server gives a smaller one no index


def measure_build(
    place: BenchServer, target: Target, workload: Workload
) -> tuple[BuildMeasurement, str]:
    """Build an index, and the server's version; it then holds this index and nothing else.

    Memory is read from a server of our own that was started again on what was built, and so holds
    no trace of building. RetrievalError: Milvus is away, or (RefusedError) has no such index.
    """
    empty, empty_disk = place.rss_mib(), place.disk_mib()
    rows, dimension = workload.vectors.shape
    with target.connect() as retriever:
        times = retriever.versions.build(workload.vectors, workload.ids)
    place.restart()
    with target.connect() as retriever:
        retriever.open(rows=rows)
        retriever.search(workload.queries[:256], 10)  # lazy parts are loaded, too
        segments = retriever.segments()
        version = retriever.server_version()
    memory, disk = place.rss_mib(), place.disk_mib()
    measurement = BuildMeasurement(
        insert_seconds=times.insert_seconds,
        compact_seconds=times.compact_seconds,
        index_seconds=times.index_seconds,
        load_seconds=times.load_seconds,
        rows=times.rows,
        segments=[SegmentInfo(rows=part.rows, indexed=part.indexed) for part in segments],
        rss_mib=memory,
        rss_empty_mib=empty,
        disk_mib=disk,
        disk_empty_mib=empty_disk,
        rss_bytes_per_vector=_per_vector(memory, empty, rows),
        disk_bytes_per_vector=_per_vector(disk, empty_disk, rows),
        estimate_mib=estimate_mib(target.index, rows, dimension),
        warnings=_warnings(place, target, rows, segments),
    )
    return measurement, version


def _per_vector(whole: float | None, empty: float | None, rows: int) -> float | None:
    """Bytes that ``rows`` add to an empty server; None where it cannot be seen."""
    return None if whole is None or empty is None else (whole - empty) * MIB / rows


def _warnings(place: BenchServer, target: Target, rows: int, segments: list[Segment]) -> list[str]:
    warnings = []
    cells = int(target.index.build_params().get("nlist", 0))
    if cells > most_cells(rows):
        warnings.append(
            f"nlist {cells} on {rows:,} rows: Milvus makes at most a cell for {ROWS_A_CELL} rows, "
            f"that is {most_cells(rows)}, and says nothing"
        )
    growing = [part.rows for part in segments if not part.flushed]
    if growing:
        warnings.append(f"{sum(growing):,} rows are not flushed: searched without the index")
    bare = [part.rows for part in segments if part.flushed and not part.indexed]
    if bare and target.index.type_name != "FLAT":
        warnings.append(
            f"{len(bare)} segments ({sum(bare):,} rows) have no index, as those below "
            f"{SMALLEST_SEGMENT:,} rows never get: they are searched one by one, and parameters "
            "have no effect on them"
        )
    if place.kind == "lite":
        warnings.append("Milvus Lite serves one process: measured with one client, in this process")
    return warnings
