# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How many epochs, of how many batches, fit into a budget: known before a run begins.

So a learning-rate schedule ends where the run does, and a run is never cut off.
"""

from __future__ import annotations

from typing import NamedTuple

from quality_table.results import TrainerSpeed

SHARE = 0.95  # of the budget that is planned for: no two minutes of a machine are alike
TRIED = 60  # batches of the run that measures the speed


class RunLength(NamedTuple):
    """``epochs`` of ``batches`` each; 0 batches: whole epochs, as ``runner.batches_per_epoch``."""

    epochs: int
    batches: int

    @property
    def options(self) -> list[str]:
        """The settings that make a run so long."""
        return [f"runner.epochs={self.epochs}", f"runner.batches_per_epoch={self.batches}"]


def length_in(minutes: float, speed: TrainerSpeed, most_epochs: int) -> RunLength:
    """The longest run of at most ``most_epochs`` that ``minutes`` of the clock have room for.

    The start, each epoch's end and all batches count. Where whole epochs do not fit there are as
    many as are needed, each a little shorter; at least one batch is trained.
    """
    seconds = 60 * minutes * SHARE - speed.start
    for epochs in range(1, most_epochs + 1):
        batches = int((seconds - epochs * speed.valid) / (speed.batch * epochs))
        if batches < speed.batches:
            return RunLength(epochs, max(batches, 1))
    return RunLength(most_epochs, 0)
