# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Who searches: client processes, or for Milvus Lite, which one process may use, this one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from paddlerec_milvus.bench.client_pool import Clients, Load, Outcome, Target, calls_of, run_load
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.milvus import MilvusRetriever


class Loads(Protocol):
    """Runs loads: processes, or for Milvus Lite this one."""

    def run(self, loads: Sequence[Load], warm_up: int = 0) -> Outcome:
        """One client for each of ``loads``, started together."""
        ...


class OneClient:
    """The only client that Milvus Lite can have: this process."""

    def __init__(self, retriever: MilvusRetriever, interests: FloatArray) -> None:
        self._retriever, self._interests = retriever, interests

    def run(self, loads: Sequence[Load], warm_up: int = 0) -> Outcome:
        """The one load."""
        (load,) = loads

        def search(queries: FloatArray) -> object:
            return self._retriever.search_with(load.index, queries, load.k)

        asked = calls_of(self._interests, load)
        if warm_up:
            run_load(search, asked, Load(load.index, load.k, warm_up))
        return run_load(search, asked, load)


@contextmanager
def clients_for(server: str, workload: Workload, count: int) -> Iterator[Clients | None]:
    """``count`` client processes with the interests of ``workload``; None for Milvus Lite."""
    if server == "lite":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="paddlerec-milvus-bench-") as folder:
        file = Path(folder) / "interests.npy"
        np.save(file, workload.interests)
        with Clients(count, file) as clients:
            yield clients


@contextmanager
def searching(
    target: Target, workload: Workload, clients: Clients | None
) -> Iterator[tuple[MilvusRetriever, Loads]]:
    """A retriever on the items of ``workload`` that ``target`` holds, and who puts load on it."""
    with target.connect() as retriever:
        retriever.open(rows=len(workload.ids))
        if clients is None:
            yield retriever, OneClient(retriever, workload.interests)
        else:
            clients.open(target)
            yield retriever, clients
