# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The learning rate of each step, where a model folder has an opinion on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from paddlerec_milvus.errors import ModelError
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.zoo import DygraphModel, ModelFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """``DygraphModel.learning_rate(config, progress)`` over the steps of a run."""

    learning_rate: Callable[[Mapping[str, Any], float], float]
    config: Mapping[str, Any]
    batches: int  # in an epoch
    epochs: int

    def rate(self, epoch: int, batch: int) -> float:
        """The rate of a step; the share of the run before it, in [0, 1), decides."""
        progress = (epoch + batch / self.batches) / self.epochs
        return float(self.learning_rate(self.config, progress))

    def note_stretched(self, epochs: int | None) -> None:
        """Say that a run of ``epochs`` (None: not known) goes on with another number of them."""
        rates = {self.learning_rate(self.config, part / 10) for part in range(10)}
        if epochs not in (None, self.epochs) and len(rates) > 1:
            logger.info(
                "runner.epochs: was %d, is %d: the learning-rate schedule is stretched from here "
                "on, which differs from %d epochs in one run",
                epochs,
                self.epochs,
                self.epochs,
            )


def open_schedule(
    settings: Settings,
    folder: ModelFolder,
    contract: DygraphModel,
    config: Mapping[str, Any],
    dataset: Any,
) -> Schedule | None:
    """The folder's schedule, None when it has none. ModelError: its batches cannot be counted."""
    learning_rate = getattr(contract, "learning_rate", None)
    if learning_rate is None:
        return None
    if not hasattr(dataset, "count_batches"):
        raise ModelError(
            f"{folder.path}: DygraphModel.learning_rate follows the progress of a run, so "
            f"{settings.runner.train_reader_path}.RecDataset needs count_batches(batch_size)"
        )
    with folder.active(), folder.settings_errors():
        batches = int(dataset.count_batches(settings.runner.train_batch_size))
        schedule = Schedule(learning_rate, config, max(batches, 1), settings.runner.epochs)
        schedule.rate(0, 0)
    return schedule
