# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Heartbeat: who is silent or gone is known, and a process caught in an exchange is ended."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, mind_folder

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import CheckpointError, SettingsError, TrainingError
from paddlerec_milvus.training import heartbeat, processes
from paddlerec_milvus.training.heartbeat import BEAT, Heartbeat, open_heartbeat
from paddlerec_milvus.training.processes import Processes
from paddlerec_milvus.training.run_folder import RunFolder

HOSTS = ("alpha", "beta", "gamma")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "SILENCE_SECONDS", 0.4)


@pytest.fixture
def cable() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


def lost_within(watch: Heartbeat, seconds: float = 20.0) -> dict[int, str]:
    end = time.monotonic() + seconds
    while not watch.lost and time.monotonic() < end:
        time.sleep(0.02)
    return watch.lost


def test_all_are_there_and_then_one_ends(cable: tuple[socket.socket, socket.socket]) -> None:
    leader, other = Heartbeat(HOSTS[:2], {1: cable[0]}), Heartbeat(HOSTS[:2], {0: cable[1]})
    for watch in (leader, other):
        watch.start(lambda: "")
    time.sleep(1.0)  # longer than the silence that is allowed
    assert leader.lost == other.lost == {}
    cable[1].shutdown(socket.SHUT_RDWR)
    assert lost_within(leader) == {1: "ended"}


def test_one_that_is_silent(cable: tuple[socket.socket, socket.socket]) -> None:
    leader = Heartbeat(HOSTS[:2], {1: cable[0]})
    leader.start(lambda: "")
    assert lost_within(leader) == {1: "silent for 0.4 s: killed, or cut off"}


def test_the_leader_tells_the_others(cable: tuple[socket.socket, socket.socket]) -> None:
    other = Heartbeat(HOSTS, {0: cable[0]})
    other.start(lambda: "")
    cable[1].send(BEAT.pack(3))
    assert lost_within(other) == {2: "lost, says process 0"}
    run = Processes(1, 3, _places=np.array([[1, 1], [2, 2], [3, 3]]), _heartbeat=other)
    with pytest.raises(TrainingError, match=r"process 2 on the host gamma .* --resume"):
        run.fence()


def test_opened_with_a_word_that_a_stranger_does_not_know() -> None:
    shared: dict[str, tuple[int, bytes]] = {}
    ready, watches = threading.Event(), dict[int, Heartbeat]()

    def opens(rank: int) -> None:
        def from_leader(work):  # type: ignore[no-untyped-def]
            if rank == 0:
                shared["place"] = work()
                ready.set()
            assert ready.wait(20)
            if rank == 1:
                with socket.create_connection(("127.0.0.1", shared["place"][0])) as stranger:
                    stranger.sendall(bytes(18))
            return shared["place"]

        watches[rank] = open_heartbeat(rank, HOSTS, "127.0.0.1", from_leader)

    threads = [threading.Thread(target=opens, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(watches[0].connections) == [1, 2]
    for watch in watches.values():
        for connection in watch.connections.values():
            connection.close()


CAUGHT = """
import socket, time
from paddlerec_milvus.training import heartbeat
heartbeat.BEAT_SECONDS = heartbeat.CAUGHT_SECONDS = 0.1
one, other = socket.socketpair()
watch = heartbeat.Heartbeat(["a", "b"], {1: one})
watch.waiting_since = time.monotonic()
watch.start(lambda: "process 1 is lost")
other.close()
time.sleep(60)  # as in an exchange that nothing ends
"""


def test_a_process_that_is_caught_is_ended() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CAUGHT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "error: process 1 is lost\n")


def test_a_name_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    expected = rf"leads to 127\.0\.1\.1, .*'10\.0\.0\.7 {re.escape(socket.gethostname())}'"
    with pytest.raises(SettingsError, match=expected):
        processes._require_reachable("10.0.0.7")


def test_a_host_with_other_settings_or_without_the_checkpoint(tmp_path: Path) -> None:
    file = mind_folder(tmp_path / "model")
    here = RunFolder(load_settings(file), "cpu", 2)
    here.require_alike(here.record)
    other = RunFolder(load_settings(file, ["hyper_parameters.maxlen=3"]), "cpu", 2)
    with pytest.raises(SettingsError, match=r"than process 0's: .*maxlen: 3 there, 5 here"):
        here.require_alike(other.record)
    with pytest.raises(CheckpointError, match=r"share runner\.model_save_path"):
        here.require_here(tmp_path / "0")
