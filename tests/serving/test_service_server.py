# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The service on a real Milvus server, and what its callers see when that one is killed."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from running_service import Running, running, until

from paddlerec_milvus.retrieval.server import LocalMilvus

pytestmark = [pytest.mark.server, pytest.mark.slow]

DEADLINE = 1.0
HNSW = ("index.type=HNSW", "index.ef=128")


@contextmanager
def callers(service: Running, count: int = 8, pause: float = 0.1) -> Iterator[list[float]]:
    """``count`` threads that ask for candidates until the end; the seconds of every request."""
    waits: list[float] = []
    end = threading.Event()

    def ask() -> None:
        while not end.wait(pause):
            began = time.monotonic()
            found = service.candidates([3, 7], top_k=10)
            waits.append(time.monotonic() - began)
            assert len(found["candidates"][0]) == 10

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield waits
    finally:
        end.set()
        for thread in threads:
            thread.join()


def source(service: Running) -> str:
    found: str = service.candidates([3, 7], top_k=10)["source"][0]
    return found


def test_lists_of_a_server_are_those_of_lite(server, service, make_settings):
    with running(make_settings(f"milvus.uri={server.uri}", "milvus.collection=served")) as real:
        assert real.http.post("/insert").json()["inserted"] == 300
        histories = [[number, number + 9, 2 * number] for number in range(1, 31)]
        ours, theirs = (each.candidates(*histories, top_k=20) for each in (real, service))
        assert ours["source"] == ["model"] * 30
        assert ours["candidates"] == theirs["candidates"]
        assert real.http.post("/delete").json() == {"deleted": 300}
        assert real.http.get("/count").json()["count"] == 0


def test_a_milvus_that_hangs_and_goes_on(make_settings):
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("no real Milvus: pip install 'paddlerec-milvus[server]'")
    with LocalMilvus() as milvus:
        settings = make_settings(f"milvus.uri={milvus.uri}", *HNSW, timeout=DEADLINE)
        with running(settings) as service:
            assert service.http.post("/insert").status_code == 200
            (process,) = psutil.Process(milvus.process_id).children()
            with callers(service) as waits:
                process.suspend()
                try:
                    until(lambda: service.ready()[0] == 503)
                    assert source(service) == "fallback"
                finally:
                    process.resume()
                until(lambda: service.ready()[0] == 200, 10)
            assert source(service) == "model"
            assert max(waits) < DEADLINE + 10
