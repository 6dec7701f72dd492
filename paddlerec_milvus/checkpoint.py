# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The part of a checkpoint that every reader needs: PaddleRec's ``<epoch>/rec.pdparams``.

Beside the epochs lies ``best``: the parameters of the epoch that did best on the valid users, and
``best.json``, which says which epoch that was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paddlerec_milvus.errors import CheckpointError

PREFIX = "rec"
BEST = "best"
BEST_FILE = "best.json"


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
            f"{file}: there is no best epoch; training keeps one when runner.valid_data_dir is set"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error!r}") from error
    if type(epoch) is not int:
        raise CheckpointError(f"{file}: epoch is {epoch!r}, expected an integer")
    return epoch
