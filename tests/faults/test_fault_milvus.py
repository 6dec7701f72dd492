# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A real Milvus that is killed, under 50 requests a second, and comes back.

What the 2.3.5 server loses by ``kill -9``: of what it acknowledged, nothing was ever seen to be
lost, flushed or not, in 7 kills, four of them in the middle of 3,100 upserts and deletes of 20 rows
each. The call that was under way did nothing. (Its log is not forced to the disk with each call: a
machine that loses power is another matter, and not tried here.) It costs time: some 26 s until the
killed server counts as gone, and up to half a minute to read the log, until a search is answered.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fault_table.around_service import server_process
from fault_table.steady_requests import SteadyRequests
from forked_service import HISTORIES, ForkedService
from running_service import until

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus

pytestmark = [pytest.mark.server, pytest.mark.slow]

DEADLINE = 1.0
SLACK = 15.0  # that an answer may take beyond the deadline where a machine stands still
SEEN = 60.0  # within which /readyz tells of a Milvus that is gone, or back
RETURN = 90.0  # that a server which was killed may need until it answers again
BODIES = [{"hist_item": [history], "top_k": 10} for history in HISTORIES]


def kill(milvus: LocalMilvus) -> None:
    """``kill -9`` of the server."""
    server = server_process(milvus)
    server.kill()
    server.wait()


def searches(uri: str, collection: str) -> bool:
    """Whether Milvus answers a search itself."""
    try:
        with MilvusRetriever(uri, collection, timeout=1.0) as retriever:
            retriever.open()
            return int(retriever.search([[1.0] * retriever.dimension], 1).ids[0, 0]) > 0
    except RetrievalError:
        return False


class Acknowledged:
    """A collection of its own: 1,000 rows flushed, and then changes that are not."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        numbers = np.arange(1, 1_201, dtype=np.float32)
        vectors = np.stack([numbers, numbers % 7], axis=1)
        with self._connected() as retriever:
            retriever.versions.build(vectors[:1_000], np.arange(1, 1_001))
            retriever.upsert(-vectors[:100], np.arange(1, 101))
            retriever.upsert(vectors[1_000:], np.arange(1_001, 1_201))
            retriever.delete(np.arange(201, 401))
        vectors[:100] *= -1
        self._expected = {
            number: vectors[number - 1] for number in range(1, 1_201) if not 200 < number <= 400
        }

    def _connected(self) -> MilvusRetriever:
        return MilvusRetriever(self._uri, "acknowledged")

    def check(self) -> None:
        """All that was acknowledged is there, and nothing else."""
        with self._connected() as retriever:
            retriever.open()
            assert retriever.count() == len(self._expected)
            stored = retriever.vectors(list(self._expected))
        assert (stored == np.stack(list(self._expected.values()))).all()


def test_a_milvus_that_is_killed_and_comes_back(server_folder, folder, tmp_path):
    with LocalMilvus(server_folder) as milvus, ThreadPoolExecutor(1) as beside:
        written = beside.submit(Acknowledged, milvus.uri)
        environment = folder.environment(milvus.uri, timeout=DEADLINE)
        with ForkedService(environment, tmp_path / "log") as service:
            service.insert()
            acknowledged = written.result()
            with SteadyRequests(service.url, BODIES) as asking:
                until(lambda: len(asking.answers) > 50)
                kill(milvus)
                gone = service.seconds_until("/readyz", 503, SEEN)
                noticed = time.monotonic()
                milvus.stop()
                milvus.start()
                until(lambda: searches(milvus.uri, "faults"), RETURN)
                away = time.monotonic() - noticed
                back = service.seconds_until("/readyz", 200, SEEN)
                recovered = time.monotonic()
                # its first searches may fail once more and open the breaker again
                until(lambda: asking.settled(recovered), RETURN)
            assert not asking.failed(), asking.failed()[:3]
            fallbacks = [each for each in asking.answers if each.source == "fallback"]
            print(
                f"{len(asking.answers)} requests, {len(fallbacks)} by the fallback, longest "
                f"{asking.longest():.2f} s; /readyz 503 after {gone:.2f} s, Milvus away for "
                f"{away:.1f} s, /readyz 200 again {back:.2f} s after it answered"
            )
            assert asking.longest() < DEADLINE + SLACK
            assert fallbacks
            assert asking.answers[0].source == "model"
            assert service.lists() == folder.lists(0)
            assert "Traceback" not in service.log.read_text()
            assert service.http.get("/count").json()["count"] == 300
        acknowledged.check()
        kill(milvus)  # an orderly stop takes ten seconds
