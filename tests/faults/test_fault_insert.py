# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``kill -9`` of the service in the middle of an insert: the old model or the new one, whole."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fault_table.service_kills import versions_of
from forked_service import Folder, ForkedService

pytestmark = [pytest.mark.server, pytest.mark.slow]

KILLS = 20
AT_A_TIME = 10  # services, each with a collection of its own


@contextlib.contextmanager
def inserting(service: ForkedService) -> Iterator[threading.Thread]:
    """An insert under way, whatever comes of it."""

    def insert() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{service.url}/insert", timeout=60)

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


class Killing:
    """One service on the real server whose inserts are killed; ``seen`` counts what came of it."""

    def __init__(self, uri: str, trained, place: Path, name: str) -> None:
        self.folder = Folder(trained, place)
        self.collection = f"faults_{name}"
        self.lists = [self.folder.lists(epoch) for epoch in (0, 1)]
        self.seen: Counter[str] = Counter()
        self._uri = uri
        self._random = random.Random(name)
        self._log = place / "log"

    def versions(self) -> tuple[set[str], set[str]]:
        """Those that lie in Milvus, and of them the one that serves and the one that is kept."""
        return versions_of(self._uri, self.collection)

    def run(self, kills: int) -> None:
        """Insert the other epoch, kill, start again, look: as often as asked."""
        service = ForkedService(
            self.folder.environment(self._uri, self.collection, 10.0), self._log
        )
        with service:
            began = time.monotonic()
            service.insert()
            usual = time.monotonic() - began
            serving = 0
            for _ in range(kills):
                self.folder.put(1 - serving)
                with inserting(service):
                    time.sleep(self._random.uniform(0, 1.1 * usual))
                    service.kill()
                stored, used = self.versions()
                service.start(ready=True)
                found = service.lists()
                assert found in self.lists, "a mixture"
                came = self.lists.index(found)
                self.seen["old" if came == serving else "new"] += 1
                self.seen["leftovers"] += len(stored - used)
                serving = came
                stored, used = self.versions()
                assert stored == used, "a leftover was not cleaned at the start"
                assert len(stored) <= 2
            service.http.post("/delete")


def test_a_service_killed_while_it_inserts_serves_one_model_whole(
    server, trained, tmp_path_factory
):
    killings = [
        Killing(server.uri, trained, tmp_path_factory.mktemp(f"killed_{name}"), name)
        for name in "abcdefghij"[:AT_A_TIME]
    ]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for done in [pool.submit(each.run, KILLS // AT_A_TIME) for each in killings]:
            done.result()
    seen = sum((each.seen for each in killings), Counter())
    print(f"{KILLS} kills: {dict(seen)}")
    assert seen["old"] + seen["new"] == KILLS
    assert seen["leftovers"] > 0
