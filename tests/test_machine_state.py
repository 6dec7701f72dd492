# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What counts as foreign load: all processor time but that of the benchmark and of its Milvus."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from paddlerec_milvus.machine_state import (
    CpuSnapshot,
    MachineRecorder,
    Program,
    server_processes,
    snapshot,
    state_between,
    tree_of,
)

# 10 starts 11 (a client) and 12 (Milvus' supervisor), which starts 13 (Milvus); 20 is a stranger's
TREE = {10: (1, "python"), 11: (10, "python"), 12: (10, "python"), 13: (12, "milvus")}
TREE |= {1: (0, "init"), 20: (1, "cc1"), 21: (1, "cc1"), 22: (1, "sshd")}


def programs(**seconds: float) -> dict[tuple[int, float], Program]:
    return {
        (pid, 0.0): Program(parent, name, seconds.get(f"p{pid}", 0.0))
        for pid, (parent, name) in TREE.items()
    }


def test_what_the_benchmark_started_is_its_own() -> None:
    assert tree_of({10}, programs()) == {10, 11, 12, 13}
    assert tree_of({20}, programs()) == {20}


# In 10 s two cores have 20 s. 14 were busy: 9 by the benchmark's tree (4 before, 13 after), so 5 by
# others, a quarter of the machine; 1 s of steal is 5 %.
def test_load_is_what_others_used() -> None:
    before = CpuSnapshot(100.0, 50.0, 3.0, programs(p10=1.0, p13=3.0, p20=7.0))
    after = CpuSnapshot(110.0, 64.0, 4.0, programs(p10=3.0, p11=2.0, p13=8.0, p20=9.0, p21=2.5))
    state = state_between(before, after, {10, 11, 12, 13}, (2.0, 2.1), 2)
    assert (state.seconds, state.foreign, state.steal) == (10.0, 0.25, 0.05)
    assert state.load == pytest.approx(0.3)
    assert state.busiest == "cc1"
    assert (state.pace_before_ms, state.pace_after_ms) == (2.0, 2.1)


def test_a_program_that_began_meanwhile_counts_from_its_start() -> None:
    before = CpuSnapshot(0.0, 0.0, None, {})
    after = CpuSnapshot(10.0, 10.0, None, programs(p10=6.0))
    state = state_between(before, after, {10}, (2.0, 2.0), 1)
    assert (state.foreign, state.busiest, state.steal) == (0.4, None, None)


def test_load_beside_a_server_that_cannot_be_seen_is_not_known() -> None:
    before = CpuSnapshot(0.0, 0.0, 0.0, programs())
    state = state_between(before, before._replace(at=1.0, busy=2.0), None, (2.0, 2.0), 2)
    assert (state.foreign, state.load) == (None, 0.0)


@pytest.mark.parametrize(
    ("uri", "listener", "expected"),
    [
        ("/tmp/bench.db", None, set()),
        ("http://milvus.example.org:19530", None, set()),  # another machine's
        ("http://127.0.0.1:19530", 20, {20}),  # whatever its name
        ("http://localhost:19530", None, {13}),  # another user's: known by its name
        ("http://127.0.0.1:19531", 20, {13}),
    ],
)
def test_the_server_at_an_address(
    monkeypatch: pytest.MonkeyPatch, uri: str, listener: int | None, expected: set[int]
) -> None:
    def connections(kind: str) -> list[Any]:
        if listener is None:
            raise psutil.AccessDenied
        place = ("127.0.0.1", 19530)
        return [SimpleNamespace(pid=listener, status=psutil.CONN_LISTEN, laddr=place)]

    monkeypatch.setattr(psutil, "net_connections", connections)
    assert server_processes(uri, programs()) == expected
    alone = {key: part for key, part in programs().items() if part.name == "init"}
    assert server_processes(uri, alone) == (expected and None)


def test_a_recorded_state_is_of_this_machine() -> None:
    state = MachineRecorder("/tmp/bench.db").state()
    assert state.cores == os.cpu_count()
    assert state.foreign is not None
    assert 0 <= state.foreign <= 1
    assert state.pace_before_ms > 0


def test_a_process_that_is_started_belongs_to_the_tree() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in tree_of({os.getpid()}, snapshot().programs)
        child.communicate(b"\n")
