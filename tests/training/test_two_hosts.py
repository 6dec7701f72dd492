# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Two hosts train one model: as one host would, and one that is lost is noticed and named.

A host is a network namespace with a name of its own; a cable, a pair of veth, joins the two.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import run
from support import ROOT, checkpoint_bits, mind_folder
from test_processes import assert_close, losses

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MESSAGE_WITHIN = 60.0
ADDRESSES = ("10.213.71.1", "10.213.71.2")


def sh(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


class Hosts:
    """Two of them, ``0`` the master; what the trainer on each says is in ``logs-NAME``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = [f"host-{part}-{os.getpid()}" for part in "ab"]
        self.cables = [f"pm{part}{os.getpid()}" for part in "ab"]
        self.files = [Path("/etc/netns") / name for name in self.names]
        self.running: list[subprocess.Popen[bytes]] = []

    def plug(self) -> None:
        """Make both, joined by a cable."""
        lines = [f"{ip} {name}" for ip, name in zip(ADDRESSES, self.names, strict=True)]
        for name, file in zip(self.names, self.files, strict=True):
            sh("ip", "netns", "add", name)
            file.mkdir(parents=True)
            (file / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        one, other = self.cables
        sh("ip", "link", "add", one, "type", "veth", "peer", "name", other)
        for name, cable, address in zip(self.names, self.cables, ADDRESSES, strict=True):
            sh("ip", "link", "set", cable, "netns", name)
            sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", cable)
            sh("ip", "-n", name, "link", "set", "lo", "up")
            sh("ip", "-n", name, "link", "set", cable, "up")

    def unplug(self) -> None:
        """Remove both, and all that runs there."""
        for number, (name, file) in enumerate(zip(self.names, self.files, strict=True)):
            self.kill(number)
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
            shutil.rmtree(file, ignore_errors=True)
        for process in self.running:
            process.wait()

    def start(self, file: Path, out: Path, *options: str, resume: bool = False) -> None:
        """Train on both; what ran before has ended."""
        for process in self.running:
            process.wait(MESSAGE_WITHIN)
        self.running = []
        for rank, name in enumerate(self.names):
            trainer = [str(ROOT / "tools" / "trainer.py"), "-m", str(file)]
            trainer += ["--resume"] * resume
            command = [
                *("ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c"),
                *('hostname "$0" && exec "$@"', name, sys.executable),
                *("-m", "paddle.distributed.launch", "--nnodes", "2", "--nproc_per_node", "1"),
                *("--master", f"{ADDRESSES[0]}:51234", "--rank", str(rank)),
                *("--log_dir", str(self.folder / f"logs-{rank}"), *trainer),
                *("-o", f"runner.model_save_path={out}", *options),
            ]
            shutil.rmtree(self.folder / f"logs-{rank}", ignore_errors=True)
            place = self.folder / f"work-{rank}"
            place.mkdir(exist_ok=True)
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            with (place / "launcher.log").open("wb") as log:
                process = subprocess.Popen(
                    command, cwd=place, env=environment, stdout=log, stderr=log
                )
            self.running.append(process)

    def said(self, rank: int) -> str:
        file = self.folder / f"logs-{rank}" / "workerlog.0"
        return file.read_text(errors="replace") if file.exists() else ""

    def until_saved(self, epoch: int) -> None:
        while not re.search(rf"saved \S+/{epoch}\n", self.said(0)):
            assert self.running[0].poll() is None, self.said(0)
            time.sleep(0.1)

    def kill(self, rank: int) -> None:
        """All processes of one host at once, as a lost power supply does."""
        listed = ["ip", "netns", "pids", self.names[rank]]
        pids = subprocess.run(listed, check=False, capture_output=True, text=True).stdout
        for pid in map(int, pids.split()):
            os.kill(pid, signal.SIGKILL)

    def cut(self) -> None:
        sh("ip", "-n", self.names[1], "link", "set", self.cables[1], "down")

    def join(self) -> None:
        sh("ip", "-n", self.names[1], "link", "set", self.cables[1], "up")

    def ended(self, rank: int, within: float = MESSAGE_WITHIN) -> int:
        """The launcher's exit code."""
        return self.running[rank].wait(within)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if os.geteuid() or not all(map(shutil.which, ("ip", "unshare", "hostname"))):
        pytest.skip("network namespaces need root, and the programs ip, unshare and hostname")
    both = Hosts(tmp_path)
    try:
        both.plug()
    except (subprocess.CalledProcessError, OSError) as error:
        both.unplug()
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}")
    yield both
    both.unplug()


def exact_mind(folder: Path) -> Path:
    """A MIND without random draws, so that sums alone differ."""
    hyper = {"sampler": "all", "attention": "soft"}
    hyper |= {"optimizer.class": "Momentum", "optimizer.learning_rate": 0.05}
    return mind_folder(folder, **hyper)


OPTIONS = ("runner.train_batch_size=30", "runner.print_interval=1")


def test_as_one_host(hosts: Hosts, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    file = exact_mind(tmp_path / "model")
    run(file, tmp_path / "one", "runner.epochs=2", *OPTIONS)
    hosts.start(file, tmp_path / "two", "runner.epochs=2", *OPTIONS)
    assert [hosts.ended(rank, 300) for rank in (0, 1)] == [0, 0], hosts.said(0) + hosts.said(1)
    assert_close(tmp_path / "one" / "1", tmp_path / "two" / "1")
    alone = losses(" ".join(record.getMessage() for record in caplog.records))
    assert losses(hosts.said(0)) == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_host_that_is_killed(hosts: Hosts, tmp_path: Path, lost: int) -> None:
    """The other one names it; after --resume all is as if nothing had happened."""
    file, out = mind_folder(tmp_path / "model", dropout=0.2), tmp_path / "out"
    hosts.start(file, out, "runner.epochs=500", *OPTIONS)
    hosts.until_saved(1)
    hosts.kill(lost)
    assert hosts.ended(1 - lost) != 0
    last = hosts.said(1 - lost).splitlines()[-1]
    assert f"process {lost} on the host {hosts.names[lost]} (ended)" in last
    assert last.endswith("--resume goes on after the last finished epoch")
    assert "Traceback" not in last
    done = max(int(folder.name) for folder in out.iterdir() if folder.name.isdecimal())
    before = checkpoint_bits(out / str(done))
    hosts.start(file, out, f"runner.epochs={done + 2}", *OPTIONS, resume=True)
    assert [hosts.ended(rank, 300) for rank in (0, 1)] == [0, 0], hosts.said(0) + hosts.said(1)
    assert re.search(rf"resumed from \S+/{done}\n", hosts.said(0))
    assert (out / str(done + 1)).is_dir()
    assert checkpoint_bits(out / str(done)) == before


def test_a_network_that_is_cut(hosts: Hosts, tmp_path: Path) -> None:
    file = mind_folder(tmp_path / "model")
    hosts.start(file, tmp_path / "out", "runner.epochs=500", *OPTIONS)
    hosts.until_saved(1)
    began = time.monotonic()
    hosts.cut()
    for rank in (0, 1):
        assert hosts.ended(rank, MESSAGE_WITHIN - (time.monotonic() - began)) != 0
        name = hosts.names[1 - rank]
        expected = rf"process {1 - rank} on the host {name} \(silent for 25 s: killed, or cut off\)"
        assert re.search(expected, hosts.said(rank).splitlines()[-1])
