# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Milvus Lite's log takes one writer: what several threads write at once is all there later."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow
import pytest

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.indexes import Flat
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

WRITERS = 16


def opened(uri: str, timeout: float = 30.0) -> MilvusRetriever:
    return MilvusRetriever(uri, "items", index=Flat(), timeout=timeout)


def test_writes_at_the_same_time_outlive_the_connection(tmp_path, monkeypatch):
    """A disk that takes its time: where nothing stops them all open the log, and most are lost."""
    uri, vectors = str(tmp_path / "milvus.db"), np.eye(4, dtype=np.float32)
    opened_log = pyarrow.ipc.new_stream

    def slowly(*arguments, **options):
        time.sleep(0.05)
        return opened_log(*arguments, **options)

    monkeypatch.setattr(pyarrow.ipc, "new_stream", slowly)
    with opened(uri) as retriever:
        retriever.versions.build(vectors, [1, 2, 3, 4])
        begin = threading.Barrier(WRITERS)

        def write(number: int) -> None:
            begin.wait(20)
            retriever.upsert(vectors[:1], [100 + number])

        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(write, range(WRITERS)))
    with opened(uri) as retriever:
        retriever.open()
        assert retriever.count() == 4 + WRITERS


def test_a_write_that_waits_too_long_says_so(tmp_path):
    uri = str(tmp_path / "milvus.db")
    with opened(uri, timeout=0.2) as retriever, opened(uri) as other:
        other.versions.build(np.eye(4, dtype=np.float32), [1, 2, 3, 4])
        retriever.open()
        with Connection._lite_writing[uri], pytest.raises(RetrievalError, match=r"busy .* 0\.2 s"):
            retriever.delete([1])
        retriever.delete([1])
        assert other.count() == 3
