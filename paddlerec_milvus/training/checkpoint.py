# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Checkpoints: PaddleRec's ``<epoch>/rec.pdparams`` and ``rec.pdopt``, whole or not there at all.

A third file, ``rec.pdstate``, holds what a bit-equal resume needs beside them: the position in the
run and the state of every random generator.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlerec_milvus.errors import CheckpointError

PREFIX = "rec"
INTERRUPTED = "interrupted"


def random_state() -> dict[str, Any]:
    """State of Python's, numpy's and paddle's global generators."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - model folders draw from the global one
        "paddle": paddle.get_rng_state(),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put back what ``random_state`` gave."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    paddle.set_rng_state(state["paddle"])


@dataclass(frozen=True)
class Position:
    """Where a run stands, and its random state there."""

    epoch: int
    batch: int  # batches of this epoch that are done; 0 with `done` set: the epoch is complete
    step: int  # batches since the run began
    done: bool
    random: dict[str, Any]  # now
    epoch_random: dict[str, Any]  # when this epoch's reader was started
    settings: dict[str, Any]  # that a resume inside an epoch must share


def save_checkpoint(
    folder: Path, state: Mapping[str, Any], optimizer: Mapping[str, Any], position: Position
) -> None:
    """Write ``folder`` in one move; a failure leaves what was there before. CheckpointError."""
    fresh = folder.with_name(f".{folder.name}.new")
    old = folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        paddle.save(dict(state), str(fresh / f"{PREFIX}.pdparams"))
        paddle.save(dict(optimizer), str(fresh / f"{PREFIX}.pdopt"))
        with (fresh / f"{PREFIX}.pdstate").open("wb") as file:
            pickle.dump(position, file)
        for written in fresh.iterdir():
            with written.open("rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: the checkpoint could not be written: {error.strerror or error}; earlier "
            "ones are untouched: free some space, then go on with --resume"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def load_parameters(
    folder: Path, model: Any, adapt: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """Load ``folder/rec.pdparams`` into ``model``; every name and shape must fit.

    ``adapt`` is the model folder's own translation of older files. CheckpointError lists each
    parameter that differs.
    """
    file = folder / f"{PREFIX}.pdparams"
    if not file.is_file():
        at_hand = [path.parent.name for path in sorted(folder.parent.glob("*/rec.pdparams"))]
        raise CheckpointError(
            f"{file}: there is no such checkpoint; "
            + (f"{folder.parent} holds: {', '.join(at_hand)}" if at_hand else "train first")
        )
    try:
        state: dict[str, Any] = paddle.load(str(file))
    except Exception as error:  # a damaged file can make its unpickler raise anything
        raise CheckpointError(f"{file}: cannot be read as a checkpoint: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{file}: holds a {type(state).__name__}, not named parameters")
    if adapt is not None:
        state = adapt(state)
    wanted = {name: list(value.shape) for name, value in model.state_dict().items()}
    given = {name: list(value.shape) for name, value in state.items() if hasattr(value, "shape")}
    differing = [
        f"{name}: {given.get(name, 'absent')} in the file, {wanted.get(name, 'absent')} here"
        for name in sorted(wanted.keys() | given.keys())
        if wanted.get(name) != given.get(name)
    ]
    if differing:
        raise CheckpointError(
            f"{file}: does not fit the model that the settings describe: {'; '.join(differing)}"
        )
    model.set_state_dict(state)
    return state


def load_training_state(folder: Path, optimizer: Any) -> Position:
    """Load ``rec.pdopt`` into ``optimizer`` and give the position. CheckpointError if absent."""
    state_file = folder / f"{PREFIX}.pdstate"
    if not state_file.is_file():
        raise CheckpointError(
            f"{state_file}: is missing, so training cannot go on from {folder}; to start from its "
            "parameters alone set runner.model_init_path"
        )
    try:
        with state_file.open("rb") as file:
            position = pickle.load(file)
        state = paddle.load(str(folder / f"{PREFIX}.pdopt"))
    except Exception as error:  # as above
        raise CheckpointError(f"{folder}: cannot be resumed from: {error}") from error
    if not isinstance(position, Position) or not isinstance(state, dict):
        raise CheckpointError(f"{folder}: cannot be resumed from: not a state of training")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # paddle warns of accumulators that are made on demand
        optimizer.set_state_dict(state)
    return position


def supersede(save_path: Path, epoch: int, *, done: bool) -> None:
    """After a save in ``epoch``: what lies further on is of an earlier run, so no resume takes it.

    Its parameters stay, for evaluation.
    """
    if done:
        shutil.rmtree(save_path / INTERRUPTED, ignore_errors=True)
    for state in save_path.glob("*/rec.pdstate"):
        name = state.parent.name
        if name.isdigit() and int(name) >= epoch + int(done):
            state.unlink()


def newest(save_path: Path) -> Path | None:
    """The checkpoint that is furthest in the run: the interrupted one, or the last epoch's."""
    epochs = [
        path.parent
        for path in save_path.glob("*/rec.pdstate")
        if path.parent.name.isdigit() or path.parent.name == INTERRUPTED
    ]
    # an epoch's end removes the interrupted checkpoint, so where there is one it is the furthest
    return max(
        epochs,
        key=lambda path: float("inf") if path.name == INTERRUPTED else int(path.name),
        default=None,
    )
