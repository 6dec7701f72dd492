# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whether a stored state of training fits the run that is to go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.training.checkpoint import Position

# what decides the order of batches inside an epoch
ORDER_KEYS = (
    "runner.seed",
    "runner.train_batch_size",
    "runner.train_data_dir",
    "runner.num_workers",
)


def order_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide the order of batches inside an epoch."""
    return {key: config.get(key) for key in ORDER_KEYS}


def require_same_run(checkpoint: Path, position: Position, now: Mapping[str, Any]) -> None:
    """SettingsError where the state of ``position`` does not fit the settings ``now``."""
    was = {"processes": 1, **position.settings}
    changed = [
        f"{key}: was {was.get(key)}, is {now[key]}"
        for key in (*ORDER_KEYS, "processes", "optimizer")
        if was.get(key) != now[key]
    ]
    if was.get("optimizer") != now["optimizer"]:
        raise SettingsError(
            f"{checkpoint}: {changed[-1]}, and its state does not fit; to start from the "
            "parameters alone set runner.model_init_path"
        )
    if changed and not position.done:
        raise SettingsError(
            f"{checkpoint}: stands inside epoch {position.epoch}, whose batches would come in "
            f"another order: {'; '.join(changed)}"
        )
