# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the readers of a model folder give: every sample once, in an order of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.collate import collate, seed_everything
from paddlerec_milvus.contributing.check_results import NotApplicableError
from paddlerec_milvus.contributing.trial import Trial
from paddlerec_milvus.data.files import reader_files
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.errors import DataError, ModelError

Column = npt.NDArray[Any]

MOST_SAMPLES = 300_000  # beyond that a reader is not read to its end


def first_batch(trial: Trial, key: str, module: str, config: Mapping[str, Any]) -> Any:
    """The first samples of a reader as one batch of tensors; DataError: it gives none."""
    files = reader_files(trial.settings.path(key), f"runner.{key}")
    samples = list(islice(iter(trial.folder.reader(module, files, config)), 8))
    if not samples:
        raise DataError(f"runner.{key}: the reader {module} gives no sample")
    return collate(samples)


def _columns(batches: Iterator[Any]) -> list[Column]:
    """All batches of arrays as one array a part; a row is a sample."""
    parts: list[list[Column]] = []
    rows = 0
    for batch in batches:
        arrays = [np.asarray(part) for part in batch]
        rows += len(arrays[0])
        if rows > MOST_SAMPLES:
            raise NotApplicableError(f"more than {MOST_SAMPLES:,} samples; check on a smaller log")
        parts.append(arrays)
    if not parts:
        raise DataError("the train reader gives no batch")
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _epoch(trial: Trial, epoch: int, seed: int | None = None) -> list[Column]:
    """All samples of ``epoch`` from a reader of its own, each part an array of a row a sample."""
    runner, folder = trial.settings.runner, trial.folder
    config, seed = trial.settings.dotted(), runner.seed if seed is None else seed
    whole = {"runner.batches_per_epoch": 0, "hyper_parameters.next_n": 1}
    config |= {key: value for key, value in whole.items() if key in config}
    config["runner.seed"] = seed
    files = reader_files(trial.settings.path("train_data_dir"), "runner.train_data_dir")
    seed_everything(seed + epoch)  # for those that draw from the global generators
    reader: Any = folder.reader(runner.train_reader_path, files, config)
    with folder.active():
        if hasattr(reader, "set_epoch"):
            reader.set_epoch(epoch)
        if hasattr(reader, "iter_batches"):
            return _columns(iter(reader.iter_batches(runner.train_batch_size)))
        return _columns(_collected(iter(reader)))


def _collected(samples: Iterator[Any]) -> Iterator[Any]:
    while batch := list(islice(samples, 256)):
        yield collate(batch)


def _rows(columns: list[Column]) -> Column:
    """[n, …] one row of numbers a sample."""
    return np.concatenate([part.reshape(len(part), -1) for part in columns], axis=1)


def order_of_seed_and_epoch(trial: Trial) -> str:
    """The same seed and epoch give the same samples; another epoch or seed another order."""
    name = trial.settings.runner.train_reader_path
    first, again = _rows(_epoch(trial, 0)), _rows(_epoch(trial, 0))
    if first.shape != again.shape or (first != again).any():
        raise ModelError(
            f"{name}: two readers of one seed and epoch give different samples: draw from "
            'np.random.default_rng([config.get("runner.seed"), epoch])'
        )
    later = _rows(_epoch(trial, 1))
    if first.shape == later.shape and (first == later).all():
        raise ModelError(
            f"{name}: epoch 1 has the order of epoch 0; shuffle by set_epoch(epoch) or draw anew"
        )
    return f"{len(first):,} samples, the same again, in another order in the next epoch"


def every_sample_once(trial: Trial) -> str:
    """An epoch holds each click of the log with the clicks before it, once."""
    name, columns = trial.settings.runner.train_reader_path, _epoch(trial, 0)
    rows = _rows(columns)
    if not trial.reads_clicks:
        return _rarely_twice(name, rows)
    config = trial.settings.hyper_parameters
    maxlen, count = int(config.get("maxlen", 0)), int(config.get("item_count", 0))
    history, target = columns[0], columns[1]
    if history.min() < 0 or max(history.max(), target.max()) >= count:
        raise ModelError(f"{name}: an item id is not below hyper_parameters.item_count: {count}")
    expected = _samples_of_log(trial, maxlen, int(config.get("min_history", 1)))
    if history.shape[1:] != (maxlen,) or target.shape[1:] != (1,):
        return _every_target(name, target, expected[:, -1], rows)
    if (history[:, 0] == 0).any() or (target == 0).any():
        raise ModelError(
            f"{name}: a history begins with 0 or a target is 0, which is padding and no item; "
            "histories are padded on the right"
        )
    read = np.concatenate([history, target], axis=1)
    kinds, times = np.unique(read, axis=0, return_counts=True)
    wanted, often = np.unique(expected, axis=0, return_counts=True)
    if kinds.shape == wanted.shape and (kinds == wanted).all() and (times == often).all():
        return f"{len(read):,} samples, as many as the log has clicks after another"
    raise ModelError(
        f"{name}: an epoch has {len(read):,} samples, {len(kinds):,} of them distinct; the log "
        f"has {len(expected):,}, {len(wanted):,} of them distinct: "
        + ("it repeats some" if len(kinds) < len(wanted) else "its samples are others")
        + " (a sample is a click and the last maxlen clicks before it)"
    )


def _samples_of_log(trial: Trial, maxlen: int, min_history: int) -> Column:
    """[n, maxlen + 1]: of every click after ``min_history`` others those before it, and itself."""
    log = read_click_log(trial.settings.path("train_data_dir"))
    users = np.split(log.items, log.indptr[1:-1])
    if len(log.items) > MOST_SAMPLES:
        raise NotApplicableError(f"more than {MOST_SAMPLES:,} clicks; check on a smaller log")
    pairs = [(u[max(0, i - maxlen) : i], u[i]) for u in users for i in range(min_history, len(u))]
    histories, _ = pad_histories([past for past, _ in pairs], maxlen)
    return np.column_stack([histories, [target for _, target in pairs]])


def _every_target(name: str, targets: Column, expected: Column, rows: Column) -> str:
    """Samples of another form, a whole sequence say: every item that follows another is a target"""
    missing = np.setdiff1d(expected, targets)
    if len(missing):
        raise ModelError(
            f"{name}: {len(missing)} items that are clicked after another are never a target, "
            f"{missing[0]} for one: an epoch does not read all of the log"
        )
    return _rarely_twice(name, rows)


def _rarely_twice(name: str, rows: Column) -> str:
    distinct = len(np.unique(rows, axis=0))
    if 2 * distinct < len(rows):
        raise ModelError(
            f"{name}: {len(rows):,} samples of an epoch are {distinct:,} distinct ones: it repeats "
            "itself; seed a generator once an epoch, not once a sample"
        )
    return f"{len(rows):,} samples, {distinct:,} of them distinct"


def no_truth_cut(trial: Trial) -> str:
    """The infer reader gives each test user with the last clicks and with all truths."""
    trial.require_searched()
    name, config = trial.settings.runner.infer_reader_path, trial.settings.dotted()
    files = reader_files(trial.settings.path("test_data_dir"), "runner.test_data_dir")
    users = read_held_out(trial.settings.path("test_data_dir"))
    histories, _ = users.histories(int(config.get("hyper_parameters.maxlen", 0)))
    samples = [*iter(trial.folder.reader(name, files, config))]
    if len(samples) != len(users):
        raise ModelError(f"{name}: gives {len(samples)} of the {len(users)} test users")
    for row, (sample, truths) in enumerate(zip(samples, users.truth_list(), strict=True)):
        history, listed = np.asarray(sample[0]).reshape(-1), np.asarray(sample[2]).reshape(-1)
        if sorted(listed[listed != 0]) != sorted(truths):
            raise ModelError(
                f"{name}: test user {users.user_ids[row]} has {len(truths)} truths in the file, "
                f"and {np.count_nonzero(listed)} come out: a truth that is cut cannot be read; "
                "pad to the longest list of the files"
            )
        if history.shape != histories[row].shape or (history != histories[row]).any():
            raise ModelError(
                f"{name}: the history of test user {users.user_ids[row]} is not the last maxlen "
                "clicks in time order, padded with 0 on the right"
            )
    return f"{len(users):,} users, {len(users.truths):,} truths"
