# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The clicks of a training log, and readers that cut them to samples.

An epoch is all samples, in an order shuffled from ``runner.seed`` and the epoch;
``runner.batches_per_epoch`` above 0 ends it after that many batches.
"""

from __future__ import annotations

import warnings

import numpy as np
from features import train_folder
from paddle.io import IterableDataset, get_worker_info


def read_clicks(file_list):
    """Arrays ``users``, ``items`` (int64, [n]) of ``uid,item,time`` lines, by user, then time."""
    if not file_list:
        raise ValueError("no file of clicks (lines uid,item,time) in runner.train_data_dir")
    parts = []
    for path in file_list:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # an empty file is one
                clicks = np.loadtxt(
                    path, delimiter=",", dtype=np.int64, ndmin=2, encoding="utf-8-sig"
                )
        except (ValueError, UserWarning) as error:
            raise ValueError(f"{path}: expected lines uid,item,time: {error}") from error
        if clicks.shape[1:] != (3,):
            raise ValueError(
                f"{path}: expected lines uid,item,time, found {clicks.shape[1]} fields"
            )
        parts.append(clicks)
    clicks = np.concatenate(parts)
    order = np.lexsort((clicks[:, 2], clicks[:, 0]))  # stable: ties keep the file's order
    return clicks[order, 0], clicks[order, 1]


def count_items(config, item_count):
    """Clicks [V] of each item in the training log."""
    files = [path for path in train_folder(config).glob("*") if path.name[0] != "."]
    _, items = read_clicks(sorted(map(str, files)))
    return np.bincount(items, minlength=item_count)[:item_count]


class ClickReader(IterableDataset):
    """One sample at a time, or whole batches by ``iter_batches``; all arrays are int64.

    A reader derives from it: it sets ``samples`` [n], the numbers of its samples, and has
    ``batch_of``.
    """

    def __init__(self, file_list, config):
        super().__init__()
        self.maxlen = config.get("hyper_parameters.maxlen", 20)
        self.batch_size = config.get("runner.train_batch_size", 128)
        self.batches_per_epoch = config.get("runner.batches_per_epoch", 0)
        self.seed = config.get("runner.seed", 12345)
        self.epoch = 0
        self.rank, self.world = 0, 1
        self.users, self.items = users, _ = read_clicks(sorted(file_list))
        item_count = config.get("hyper_parameters.item_count", 0)
        if self.items.min() < 1 or self.items.max() >= item_count:
            raise ValueError(
                f"hyper_parameters.item_count: {item_count} allows item ids 1 to {item_count - 1}, "
                f"but {', '.join(map(str, file_list))} hold {self.items.min()} to "
                f"{self.items.max()}; set it to the largest id + 1"
            )
        self.starts = np.flatnonzero(np.diff(users, prepend=users[0] - 1))  # each user's first
        self.clicks_of = np.diff(self.starts, append=len(users))  # each user's number of clicks

    def set_epoch(self, epoch):
        """Shuffle as the given epoch does, whatever was read before."""
        self.epoch = epoch

    def set_share(self, rank, world):
        """Give the rows of process ``rank`` of ``world`` alone: the same number to each."""
        if world > min(self.batch_size, len(self.samples)):
            raise ValueError(
                f"{world} processes share runner.train_batch_size: {self.batch_size} and "
                f"{len(self.samples)} samples: at least one for each is needed"
            )
        self.rank, self.world = rank, world

    def count_batches(self, batch_size):
        """Batches in an epoch."""
        if self.batches_per_epoch > 0:
            return self.batches_per_epoch
        return -(-(len(self.samples) // self.world) // (batch_size // self.world))

    def iter_batches(self, batch_size):
        """Batches of one epoch; ``batch_size`` is that of all processes together."""
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        self.begin_epoch(rng)
        order = rng.permutation(self.samples)
        own = batch_size // self.world
        if self.batches_per_epoch > 0:
            needed = self.batches_per_epoch * own * self.world
            rounds = [order] + [rng.permutation(order) for _ in range((needed - 1) // len(order))]
            order = np.concatenate(rounds)[:needed]
        order = order[: len(order) // self.world * self.world][self.rank :: self.world]
        for start in range(0, len(order), own):
            yield self.batch_of(order[start : start + own], rng)

    def begin_epoch(self, rng):
        """Draw what holds for a whole epoch; a reader may have something."""

    def batch_of(self, samples, rng):
        """The arrays, each with a row a sample, of ``samples`` [B]."""
        raise NotImplementedError

    def __iter__(self):
        """One sample at a time, as the arrays of ``batch_of`` have them."""
        worker = get_worker_info()
        for number, batch in enumerate(self.iter_batches(self.batch_size)):
            if worker is None or number % worker.num_workers == worker.id:
                yield from (list(sample) for sample in zip(*batch, strict=True))
