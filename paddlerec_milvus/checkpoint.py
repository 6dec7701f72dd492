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

from paddlerec_milvus.checkpoint_record import data_of, holds, require_fit, require_unchanged
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.settings import Settings

logger = logging.getLogger(__name__)

PREFIX = "rec"
BEST = "best"
BEST_FILE = "best.json"


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
    require_unchanged(file)
    import paddle  # who needs only the names above need not wait for it

    try:
        state: dict[str, Any] = paddle.load(str(file))
    except Exception as error:  # a damaged file can make its unpickler raise anything
        raise CheckpointError(f"{file}: cannot be read as a checkpoint: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{file}: holds a {type(state).__name__}, not named parameters")
    if adapt is not None:
        state = adapt(state)
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
    model.set_state_dict(state)
    return state


def best_epoch(save_path: Path) -> int:
    """The epoch whose parameters ``save_path/best`` holds. CheckpointError when there is none."""
    file = save_path / BEST / BEST_FILE
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

    CheckpointError: it is missing, stale, or was trained on other data.
    """
    folder = settings.path("infer_load_path")
    if not (folder / name / f"{PREFIX}.pdparams").is_file():
        raise CheckpointError(f"{folder / name}: there is no such checkpoint; {holds(folder)}")
    require_fit(folder / name, data_of(settings, held_out=True))
    return folder / name
