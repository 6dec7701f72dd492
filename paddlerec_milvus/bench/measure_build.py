# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One index on a Milvus of its own: built and waited for, seconds of each stage, memory, disk."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import psutil

from paddlerec_milvus.bench.results import BuildMeasurement, SegmentInfo
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.build import BuildTimes
from paddlerec_milvus.retrieval.indexes import ROWS_A_CELL, Flat, Index, most_cells
from paddlerec_milvus.retrieval.memory_estimate import MIB, estimate_mib
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus
from paddlerec_milvus.retrieval.stored_rows import Segment

CONNECT_SECONDS = 10.0
TIMEOUT_SECONDS = 120.0  # of one call: a thousand exact searches in a large collection take long


@dataclass(frozen=True)
class Target:
    """The collection that is searched."""

    uri: str
    collection: str
    metric: str
    index: Index
    timeout: float
    token: str = ""

    def connect(self) -> MilvusRetriever:
        """A retriever on it, for the caller to close."""
        return MilvusRetriever(
            self.uri,
            self.collection,
            token=self.token,
            timeout=self.timeout,
            metric=self.metric,
            index=self.index,
        )


class BenchServer:
    """A Milvus for one build, as a context manager; what it stored is removed at the end.

    ``server`` is ``local`` (a fresh server, whose memory and disk can be seen), ``lite`` (its disk
    can), or the uri of a running one (neither can). ``owner`` is a folder that one run alone has:
    on a server that several runs know, each has its own collection.
    """

    def __init__(self, server: str, owner: Path) -> None:
        self.kind = server if server in ("local", "lite") else "uri"
        self._uri = server
        name = f"{socket.gethostname()}:{owner.resolve()}"
        self._collection = f"bench_{sha256(name.encode()).hexdigest()[:8]}"
        self._folder = Path()
        self._server: LocalMilvus | None = None

    def __enter__(self) -> BenchServer:
        if self.kind == "uri":  # a mistyped one is said soon
            replace(self.target("IP", Flat()), timeout=CONNECT_SECONDS).connect().close()
        else:
            self._folder = Path(tempfile.mkdtemp(prefix="paddlerec-milvus-bench-"))
        if self.kind == "local":
            self._server = LocalMilvus(self._folder / "server")
            try:
                self._server.start()
            except BaseException:
                self._remove()
                raise
        return self

    def __exit__(self, *problem: object) -> None:
        if self.kind == "uri":
            with suppress(RetrievalError), self.target("IP", Flat()).connect() as retriever:
                retriever.versions.drop()
        if self._server is not None:
            self._server.stop()
        self._remove()

    def target(self, metric: str, index: Index) -> Target:
        """What clients search here."""
        token = os.environ.get("MILVUS_TOKEN", "") if self.kind == "uri" else ""
        return Target(self.uri, self._collection, metric, index, TIMEOUT_SECONDS, token)

    def _remove(self) -> None:
        if self.kind != "uri":
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def uri(self) -> str:
        """The address for a client."""
        if self._server is not None:
            return self._server.uri
        return str(self._folder / "bench.db") if self.kind == "lite" else self._uri

    def restart(self) -> None:
        """Start a server of our own again: its memory then holds no trace of building."""
        if self._server is not None:
            self._server.stop()
            self._server.start()

    def rss_mib(self) -> float | None:
        """Resident memory of the server's processes; None where it cannot be seen."""
        if self._server is None or self._server.process_id is None:
            return None
        children = psutil.Process(self._server.process_id).children(recursive=True)
        return sum(child.memory_info().rss for child in children) / MIB

    def disk_mib(self) -> float | None:
        """What lies on disk, logs of the server left out; None where it cannot be seen."""
        if self.kind == "uri":
            return None
        root = self._folder / "server" / "data" if self.kind == "local" else self._folder
        files = (Path(place) / name for place, _, names in os.walk(root) for name in names)
        return sum(file.stat().st_size for file in files if file.exists()) / MIB


SMALLEST_SEGMENT = 1_024  # rows; a server gives a smaller one no index


def measure_build(
    place: BenchServer, target: Target, workload: Workload
) -> tuple[BuildMeasurement, str]:
    """Build an index, and the server's version; it then holds this index and nothing else.

    Memory is read from a server of our own that was started again on what was built, and so holds
    no trace of building. RetrievalError: Milvus is away, or (RefusedError) has no such index.
    """

    def build(retriever: MilvusRetriever) -> BuildTimes:
        return retriever.versions.build(workload.vectors, workload.ids)

    rows, dimension = workload.vectors.shape
    return measure_building(place, target, (rows, dimension), workload.queries, build)


def measure_building(
    place: BenchServer,
    target: Target,
    shape: tuple[int, int],
    queries: FloatArray,
    build: Callable[[MilvusRetriever], BuildTimes],
) -> tuple[BuildMeasurement, str]:
    """:func:`measure_build` of what ``build`` stores, ``shape`` rows and dimensions of it."""
    empty, empty_disk = place.rss_mib(), place.disk_mib()
    rows, dimension = shape
    with target.connect() as retriever:
        times = build(retriever)
    place.restart()
    with target.connect() as retriever:
        retriever.open(rows=rows)
        retriever.search(queries[:256], 10)  # lazy parts are loaded, too
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
