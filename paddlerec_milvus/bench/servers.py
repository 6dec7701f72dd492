# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Where an index lives while it is measured: a server of our own, Milvus Lite, or a given uri."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import psutil

from paddlerec_milvus.bench.memory_estimate import MIB
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.indexes import Flat, Index
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus

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
