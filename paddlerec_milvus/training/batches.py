# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From a reader to the batches of an epoch, the same ones each time they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import paddle

from paddlerec_milvus.collate import collate, seed_everything
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.training.checkpoint import random_state, set_random_state
from paddlerec_milvus.training.processes import ALONE, Processes, common_seed


def own_stream(items: Iterator[Any], seed: int) -> Iterator[Any]:
    """``items``, made with the global generators in a state of their own, at first of ``seed``."""
    outer = random_state()
    seed_everything(seed)
    inner = random_state()
    set_random_state(outer)
    end = object()
    while True:
        outer = random_state()
        set_random_state(inner)
        item = next(items, end)
        inner = random_state()
        set_random_state(outer)
        if item is end:
            return
        yield item


def full_batches(samples: Iterable[Any], size: int) -> Iterator[Any]:
    """What a DataLoader with ``drop_last`` gives, without its thread that reads ahead.

    So the reader's draws from the global generators come at fixed places. They come from a stream
    of its own, seeded from the net's: replaying the reader alone gives the same samples again.
    """
    seed, source = int(np.random.randint(2**31)), iter(samples)  # noqa: NPY002
    for batch in own_stream(iter(lambda: list(islice(source, size)), []), seed):
        if len(batch) < size:
            return
        yield collate(batch)


def rows_of(batch: Any, rows: slice, size: int) -> Any:
    """``rows`` of everything in ``batch`` that has ``size`` of them."""
    if isinstance(batch, (np.ndarray, paddle.Tensor)):
        return batch[rows] if batch.ndim and batch.shape[0] == size else batch
    if isinstance(batch, Mapping):
        return {key: rows_of(value, rows, size) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)):
        plain = not any(hasattr(value, "shape") or isinstance(value, Mapping) for value in batch)
        if plain and len(batch) == size:  # texts
            return batch[rows]
        return [rows_of(value, rows, size) for value in batch]
    return batch


def shared_batches(
    whole: Callable[[int], Iterator[Any]], seed: int, processes: Processes
) -> Callable[[int], Iterator[Any]]:
    """This process' rows of each whole batch, which all processes read alike.

    All get the same number of rows: of a batch that is not a multiple the last ones are dropped.
    """

    def mine(epoch: int) -> Iterator[Any]:
        for batch in own_stream(whole(epoch), common_seed(seed, epoch)):
            size = len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch[0])
            own = size // processes.world
            if own:
                first = processes.rank * own
                yield rows_of(batch, slice(first, first + own), size)

    return mine


def readable(batches: Iterator[Any], reader: str) -> Iterator[Any]:
    """``batches``; a ValueError that comes with them becomes a DataError of ``reader``."""
    try:
        yield from batches
    except ValueError as error:
        raise DataError(f"{reader} fails: {error}") from error


def open_batches(
    dataset: Any,
    batch_size: int,
    num_workers: int,
    processes: Processes = ALONE,
    seed: int = 0,
) -> Callable[[int], Iterator[Any]]:
    """A function from an epoch's number to its batches, or to this process' rows of each.

    A reader with ``iter_batches(batch_size)`` makes whole batches itself; of others each sample is
    a list of arrays and only full batches are kept, as upstream does: models may rely on that. A
    reader with ``set_share(rank, world)`` makes that process' rows alone, so that nothing is read
    twice; the batches of others are made in each process alike, from ``seed``, and cut.
    """
    if processes.world == 1:
        return _open(dataset, batch_size, batch_size, num_workers)
    if hasattr(dataset, "set_share"):
        dataset.set_share(processes.rank, processes.world)
        return _open(dataset, batch_size, batch_size // processes.world, num_workers)
    return shared_batches(_open(dataset, batch_size, batch_size, num_workers), seed, processes)


def _open(
    dataset: Any, batch_size: int, own: int, num_workers: int
) -> Callable[[int], Iterator[Any]]:
    """``own``: the rows that ``dataset`` gives of each ``batch_size``."""

    def begin(epoch: int) -> None:
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(epoch)

    def whole(epoch: int) -> Iterator[Any]:
        begin(epoch)
        return iter(dataset.iter_batches(batch_size))

    def collected(epoch: int) -> Iterator[Any]:
        begin(epoch)
        return full_batches(dataset, own)

    if num_workers == 0 and hasattr(dataset, "iter_batches"):
        return whole
    if num_workers == 0 and isinstance(dataset, paddle.io.IterableDataset):
        return collected
    loader = paddle.io.DataLoader(dataset, batch_size=own, drop_last=True, num_workers=num_workers)

    def loaded(epoch: int) -> Iterator[Any]:
        begin(epoch)
        return iter(loader)

    return loaded
