# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``kill -9`` of the service while it inserts, and at each call with which it switches versions."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from service_process import ServiceProcess

from fault_table.load import EPOCHS, INSERT_SECONDS, READY_SECONDS, FaultBench, UnderLoad, inserted
from fault_table.row import FaultRow
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.versions import CollectionVersions

KILLED = 0  # in place of a status
MOST_CALLS = 50  # of a switch
KILLED_SWITCH = str(Path(__file__).with_name("killed_switch.py"))


def versions_of(uri: str, collection: str) -> tuple[set[str], set[str]]:
    """The versions that lie in Milvus, and those of them that serve or are retained."""
    connection = Connection(uri)
    try:
        versions = CollectionVersions(connection, collection)
        used = {version.name for version in (versions.serving(), versions.previous()) if version}
        return set(versions.names().values()), used
    finally:
        connection.close()


def _post(service: ServiceProcess, path: str) -> int:
    """The status of a call, or KILLED."""
    try:
        return httpx.post(service.url + path, timeout=INSERT_SECONDS).status_code
    except httpx.HTTPError:
        return KILLED


class _Restarts:
    """A killed service is started again, and what it finds and leaves is looked at."""

    def __init__(
        self, bench: FaultBench, row: FaultRow, service: ServiceProcess, collection: str
    ) -> None:
        self._bench, self._row, self._service = bench, row, service
        self._collection = collection
        self.epoch = 0

    def restart(self, load: UnderLoad, killed: float) -> None:
        """Start it; it must serve one of both epochs, whole, and clean up."""
        bench, row = self._bench, self._row
        stored, used = versions_of(bench.milvus.uri, self._collection)
        self._service.start()
        self._service.wait_for("/readyz", READY_SECONDS)
        load.recovered(killed)
        epoch = bench.epoch_of(self._service)
        row.require(epoch in EPOCHS, "after a kill the lists are no model's")
        came = "old" if epoch == self.epoch else "new"
        row.add(f"kills after which the {came} model serves")
        row.add("versions left by kills", len(stored - used))
        stored, used = versions_of(bench.milvus.uri, self._collection)
        row.require(stored == used, f"not cleaned up at the start: {sorted(stored - used)}")
        self.epoch = self.epoch if epoch is None else epoch


def inserts_killed(bench: FaultBench, row: FaultRow) -> None:
    """At random moments of an insert."""
    name = "killed"
    draw = random.Random(bench.seed)
    with bench.service(name, bench.milvus.uri) as service:
        bench.served.put(0)
        inserted(service)
        restarts = _Restarts(bench, row, service, name)
        with UnderLoad(bench, row, [service], name, dies=True) as load:
            load.steady()
            usual = inserted(service)
            for _ in range(bench.times(20, 3)):
                load.steady()
                bench.served.put(1 - restarts.epoch)
                insert = threading.Thread(target=_post, args=(service, "/insert"))
                insert.start()
                time.sleep(draw.uniform(0, 1.1 * usual))
                service.kill()
                killed = time.monotonic()
                insert.join()
                restarts.restart(load, killed)
        load.compare(bench.milvus.uri)


def insert_switch_killed(bench: FaultBench, row: FaultRow) -> None:
    """Before each call of the switch that ends an insert."""

    def provoke(service: ServiceProcess, restarts: _Restarts) -> int:
        bench.served.put(1 - restarts.epoch)
        return _post(service, "/insert")

    _switch_killed(bench, row, "switched", "_switch", provoke)


def rollback_switch_killed(bench: FaultBench, row: FaultRow) -> None:
    """Before each call of a rollback."""

    def provoke(service: ServiceProcess, restarts: _Restarts) -> int:
        bench.served.put(1 - restarts.epoch)
        inserted(service)
        restarts.epoch = 1 - restarts.epoch
        return _post(service, "/rollback")

    _switch_killed(bench, row, "rolled", "roll_back", provoke)


def _switch_killed(
    bench: FaultBench,
    row: FaultRow,
    name: str,
    method: str,
    provoke: Callable[[ServiceProcess, _Restarts], int],
) -> None:
    """Let ``provoke`` die at the call 1, 2, … of ``method``, until it comes to its end."""
    program = [KILLED_SWITCH, method]
    with bench.service(name, bench.milvus.uri) as service:
        for epoch in (1, 0):  # so that there is one to go back to
            bench.served.put(epoch)
            inserted(service)
        service.stop()
        service.program = [*program, "1"]
        service.start()
        service.wait_for("/readyz", READY_SECONDS)
        restarts = _Restarts(bench, row, service, name)
        with UnderLoad(bench, row, [service], name, dies=True) as load:
            for number in range(2, MOST_CALLS):
                load.steady()
                status = provoke(service, restarts)
                if status != KILLED:
                    break
                killed = time.monotonic()
                service.kill()  # it is dead; this takes note of it
                service.program = [*program, str(number)]
                restarts.restart(load, killed)
        row.require(status == 200, f"the call that was not killed was answered with {status}")
        final = bench.epoch_of(service)
        row.require(final == 1 - restarts.epoch, f"it ended with the lists of epoch {final}")
        load.compare(bench.milvus.uri)
