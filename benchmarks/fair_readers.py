# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What one caller's requests cost the others: filters of many names, many users, long heads.

    python benchmarks/fair_readers.py --out DIR [--items 50000] [--seconds 20]

A service of random item vectors on a local Milvus server (HNSW). While eight callers send requests
that take long, another connection asks for the candidates of one user, 20 times a second: counted
are its answers that are not the model's, and how long it waits. Exit code 1 where the model did not
answer a request that is within the limits, or somebody else waited longer than half a second.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from tabulate import tabulate

from paddlerec_milvus.command import run
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.evaluation.report import machine, write_json
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.retrieval.exact import normalised
from paddlerec_milvus.retrieval.indexes import Hnsw
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus
from paddlerec_milvus.retrieval.server_files import free_ports
from paddlerec_milvus.serving.app import create_app
from paddlerec_milvus.serving.settings import ServiceSettings

COLLECTION, DIMENSION, INTERESTS, MAXLEN = "fair_readers", 128, 4, 20
CALLERS, PAUSE, LONGEST_WAIT = 8, 0.05, 0.5  # seconds
NAMES = [f"{'书籍分类' * 20}{number}" for number in range(1_000)]
UNKNOWN = [f"{'没有这个' * 20}{number}" for number in range(1_000)]
LARGE = ((1_024, 200), (256, 1_000), (1_024, 1_000))


class RandomTower:
    """Interests that are the vectors of the last clicks."""

    fingerprint, unit, maxlen, dimension = "random", True, MAXLEN, DIMENSION

    def __init__(self, items: int) -> None:
        self.items = items
        vectors = np.random.default_rng(15).standard_normal((items + 1, DIMENSION), np.float32)
        self._vectors = normalised(vectors)

    def interests(self, histories: IntArray, lengths: IntArray) -> FloatArray:
        """[B, K, D] of histories [B, L]; a short one's repeat its last click."""
        back = np.minimum(np.arange(INTERESTS), lengths[:, None] - 1)
        clicks = np.take_along_axis(histories, lengths[:, None] - 1 - back, axis=1)
        return self._vectors[clicks]

    def item_vectors(self) -> FloatArray:
        """[items + 1, D], row 0 is padding."""
        return self._vectors

    def sample(self) -> FloatArray:
        """Some queries [n, D]."""
        return self._vectors[1:9]

    def vectors_of_features(self, ids: IntArray, codes: IntArray) -> FloatArray:
        """Nothing has features here."""
        raise NotImplementedError


def _categories(items: int) -> list[str]:
    return [NAMES[item % len(NAMES)] for item in range(1, items + 1)]


def _serve(uri: str, items: int, port: int) -> None:
    settings = ServiceSettings(model=load_settings("mind/config.yaml"))
    with MilvusRetriever(uri, COLLECTION, index=Hnsw(16, 200, 128), timeout=2.0) as retriever:
        retriever.open()
        catalogue = Catalogue(items, categories=enumerate(_categories(items), 1))
        app = create_app(settings, retriever, RandomTower(items), catalogue=catalogue)
        uvicorn.run(app, port=port, log_level="error")


@contextlib.contextmanager
def _service(items: int) -> Iterator[httpx.Client]:
    with LocalMilvus() as server:
        with MilvusRetriever(server.uri, COLLECTION, index=Hnsw(16, 200, 128)) as retriever:
            vectors, ids = RandomTower(items).item_vectors()[1:], np.arange(1, items + 1)
            retriever.versions.build(vectors, ids, _categories(items))
        port = free_ports(1)[0]
        process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(server.uri, items, port)
        )
        process.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as http:
                _wait_for(http)
                yield http
        finally:
            process.terminate()
            process.join(30)


def _wait_for(http: httpx.Client) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if http.get("/readyz").status_code == 200:
                return
        time.sleep(0.2)
    raise RetrievalError("the service did not start within 120 s")


def _seconds(http: httpx.Client, body: dict[str, Any]) -> tuple[float, set[str]]:
    began = time.perf_counter()
    answer = http.post("/candidates", json=body).raise_for_status().json()
    return time.perf_counter() - began, set(answer["source"])


def _small(number: int) -> dict[str, Any]:
    return {"hist_item": [[number % 1_000 + 1, number % 77 + 1]], "top_k": 50}


def _filtered(names: list[str]) -> dict[str, Any]:
    return {"hist_item": [[3, 7]], "filter": {"category": names}}


def _beside(url: httpx.URL, work: Callable[[], None]) -> dict[str, Any]:
    """What another connection sees while ``work`` is done."""
    end, waits, sources = threading.Event(), list[float](), list[str]()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as http:
            while not end.is_set():
                seconds, source = _seconds(http, _small(len(waits)))
                waits.append(seconds)
                sources.extend(source)
                time.sleep(PAUSE)

    other = threading.Thread(target=ask)
    other.start()
    try:
        work()
    finally:
        end.set()
        other.join()
    return {
        "requests": len(waits),
        "not_the_model": len(sources) - sources.count("model"),
        "p50_ms": round(1_000 * float(np.median(waits)), 1),
        "longest_ms": round(1_000 * max(waits), 1),
    }


def _by_many(url: httpx.URL, seconds: float, body: dict[str, Any]) -> Callable[[], None]:
    def send(end: float) -> None:
        with httpx.Client(base_url=url, timeout=60) as http:
            while time.monotonic() < end:
                _seconds(http, body)

    def work() -> None:
        end = time.monotonic() + seconds
        callers = [threading.Thread(target=send, args=(end,)) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    return work


def _main(arguments: argparse.Namespace) -> bool:
    rows: list[dict[str, Any]] = []
    with _service(arguments.items) as http:
        url = http.base_url
        rows.append({"case": "nobody else", **_beside(url, lambda: time.sleep(5))})
        for what, names in (("unknown", UNKNOWN), ("known", NAMES)):
            alone = min(_seconds(http, _filtered(names))[0] for _ in range(5))
            beside = _beside(url, _by_many(url, arguments.seconds, _filtered(names)))
            case = f"{CALLERS} callers, 1,000 {what} names"
            rows.append({"case": case, "alone_s": round(alone, 3), **beside})
        for users, top_k in LARGE:
            body = {"hist_item": [[user % 1_000 + 1] for user in range(users)], "top_k": top_k}
            large: list[tuple[float, set[str]]] = []
            beside = _beside(url, lambda: large.append(_seconds(http, body)))  # noqa: B023
            seconds, sources = large[0]
            source = "/".join(sorted(sources))
            case = f"{users:,} users x {top_k:,}: by {source}"
            rows.append({"case": case, "alone_s": round(seconds, 3), **beside})
            rows[-1]["not_the_model"] += int(sources != {"model"})
    print(tabulate(rows, headers="keys"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "items": arguments.items, "cases": rows}
    write_json(report, arguments.out / "fair_readers.json", "--out")
    return all(
        not row["not_the_model"] and row["longest_ms"] <= 1_000 * LONGEST_WAIT for row in rows
    )


def main() -> int:
    """Measure, print a table, keep it; 1 where somebody had to pay for another."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=50_000, metavar="N", help="(50000)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="a case (20)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    fair: list[bool] = []
    return run(lambda: fair.append(_main(arguments))) or int(not all(fair))


if __name__ == "__main__":
    sys.exit(main())
