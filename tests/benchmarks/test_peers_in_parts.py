# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""benchmarks/peers/in_parts.py: other people's models, trained for some minutes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from peers.in_parts import FIRST_PART, train_in_parts


class Weights:
    def __init__(self) -> None:
        self.steps = np.zeros(1)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]

    def parameters(self) -> list[Any]:
        return []


class BestInTheMiddle:
    """Finds item 7, the only truth, after exactly 40 batches."""

    whole_epoch = FIRST_PART

    def __init__(self) -> None:
        self.network = Weights()

    def train(self, batches: int) -> None:
        self.network.steps += batches

    def lists(self, histories: Any, *, unseen: bool = False) -> Any:
        found = 7 if self.network.steps[0] == 40 else 1 + unseen
        return np.full((len(histories), 2), found)


@pytest.fixture
def data() -> dict[str, Any]:
    histories = np.array([[3, 0]])
    return {
        "valid_histories": histories,
        "test_histories": histories,
        "valid_truths": np.array([7, 7]),
        "valid_indptr": np.array([0, 2]),
    }


def test_the_lists_are_those_of_the_best_part(data, monkeypatch):
    times = iter(range(1_000))
    monkeypatch.setattr("peers.in_parts.time.perf_counter", lambda: float(next(times)))
    found = train_in_parts(BestInTheMiddle, data, minutes=0.25)
    assert found["about"]["best_batch"] == 40
    assert found["about"]["batches"] > 40
    for split in ("valid", "test", "unseen"):
        assert (found[split] == 7).all()


def test_one_part_is_trained_however_short_the_minutes(data):
    found = train_in_parts(BestInTheMiddle, data, minutes=1e-9)
    assert found["about"]["batches"] == FIRST_PART
    assert (found["unseen"] == 2).all()
