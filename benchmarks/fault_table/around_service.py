# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Faults around the service: of Milvus, of the network between both, and of a second service."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import psutil
from service_process import ServiceProcess

from fault_table.load import INSERT_SECONDS, READY_SECONDS, FaultBench, UnderLoad, inserted
from fault_table.proxy import Fault, Proxy
from fault_table.row import FaultRow
from fault_table.service_kills import versions_of
from paddlerec_milvus.retrieval.server import LocalMilvus

STOP_SECONDS, LONG_STOP_SECONDS = 5.0, 12.0
ENDS_WITHIN = 20.0  # seconds after a SIGCONT, in which a server that stood still too long ends
NETWORK_SECONDS = 5.0
FOLLOW_SECONDS = 15.0  # after an insert, within which the other service serves the same


def server_process(milvus: LocalMilvus) -> psutil.Process:
    """The server itself: its supervisor's only child."""
    (server,) = psutil.Process(milvus.process_id).children()
    return server


def _kill(milvus: LocalMilvus, row: FaultRow) -> float:
    server = server_process(milvus)
    server.kill()
    ended = time.monotonic()
    server.wait()
    return ended


def _stop(seconds: float, milvus: LocalMilvus, row: FaultRow) -> float:
    server = server_process(milvus)
    server.suspend()
    time.sleep(seconds)
    server.resume()
    ended = time.monotonic()
    try:
        server.wait(ENDS_WITHIN)
    except psutil.TimeoutExpired:
        pass
    else:
        row.add("Milvus ended by itself")
    return ended


def _of_milvus(
    bench: FaultBench, row: FaultRow, name: str, times: int, fault: Callable[..., float]
) -> None:
    """``fault`` of a Milvus of its own, which its supervisor starts again where it ends."""
    with (
        LocalMilvus(bench.place / name, restarts=times) as milvus,
        bench.service(name, milvus.uri) as service,
    ):
        bench.served.put(0)
        inserted(service)
        with UnderLoad(bench, row, [service], name, writes_items=True) as load:
            for _ in range(times):
                load.steady()
                load.recovered(fault(milvus, row))
        load.compare(milvus.uri)
        row.require(bench.epoch_of(service) == 0, "the lists are not the model's at the end")
        service.stop()
        milvus.stop(kill=True)  # an orderly end takes ten seconds


def milvus_killed(bench: FaultBench, row: FaultRow) -> None:
    """``kill -9`` of Milvus; its supervisor starts it again."""
    _of_milvus(bench, row, "milvus_killed", bench.times(5, 1), _kill)


def milvus_stopped(bench: FaultBench, row: FaultRow) -> None:
    """SIGSTOP of Milvus for a time after which it goes on."""
    _of_milvus(bench, row, "milvus_stopped", bench.times(5, 1), partial(_stop, STOP_SECONDS))


def milvus_stopped_for_long(bench: FaultBench, row: FaultRow) -> None:
    """SIGSTOP of Milvus for so long that it ends by itself, and is started again."""
    fault = partial(_stop, LONG_STOP_SECONDS)
    _of_milvus(bench, row, "milvus_stopped_for_long", bench.times(3, 1), fault)


def network(bench: FaultBench, row: FaultRow, fault: Fault) -> None:
    """The network between service and Milvus fails for some seconds."""
    name = f"network_{fault.name.lower()}"
    with Proxy(bench.milvus.port) as proxy, bench.service(name, proxy.uri) as service:
        bench.served.put(0)
        inserted(service)
        with UnderLoad(bench, row, [service], name, writes_items=True) as load:
            for _ in range(bench.times(5, 1)):
                load.steady()
                proxy.fault = fault
                time.sleep(NETWORK_SECONDS)
                proxy.fault = Fault.NONE
                load.recovered(time.monotonic())
        load.compare(bench.milvus.uri)
        row.require(bench.epoch_of(service) == 0, "the lists are not the model's at the end")


def two_writers(bench: FaultBench, row: FaultRow) -> None:
    """Two services on one Milvus take inserts and clicks at once; then either is killed."""
    uri = bench.milvus.uri
    with bench.service("two", uri) as one, bench.service("two", uri) as other:
        services = [one, other]
        bench.served.put(0)
        inserted(one)
        other.wait_for("/readyz", READY_SECONDS)
        with UnderLoad(bench, row, services, "two", dies=True, other_statuses=["409"]) as load:
            for turn in range(1, 1 + bench.times(10, 2)):
                load.steady()
                bench.served.put(turn % 2)
                _insert_at_once(services, row)
                row.times += 1
                load.steady()
                for service in services:
                    follows = _follows(bench, service, turn % 2)
                    row.require(follows, f"other lists {FOLLOW_SECONDS:g} s after an insert")
            for service in services:
                load.steady()
                killed = time.monotonic()
                service.kill()
                service.start()
                service.wait_for("/readyz", READY_SECONDS)
                load.recovered(killed)
        load.compare(uri)
        stored, used = versions_of(uri, "two")
        row.require(stored == used, f"versions that nobody uses: {sorted(stored - used)}")
        refused = load.clicks.answers["409"]
        row.counts["clicks refused by the service that does not write"] = refused


def _follows(bench: FaultBench, service: ServiceProcess, epoch: int) -> bool:
    """Whether it comes to serve ``epoch``: of a version that another put there it hears later."""
    end = time.monotonic() + FOLLOW_SECONDS
    while bench.epoch_of(service) != epoch:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _insert_at_once(services: list[ServiceProcess], row: FaultRow) -> None:
    def insert(service: ServiceProcess) -> int:
        return httpx.post(f"{service.url}/insert", timeout=INSERT_SECONDS).status_code

    with ThreadPoolExecutor(len(services)) as pool:
        statuses = sorted(pool.map(insert, services))
    row.add(f"inserts answered {statuses}")
    row.require(200 in statuses and set(statuses) <= {200, 409}, f"inserts answered {statuses}")
