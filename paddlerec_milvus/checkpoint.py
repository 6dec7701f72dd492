# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The part of a checkpoint that every reader needs: PaddleRec's ``<epoch>/rec.pdparams``.

Beside the epochs lies ``best``: the parameters of the epoch that did best on the valid users, and
``best.json``, which says which epoch that was.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paddlerec_milvus.checkpoint_record import (
    data_of,
    holds,
    require_fit,
    require_same_tower,
    require_unchanged,
)
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.parameter_file import read_parameter_file
from paddlerec_milvus.settings import Settings

logger = logging.getLogger(__name__)

PREFIX = "rec"
BEST = "best"
BEST_FILE = "best.json"
REPLACED = ".old"  # ends the hidden name of what a save has moved aside for a moment


def replaced(folder: Path) -> Path:
    """Where a save puts what lay at ``folder`` until its own files are there."""
    return folder.with_name(f".{folder.name}{REPLACED}")


def settled(folder: Path) -> Path:
    """``folder``, or what lay there before where a save was killed between its two moves."""
    before = replaced(folder)
    return before if before.is_dir() and not folder.exists() else folder


def load_parameters(
    folder: Path, model: Any, adapt: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """Load ``folder/rec.pdparams`` into ``model``; every name and shape must fit.

    ``adapt`` is the model folder's own translation of older files. CheckpointError lists each
    parameter that differs, or says that the file is not the one that training saved.
    """
    file = folder / f"{PREFIX}.pdparams"
    if not file.is_file():
        at_hand = [path.parent.name for path in sorted(folder.parent.glob("*/rec.pdparams"))]
        raise CheckpointError(
            f"{file}: there is no such checkpoint; "
            + (f"{folder.parent} holds: {', '.join(at_hand)}" if at_hand else "train first")
        )
    state = load_tensors(file)
    try:
        state = state if adapt is None else adapt(state)
    except Exception as error:  # the folder's code meets what it has not expected
        raise CheckpointError(f"{file}: cannot be adapted to the model: {error!r}") from error
    expected = {name: list(value.shape) for name, value in model.state_dict().items()}
    stored = {name: list(value.shape) for name, value in state.items() if hasattr(value, "shape")}
    differing = [
        f"{name}: {stored.get(name, 'absent')} in the file, {expected.get(name, 'absent')} here"
        for name in sorted(expected.keys() | stored.keys())
        if expected.get(name) != stored.get(name)
    ]
    if differing:
        raise CheckpointError(
            f"{file}: does not fit the model that the settings describe: {'; '.join(differing)}"
        )
    try:
        model.set_state_dict(state)
    except Exception as error:  # another type of numbers, say
        raise CheckpointError(f"{file}: cannot be loaded into the model: {error}") from error
    return state


def load_tensors(file: Path) -> dict[str, Any]:
    """The tensors that ``paddle.save`` wrote into ``file``, by name; nothing that it names is run.

    CheckpointError: it is not the file that training saved, is damaged, or holds something else.
    """
    require_unchanged(file)
    import paddle  # who needs only the names of files need not wait for it

    try:
        state = read_parameter_file(file)
    except Exception as error:  # a damaged file can make its unpickler raise anything
        raise CheckpointError(f"{file}: cannot be read as a checkpoint: {error}") from error
    if not (isinstance(state, dict) and all(isinstance(name, str) for name in state)):
        raise CheckpointError(f"{file}: holds a {type(state).__name__}, not named parameters")

    def tensors(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: tensors(part) for name, part in value.items()}
        return paddle.to_tensor(value) if isinstance(value, np.ndarray) else value

    return {name: tensors(value) for name, value in state.items()}


def best_epoch(save_path: Path) -> int:
    """The epoch whose parameters ``save_path/best`` holds. CheckpointError when there is none."""
    file = settled(save_path / BEST) / BEST_FILE
    try:
        epoch = json.loads(file.read_bytes())["epoch"]
    except FileNotFoundError:
        raise CheckpointError(
            f"{file}: there is no best epoch; training keeps one when runner.valid_data_dir is "
            f"set; {holds(save_path)}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error!r}") from error
    if type(epoch) is not int:
        raise CheckpointError(f"{file}: epoch is {epoch!r}, expected an integer")
    return epoch


def evaluated_checkpoints(settings: Settings, *, best: bool = False) -> list[tuple[int, Path]]:
    """The epochs that an evaluation is of, and their folders: the best, or infer_start_epoch to
    infer_end_epoch. CheckpointError: one is missing, stale, or was trained on other data.
    """
    runner, folder = settings.runner, settings.path("infer_load_path")
    logger.info("checkpoints: %s", folder)
    if best:
        return [(best_epoch(folder), usable_checkpoint(settings, BEST))]
    epochs = range(runner.infer_start_epoch, runner.infer_end_epoch)
    return [(epoch, usable_checkpoint(settings, str(epoch))) for epoch in epochs]


def usable_checkpoint(settings: Settings, name: str) -> Path:
    """``infer_load_path/<name>``, to be used with the test users of ``settings``.

    CheckpointError: it is missing, stale, or was trained on other data or as another tower.
    """
    folder = settings.path("infer_load_path")
    checkpoint = settled(folder / name)
    if not (checkpoint / f"{PREFIX}.pdparams").is_file():
        raise CheckpointError(f"{folder / name}: there is no such checkpoint; {holds(folder)}")
    record = require_fit(checkpoint, data_of(settings, held_out=True))
    require_same_tower(checkpoint, record, settings)
    return checkpoint
