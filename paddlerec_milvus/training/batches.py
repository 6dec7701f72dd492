# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From a reader to the batches of an epoch, the same ones each time they are asked for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle.io.dataloader.collate import default_collate_fn

from paddlerec_milvus.errors import DataError
from paddlerec_milvus.training.checkpoint import random_state, set_random_state


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and paddle's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - model folders draw from the global one
    paddle.seed(seed)


def data_files(folder: Path, key: str) -> list[Path]:
    """The files of a data folder, sorted; DataError names the setting that points at it."""
    if not folder.is_dir():
        raise DataError(
            f"{key}: {folder}: no such folder; make the sample with 'python "
            "datasets/amazonbook/prepare.py --sample --out datasets/sample', or point a run at a "
            "prepared folder with --data DIR"
        )
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if not files:
        raise DataError(f"{key}: {folder}: is empty")
    return files


def as_tensors(batch: Any) -> Any:
    """``batch`` with each array in it as a tensor, in lists where it had sequences."""
    if isinstance(batch, np.ndarray):
        return paddle.to_tensor(batch)
    if isinstance(batch, Mapping):
        return {key: as_tensors(value) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)):
        return [as_tensors(value) for value in batch]
    return batch


def full_batches(samples: Iterable[Any], size: int) -> Iterator[Any]:
    """What a DataLoader with ``drop_last`` gives, without its thread that reads ahead.

    So the reader's draws from the global generators come at fixed places. They come from a stream
    of its own, seeded from the net's: replaying the reader alone gives the same samples again.
    """
    seed, outer = int(np.random.randint(2**31)), random_state()  # noqa: NPY002
    seed_everything(seed)
    inner, source = random_state(), iter(samples)
    set_random_state(outer)
    while True:
        outer = random_state()
        set_random_state(inner)
        batch = list(islice(source, size))
        inner = random_state()
        set_random_state(outer)
        if len(batch) < size:
            return
        yield as_tensors(default_collate_fn(batch))


def open_batches(dataset: Any, batch_size: int, num_workers: int) -> Callable[[int], Iterator[Any]]:
    """A function from an epoch's number to its batches.

    A reader with ``iter_batches(batch_size)`` makes whole batches itself; of others each sample is
    a list of arrays and only full batches are kept, as upstream does: models may rely on that.
    """

    def begin(epoch: int) -> None:
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(epoch)

    def whole(epoch: int) -> Iterator[Any]:
        begin(epoch)
        return iter(dataset.iter_batches(batch_size))

    def collected(epoch: int) -> Iterator[Any]:
        begin(epoch)
        return full_batches(dataset, batch_size)

    if num_workers == 0 and hasattr(dataset, "iter_batches"):
        return whole
    if num_workers == 0 and isinstance(dataset, paddle.io.IterableDataset):
        return collected
    loader = paddle.io.DataLoader(
        dataset, batch_size=batch_size, drop_last=True, num_workers=num_workers
    )

    def loaded(epoch: int) -> Iterator[Any]:
        begin(epoch)
        return iter(loader)

    return loaded
