# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A layer of fifteen parameters, and checkpoints of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle

from paddlerec_milvus.training.checkpoint import Position, random_state, save_checkpoint


def position(epoch: int = 0) -> Position:
    return Position(epoch, 0, 10, True, random_state(), random_state(), {"runner.seed": 1})


def trained(width: int = 3, seed: int = 1) -> tuple[Any, Any]:
    """A layer and its Adam after one step."""
    paddle.seed(seed)
    with paddle.utils.unique_name.guard():
        layer = paddle.nn.Linear(4, width)
        optimizer = paddle.optimizer.Adam(parameters=layer.parameters())
        layer(paddle.ones([2, 4])).sum().backward()
        optimizer.step()
    return layer, optimizer


def save(folder: Path, width: int = 3, seed: int = 1) -> Path:
    layer, optimizer = trained(width, seed)
    save_checkpoint(folder, layer.state_dict(), optimizer.state_dict(), position())
    return folder
