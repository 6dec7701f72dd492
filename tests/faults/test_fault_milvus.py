# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A real Milvus that is killed, under 50 requests a second, and comes back; and a full disk."""

from __future__ import annotations

import time

import psutil
import pytest
from asking import Asking
from forked_service import HISTORIES, ForkedService
from running_service import until

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus

pytestmark = pytest.mark.server

DEADLINE = 1.0
SLACK = 0.5  # that an answer may take beyond the deadline
SEEN = 5.0  # within which /readyz tells of a Milvus that is gone, or back
RETURN = 60.0  # that a server which was killed may need until it answers again
BODIES = [{"hist_item": [history], "top_k": 10} for history in HISTORIES]


def kill(milvus: LocalMilvus) -> None:
    """``kill -9`` of the server."""
    (server,) = psutil.Process(milvus.process_id).children()
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


def test_a_milvus_that_is_killed_and_comes_back(needs_server, folder, tmp_path):
    with LocalMilvus(tmp_path / "milvus") as milvus:
        environment = folder.environment(milvus.uri, timeout=DEADLINE)
        with ForkedService(environment, tmp_path / "log") as service:
            service.insert()
            before = service.lists()
            with Asking(service.url, BODIES) as asking:
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
                until(lambda: len(asking.since(recovered)) > 50)
            kill(milvus)
            fallbacks = [each for each in asking.answers if each.source == "fallback"]
            print(
                f"{len(asking.answers)} requests, {len(fallbacks)} by the fallback, longest "
                f"{asking.longest():.2f} s; /readyz 503 after {gone:.2f} s, Milvus away for "
                f"{away:.1f} s, /readyz 200 again {back:.2f} s after it answered"
            )
            assert not asking.failed()
            assert asking.longest() < DEADLINE + SLACK
            assert fallbacks
            assert asking.answers[0].source == "model"
            assert asking.since(recovered)[-1].source == "model"
            assert service.log.read_text().count("Traceback") == 0
    assert before == folder.lists(0)
