# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One gradient out of those of several processes, tables with sparse gradients included.

Each process has the mean loss of its own rows and all have the same number of rows, so the mean of
their gradients is the gradient of the whole batch. A table's gradient is the rows that a batch
looked up: they are collected and summed by row, and a dense one is never made.

On one host's CPU the tables and their accumulators in the optimizer lie in memory that all
processes see, and each updates an equal share of a batch's rows; elsewhere each updates all of its
copy.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import paddle
from paddle.nn import functional
from scipy.sparse import csr_matrix

from paddlerec_milvus.errors import ModelError
from paddlerec_milvus.training.exchange import (
    Collected,
    Collectives,
    Exchange,
    Floats,
    Ids,
    SharedMemory,
    view,
)
from paddlerec_milvus.training.processes import Processes

RUN = 64  # rows


def sum_rows(collected: Collected, part: int, parts: int) -> tuple[Ids, Floats, int]:
    """The ``part``-th of ``parts`` equal shares of the distinct rows of what was collected.

    Returns the rows, rising, the mean over the processes of each one's values, and the number of
    all distinct rows. Values of a row are added in the order of the processes. A share is many
    short runs of rows: neighbours lie in the same pages, and all have their part of the often used.
    """
    counts, room = collected.counts, collected.ids.shape[1]
    ids = np.concatenate([own[:n] for own, n in zip(collected.ids, counts, strict=True)])
    places = np.concatenate([w * room + np.arange(n) for w, n in enumerate(counts)])
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    first = np.ones(len(ids), dtype=bool)
    np.not_equal(ids[1:], ids[:-1], out=first[1:])
    number = np.cumsum(first) - 1  # of the distinct row that each belongs to
    total = int(number[-1]) + 1 if len(ids) else 0
    run = max(1, min(RUN, total // (4 * parts)))
    own = number // run % parts == part
    rows, first, chosen = ids[own & first], first[own], places[order[own]].astype(np.int32)
    starts = np.append(np.flatnonzero(first), len(chosen)).astype(np.int32)
    weights = np.full(len(chosen), 1.0 / len(counts), dtype=np.float32)
    values = collected.values.reshape(-1, collected.values.shape[2])
    return rows, csr_matrix((weights, chosen, starts), (len(rows), len(values))) @ values, total


def set_gradient(parameter: Any, values: Any) -> None:
    """Make ``values`` (an array or a tensor, flat) the gradient of ``parameter``."""
    gradient = parameter.grad
    if isinstance(values, np.ndarray) and gradient is not None and gradient.dtype == np.float32:
        view(gradient)[...] = values.reshape(gradient.shape)
    else:
        tensor = paddle.to_tensor(values) if isinstance(values, np.ndarray) else values
        parameter.grad = tensor.reshape(parameter.shape).astype(parameter.dtype)


def set_sparse_gradient(table: Any, rows: Ids, values: Floats) -> None:
    """Make ``values`` [n, D] at ``rows`` [n] the gradient of ``table`` [V, D]."""
    if table.grad is None:  # this process looked up nothing
        row = functional.embedding(paddle.zeros([1], dtype="int64"), table, sparse=True)
        row.sum().backward()
    gradient = table.grad.get_selected_rows()
    gradient.set_rows(rows.tolist())
    tensor = paddle.from_dlpack(values) if table.place.is_cpu_place() else paddle.to_tensor(values)
    gradient.get_tensor()._share_data_with(tensor.value().get_tensor())


def updates_rows_alone(optimizer: Any) -> bool:
    """Whether a row of a table changes by its own gradient only, and only in a step that has it."""
    adam = type(optimizer) is paddle.optimizer.Adam and optimizer._lazy_mode
    rowwise = adam or type(optimizer) in (paddle.optimizer.SGD, paddle.optimizer.Adagrad)
    return bool(rowwise and optimizer._grad_clip is None and optimizer.regularization is None)


class Gradients:
    """What the processes of a run do between ``backward`` and the next batch."""

    def __init__(
        self, model: Any, optimizer: Any, processes: Processes, stop_requested: threading.Event
    ) -> None:
        self.optimizer, self.processes, self.stop_requested = optimizer, processes, stop_requested
        # set when some process was asked to: all stop after the same step
        self.stop = stop_requested if processes.world == 1 else threading.Event()
        self.parameters = [
            parameter for parameter in model.parameters() if not parameter.stop_gradient
        ]
        self.dense: list[Any] = []
        self.tables: list[Any] = []
        self.exchange: Exchange | None = None
        self.shared: SharedMemory | None = None  # where the tables lie among the processes
        self.idle = False  # some process has no row to update in this step

    def average(self, loss: Any) -> Any:
        """Make every gradient its mean over the processes; gives the mean ``loss``."""
        if self.processes.world == 1:
            return loss
        if self.exchange is None:
            self.exchange = self._open()
        world = self.processes.world
        used = [parameter.grad is not None for parameter in self.dense]
        header = np.array([self.stop_requested.is_set(), float(loss), *used], dtype=np.float32)
        header, row, collected = self.exchange(header, self._dense(), self._rows())
        start = 0
        for parameter, used_by in zip(self.dense, header[2:], strict=True):
            if used_by:
                set_gradient(parameter, row[start : start + parameter.size] / world)
            start += parameter.size
        self.idle = False
        for table, of_table in zip(self.tables, collected, strict=True):
            part, parts = (0, 1) if self.shared is None else (self.processes.rank, world)
            rows, values, total = sum_rows(of_table, part, parts)
            self.idle |= 0 < total < parts
            if total:
                set_sparse_gradient(table, rows, values)
        if header[0]:
            self.stop.set()
        return paddle.to_tensor(header[1] / world)

    def stepped(self) -> None:
        """After the optimizer's step: nobody reads a table before all have updated it."""
        if self.shared is not None:
            if self.idle:  # an optimizer counts no step without a row
                self.processes.align(self._accumulators(of_rows=False))
            self.shared.fence()
        elif isinstance(self.exchange, SharedMemory):
            if self._share():
                self.shared = self.exchange
            else:
                self.exchange = Collectives(self.processes)

    def _open(self) -> Exchange:
        """In the first step, whose gradients show which are sparse."""
        sparse = [
            parameter.grad is not None and parameter.grad.is_selected_rows()
            for parameter in self.parameters
        ]
        anywhere = self.processes.mean(np.array(sparse, dtype=np.float32)) > 0
        for parameter, is_table in zip(self.parameters, anywhere, strict=True):
            (self.tables if is_table else self.dense).append(parameter)
        near = self.processes.on_one_host and paddle.get_device() == "cpu"
        if near and self.tables and updates_rows_alone(self.optimizer):
            sizes = 2 + len(self.dense), sum(parameter.size for parameter in self.dense)
            widths = [parameter.shape[1] for parameter in self.tables]
            shared = SharedMemory.open(self.processes, *sizes, widths)
            if shared is not None:
                return shared
        return Collectives(self.processes)

    def _dense(self) -> list[Any]:
        """A gradient of each, zeros where this process has none."""
        for parameter in self.dense:
            if parameter.grad is not None and parameter.grad.is_selected_rows():
                raise _changed(parameter, "sparse")
        return [
            paddle.zeros(parameter.shape)
            if parameter.grad is None
            else parameter.grad.astype("float32")
            for parameter in self.dense
        ]

    def _rows(self) -> list[tuple[Ids, Any]]:
        gathered = []
        for table in self.tables:
            if table.grad is None:
                gathered.append((np.zeros(0, dtype=np.int64), paddle.zeros([0, table.shape[1]])))
                continue
            if not table.grad.is_selected_rows():
                raise _changed(table, "dense")
            values = table.grad._get_tensor_from_selected_rows()
            gathered.append((np.array(table.grad.rows(), dtype=np.int64), values))
        return gathered

    def _accumulators(self, *, of_rows: bool) -> list[Any]:
        """The optimizer's of the tables: those with a value for each row, or the others."""
        return [
            by_parameter[table.name]
            for by_parameter in self.optimizer._accumulators.values()
            for table in self.tables
            if table.name in by_parameter
            and (by_parameter[table.name].shape == table.shape) is of_rows
        ]

    def _share(self) -> bool:
        """Move the tables and their accumulators, the same in all so far, to where all see them."""
        tensors = [*self.tables, *self._accumulators(of_rows=True)]
        arrays = self.processes.shared_arrays([(tensor.shape, np.float32) for tensor in tensors])
        if arrays is None:
            return False
        for tensor, array in zip(tensors, arrays, strict=True):
            if self.processes.leads:
                array[...] = view(tensor)
        self.processes.fence()
        for tensor, array in zip(tensors, arrays, strict=True):
            trained, tensor.stop_gradient = not tensor.stop_gradient, True
            tensor.set_(paddle.from_dlpack(array))
            tensor.stop_gradient = not trained
        return True


def _changed(parameter: Any, kind: str) -> ModelError:
    return ModelError(
        f"the gradient of parameter {parameter.name} {list(parameter.shape)} became {kind} during "
        "the run, which several processes cannot follow: train in one"
    )
