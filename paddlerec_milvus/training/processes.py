# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Several processes that train one model: who is who, what they agree on, and one that is lost.

``python -m paddle.distributed.launch`` starts them and tells each its number. Process 0 leads: it
alone logs, measures and saves. On a CPU they talk through gloo, which gives up on a collective that
takes 30 s: while the leader is busy the others therefore wait at paddle's key-value store. On
several hosts they also watch each other, see :mod:`.heartbeat`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import mmap
import os
import pickle
import re
import signal
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import paddle
import paddle.distributed as dist
import psutil

from paddlerec_milvus.errors import SettingsError, TrainingError
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.training.heartbeat import Heartbeat, open_heartbeat

Result = TypeVar("Result")
START = "python -m paddle.distributed.launch --nproc_per_node 2 tools/trainer.py -m …"
SIGNALS = {signal.SIGINT, signal.SIGTERM}
WORLD = "PADDLE_TRAINERS_NUM"


@dataclass
class Processes:
    """All processes of a run, seen from number ``rank`` of ``world``."""

    rank: int = 0
    world: int = 1
    _store: Any = None
    _places: npt.NDArray[np.int64] | None = None  # [world, 2]: host, process id
    _token: Any = None
    _heartbeat: Heartbeat | None = None  # on several hosts
    _met: int = field(default=0, init=False)  # how often they have waited for each other

    @property
    def leads(self) -> bool:
        """Whether this process logs, measures and saves."""
        return self.rank == 0

    @property
    def on_one_host(self) -> bool:
        """Whether all processes run here."""
        return self._places is None or len(set(self._places[:, 0].tolist())) == 1

    def seed(self, *parts: int) -> int:
        """The seed of a random stream of this process' own, e.g. from seed and epoch."""
        return common_seed(*parts, self.rank)

    def fence(self) -> None:
        """Nobody goes on before all are here; for moments of the same work only."""
        if self.world > 1:
            with self.collective():
                dist.all_reduce(self._token)

    def mean(self, values: Any) -> Any:
        """``values`` (floats, any shape) averaged over the processes, as an array."""
        if self.world == 1:
            return values
        total = paddle.to_tensor(np.asarray(values, dtype=np.float64))
        with self.collective():
            dist.all_reduce(total)
        return (total.numpy() / self.world).astype(np.asarray(values).dtype)

    def align(self, tensors: Iterable[Any]) -> None:
        """Give the others the leader's ``tensors``."""
        if self.world > 1:
            with self.collective():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def meet(self) -> None:
        """Wait until all are here, however long it takes."""
        if self.world > 1:
            self._met += 1
            self._ask("add", f"met/{self._met}", 1)
            self._wait(f"met/{self._met}", self.world)

    def from_leader(self, work: Callable[[], Result]) -> Result:
        """What ``work`` gives in the leader, who alone does it, however long it takes."""
        if self.world == 1:
            return work()
        self._met += 1
        name = f"done/{self._met}"
        if self.leads:
            result = work()
            self._ask("set", f"{name}/result", pickle.dumps(result))
            self._ask("add", name, 1)
        else:
            self._wait(name, 1)
            result = pickle.loads(self._ask("get", f"{name}/result"))  # nosec B301 # the leader's
        return result

    def shared_arrays(self, kinds: Sequence[tuple[Sequence[int], type]]) -> list[Any] | None:
        """Arrays of zeros, of these shapes and types, that all see; None: there is no such memory.

        They have no name in the file system: nothing is left of them, however a process ends.
        """
        sizes = [math.prod(shape) * np.dtype(kind).itemsize for shape, kind in kinds]
        starts = np.cumsum([0, *(-(-size // 64) * 64 for size in sizes)])  # whole cache lines
        memory = self._shared_memory(max(64, int(starts[-1])))
        if memory is None:
            return None
        return [
            np.frombuffer(memory, kind, math.prod(shape), int(start)).reshape(shape)
            for (shape, kind), start in zip(kinds, starts[:-1], strict=True)
        ]

    def _shared_memory(self, size: int) -> mmap.mmap | None:
        def create() -> str:
            file = os.memfd_create("paddlerec-milvus")
            try:
                os.posix_fallocate(file, 0, size)
            except OSError:
                os.close(file)
                raise
            return f"/proc/{os.getpid()}/fd/{file}"

        path = self.from_leader(lambda: _tried(create))
        memory = _tried(lambda: _mapped(path)) if path else None
        everywhere = self.mean(np.float64(memory is not None)) == 1
        if self.leads and path:
            os.close(int(Path(path).name))
        return memory if everywhere else None

    def _ask(self, what: str, *arguments: Any) -> Any:
        """Ask the store; a signal that comes meanwhile is dealt with afterwards: it cannot."""
        with self.collective():
            before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                return getattr(self._store, what)(*arguments)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _wait(self, name: str, number: int) -> None:
        while self._ask("add", name, 0) < number:
            self._require_all()
            time.sleep(0.1)

    @contextlib.contextmanager
    def collective(self) -> Iterator[None]:
        """An exchange with the others; TrainingError when one of them does not take part."""
        heart = self._heartbeat
        if heart is not None:
            if heart.lost:
                self._require_all()
            heart.waiting_since = time.monotonic()
        try:
            yield
        except (RuntimeError, ValueError, OSError) as error:
            for _ in range(20):  # one that has failed needs a moment to end
                self._require_all()
                time.sleep(0.1)
            reason = re.sub(r"^\[.*?\] ", "", (str(error).splitlines() or [repr(error)])[0])
            raise TrainingError(
                f"training in {self.world} processes: one of the others does not answer "
                f"({reason}){_WHAT_TO_DO}"
            ) from error
        finally:
            if heart is not None:
                heart.waiting_since = None

    def _require_all(self) -> None:
        if self._lost():
            raise TrainingError(self._loss())

    def _loss(self) -> str:
        return (
            f"training in {self.world} processes: {', '.join(self._lost())} ended before its time; "
            f"its log, workerlog.N of the launcher's --log_dir, may say why{_WHAT_TO_DO}"
        )

    def _lost(self) -> list[str]:
        here = [
            f"process {rank} (pid {pid})"
            for rank, (host, pid) in enumerate(self._places if self._places is not None else ())
            if host == _host() and not _alive(int(pid))
        ]
        heart = self._heartbeat
        others = sorted(heart.lost.items()) if heart is not None else []
        return here + [
            f"process {rank} on the host {heart.hosts[rank]} ({how})"
            for rank, how in others
            if heart is not None
        ]

    def watch_hosts(self, address: str) -> None:
        """On several hosts: notice one that is lost. ``address`` is the leader's."""
        if self.on_one_host:
            return
        self._store.set(f"host/{self.rank}", socket.gethostname().encode())
        hosts = [self._store.get(f"host/{rank}").decode() for rank in range(self.world)]
        with self.collective():
            self._heartbeat = open_heartbeat(self.rank, hosts, address, self.from_leader)
        self._heartbeat.start(self._loss)


ALONE = Processes()
_WHAT_TO_DO = (
    "; all stop. The checkpoints are whole: the same command with --resume goes on after the last "
    "finished epoch"
)


def common_seed(*parts: int) -> int:
    """A seed made of ``parts``, the same in each process; streams of other parts differ."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def _host() -> int:
    """A number for this host; two containers of one name are two hosts."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = (_tried(boot.read_text), _tried(space.readlink))
    return zlib.crc32(f"{socket.gethostname()} {parts}".encode())


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _tried(work: Callable[[], Result]) -> Result | None:
    try:
        return work()
    except (OSError, AttributeError):  # AttributeError: not on this system
        return None


def _mapped(path: str) -> mmap.mmap:
    with Path(path).open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _require_reachable(address: str) -> None:
    """SettingsError where this host's name leads to itself alone, for gloo calls hosts by name."""
    name = socket.gethostname()
    try:
        reached = socket.gethostbyname(name)
    except OSError:
        reached = "no address"
    if reached.startswith("127.") or reached == "no address":
        raise SettingsError(
            f"the name of this host, {name}, leads to {reached}, and other hosts cannot reach it "
            f"there; a line '{address} {name}' in its /etc/hosts, in place of that one, mends it"
        )


def join(settings: Settings, device: str) -> Processes:
    """Join the processes that the launcher started; SettingsError for what cannot be shared."""
    world = int(os.environ.get(WORLD) or 0)
    runner = settings.runner
    if runner.use_fleet and not world:
        raise SettingsError(
            "runner.use_fleet: True asks for several processes, but this is one; start them with "
            f"'{START}', or set it to False"
        )
    if world < 2:
        return ALONE
    if runner.train_batch_size % world:
        down = runner.train_batch_size // world * world
        raise SettingsError(
            f"runner.train_batch_size: {runner.train_batch_size} is the batch of all processes "
            f"together and cannot be shared by {world}; set it to {down or world}"
        )
    endpoints = os.environ.get("PADDLE_TRAINER_ENDPOINTS", "")
    addresses = [endpoint.partition(":")[0] for endpoint in endpoints.split(",")]
    if device == "cpu":
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
        if len(set(addresses)) > 1:
            _require_reachable(addresses[int(os.environ.get("PADDLE_TRAINER_ID") or 0)])
    paddle.disable_signal_handler()  # its own prints a trace on SIGTERM
    with contextlib.redirect_stderr(io.StringIO()):  # paddle's list of its own flags
        dist.init_parallel_env()
    here = paddle.to_tensor([[_host(), os.getpid()]], dtype="int64")
    everyone: list[Any] = []
    dist.all_gather(everyone, here)
    joined = Processes(
        dist.get_rank(),
        world,
        paddle.base.core.create_or_get_global_tcp_store(),
        paddle.concat(everyone).numpy(),
        paddle.zeros([1]),
    )
    joined.watch_hosts(addresses[0])
    if not joined.leads:
        logging.getLogger("paddlerec_milvus").setLevel(logging.ERROR)
    return joined
