# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Samples of a reader as batches of tensors, and the generators that readers draw from."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle
from paddle.io.dataloader.collate import default_collate_fn


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and paddle's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - model folders draw from the global one
    paddle.seed(seed)


def as_tensors(batch: Any) -> Any:
    """``batch`` with each array in it as a tensor, in lists where it had sequences."""
    if isinstance(batch, np.ndarray):
        return paddle.to_tensor(batch)
    if isinstance(batch, Mapping):
        return {key: as_tensors(value) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)):
        return [as_tensors(value) for value in batch]
    return batch


def collate(samples: Sequence[Any]) -> Any:
    """One batch of ``samples``, as paddle's DataLoader makes it. ValueError: shapes differ."""
    return as_tensors(default_collate_fn(samples))
