# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How gradients get from process to process: through collectives, or memory that all see.

Letters: W processes, T tables, C rows that there is room for, D the width of a table.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import paddle
import paddle.distributed as dist

from paddlerec_milvus.errors import TrainingError
from paddlerec_milvus.training.processes import Processes

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Rows = tuple[Ids, Any]  # rows of a table's gradient [n], their values [n, D] as a tensor
PATIENCE = 30.0  # seconds at a fence, as long as gloo's
SPARE = 1.25  # room for the next batches, which look up more rows


class Collected(NamedTuple):
    """Rows of a table's gradient from all: ``ids[w, :counts[w]]``, ``values`` likewise."""

    counts: Ids  # [W]
    ids: Ids  # [W, C]
    values: Floats  # [W, C, D]


class Exchange(Protocol):
    """One of the two ways."""

    def __call__(
        self, header: Floats, dense: Sequence[Any], tables: Sequence[Rows]
    ) -> tuple[Floats, Any, list[Collected]]:
        """Sums over the processes of ``header`` [H] and of all of ``dense`` in one row, and the
        rows of ``tables`` from all. Valid until the next call.
        """


def view(tensor: Any) -> Any:
    """``tensor`` as an array, without a copy where it lies in the host's memory."""
    return np.from_dlpack(tensor.detach()) if tensor.place.is_cpu_place() else tensor.numpy()


class Collectives:
    """Through the backend, gloo or NCCL."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.buffers: dict[int, Any] = {}

    def __call__(
        self, header: Floats, dense: Sequence[Any], tables: Sequence[Rows]
    ) -> tuple[Floats, Any, list[Collected]]:
        """See Exchange."""
        counts = np.zeros((self.processes.world, len(tables)), dtype=np.float32)
        counts[self.processes.rank] = [len(rows) for rows, _ in tables]
        short = paddle.to_tensor(np.concatenate([header, counts.ravel()]))
        row = paddle.concat([gradient.reshape([-1]) for gradient in dense] or [paddle.zeros([1])])
        with self.processes.collective():
            dist.all_reduce(short)
            dist.all_reduce(row)
            header, flat = np.split(short.numpy(), [len(header)])
            every = flat.reshape(counts.shape).astype(np.int64)
            collected = [
                self._collect(number, every[:, number], *rows) for number, rows in enumerate(tables)
            ]
        return header, row, collected

    def _collect(self, number: int, counts: Ids, rows: Ids, values: Any) -> Collected:
        """From all, each padded to the largest count."""
        world, most, width = self.processes.world, max(1, int(counts.max())), values.shape[1]
        spare = most - len(rows)
        if spare:
            rows = np.pad(rows, (0, spare))
            values = paddle.concat([values, paddle.zeros([spare, width])])
        ids = paddle.empty([world * most], dtype="int64")
        if number not in self.buffers or self.buffers[number].shape[0] < world * most:
            # a fresh one in each step would cost more than the exchange
            self.buffers[number] = paddle.empty([int(SPARE * world * most), width])
        every = self.buffers[number][: world * most]
        dist.stream.all_gather(ids, paddle.to_tensor(rows))
        dist.stream.all_gather(every, values)
        return Collected(
            counts, view(ids).reshape(world, most), view(every).reshape(world, most, width)
        )


class Fence:
    """A barrier of processes of one host, in microseconds; a collective takes 0.3 ms.

    Each process signals the leader that it is here, and waits for its word that all are.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        with socket.socket(socket.AF_UNIX) as own, processes.collective():
            own.settimeout(PATIENCE)

            def listen() -> str:
                name = f"\0paddlerec-milvus-{secrets.token_hex(16)}"  # in no file system
                own.bind(name)
                own.listen(processes.world)
                return name

            name = processes.from_leader(listen)
            if processes.leads:
                self.others = [own.accept()[0] for _ in range(1, processes.world)]
            else:
                own.connect(name)
                self.others = [own.dup()]
        for other in self.others:
            other.settimeout(PATIENCE)

    def __call__(self) -> None:
        """Nobody goes on before all are here; TrainingError when one does not come."""
        with self.processes.collective():
            if self.processes.leads:
                self._receive()
                self._send()
            else:
                self._send()
                self._receive()

    def _send(self) -> None:
        for other in self.others:
            other.sendall(b"!")

    def _receive(self) -> None:
        for other in self.others:
            if not other.recv(1):
                raise ConnectionResetError("connection closed")


class SharedMemory:
    """Each process posts in its part of memory that all see; for one host's CPU."""

    def __init__(self, processes: Processes, arrays: Sequence[Any], widths: Sequence[int]) -> None:
        self.processes, self.widths, self.room = processes, widths, [0] * len(widths)
        self.fence = Fence(processes)
        self.header, self.dense, self.counts = arrays  # [W, H], [W, n], [W, T]
        self.ids: list[Ids] = []  # of each table, [W, C]
        self.values: list[Floats] = []  # [W, C, D]

    @classmethod
    def open(
        cls, processes: Processes, header: int, dense: int, widths: Sequence[int]
    ) -> SharedMemory | None:
        """None where the system has no such memory, or not enough."""
        world = processes.world
        arrays = processes.shared_arrays(
            [
                ((world, header), np.float32),
                ((world, dense), np.float32),
                ((world, len(widths)), np.int64),
            ]
        )
        return None if arrays is None else cls(processes, arrays, widths)

    def __call__(
        self, header: Floats, dense: Sequence[Any], tables: Sequence[Rows]
    ) -> tuple[Floats, Any, list[Collected]]:
        """See Exchange."""
        rank, start = self.processes.rank, 0
        self.header[rank] = header
        self.counts[rank] = [len(rows) for rows, _ in tables]
        for gradient in dense:
            self.dense[rank, start : start + gradient.size] = view(gradient).ravel()
            start += gradient.size
        self._post(tables)
        self.fence()
        most = self.counts.max(axis=0)
        if (most > self.room).any():
            self._make_room(most)
            self._post(tables)
            self.fence()
        posted = zip(self.counts.T, self.ids, self.values, strict=True)
        collected = [Collected(*of_table) for of_table in posted]
        return self.header.sum(axis=0), self.dense.sum(axis=0), collected

    def _post(self, tables: Sequence[Rows]) -> None:
        rank = self.processes.rank
        for number, (rows, values) in enumerate(tables):
            if len(rows) <= self.room[number]:
                self.ids[number][rank, : len(rows)] = rows
                self.values[number][rank, : len(rows)] = view(values)

    def _make_room(self, most: Ids) -> None:
        """In all processes alike, since all see the same counts."""
        world = self.processes.world
        room = [max(now, int(SPARE * n)) for now, n in zip(self.room, most, strict=True)]
        arrays = self.processes.shared_arrays(
            [((world, n), np.int64) for n in room]
            + [((world, n, width), np.float32) for n, width in zip(room, self.widths, strict=True)]
        )
        if arrays is None:
            raise TrainingError("no memory is left to exchange gradients in; use a smaller batch")
        self.room, self.ids, self.values = room, arrays[: len(room)], arrays[len(room) :]
