# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a run says while it goes on: log lines in PaddleRec's shape, and VisualDL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Value = tuple[str, str, float]  # name, its text in PaddleRec's format, its number


@dataclass
class Meter:
    """Reader and step seconds, and samples, since the last log line."""

    interval: int  # batches between two lines
    reader: float = 0.0
    run: float = 0.0
    samples: int = 0

    def __str__(self) -> str:
        """PaddleRec's words."""
        total = self.reader + self.run
        return (
            f"avg_reader_cost: {self.reader / self.interval:.5f} sec, "
            f"avg_batch_cost: {total / self.interval:.5f} sec, "
            f"avg_samples: {self.samples / self.interval:.5f}, "
            f"ips: {self.samples / max(total, 1e-9):.5f} ins/s"
        )


def values_of(
    metrics: list[Any],
    names: list[str],
    printed: dict[str, Any] | None,
    mean: Callable[[Any], Any] = lambda value: value,
) -> list[Value]:
    """Everything that a model folder wants logged; ``mean`` is taken over processes."""
    values = []
    for name, metric in zip(names, metrics, strict=False):
        value = mean(metric.accumulate())
        values.append((name, f"{value:.6f}", float(value)))
    for name, tensor in (printed or {}).items():
        array = mean(np.asarray(tensor.numpy() if hasattr(tensor, "numpy") else tensor))
        values.append((name, str(array).strip("[]"), float(array.reshape(-1)[0])))
    return values


def words(values: list[Value]) -> str:
    """The middle of a log line."""
    return "".join(f"{name}:{text}, " for name, text, _ in values)


@contextmanager
def visual_writer(folder: Path | None) -> Iterator[Any]:
    """VisualDL's writer into ``folder``, or None."""
    if folder is None:
        yield None
        return
    from visualdl import LogWriter

    with LogWriter(str(folder)) as writer:
        yield writer
