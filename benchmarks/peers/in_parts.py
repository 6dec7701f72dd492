# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Trains somebody else's model for some minutes; its lists at the best look at the valid users.

Needs NumPy and nothing of this project, so any Python that has the model's own packages runs it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

FIRST_PART, PARTS = 20, 12  # batches of the first part; parts that the minutes have room for


class Trained(Protocol):
    """A model under training."""

    whole_epoch: int
    """Batches of an epoch."""

    def train(self, batches: int) -> None:
        """Go on for so many batches."""

    def lists(self, histories: Any, *, unseen: bool = False) -> Any:
        """Lists [U, top_n] int64, -1 where short, for ``histories`` [U, L] in time order, padded
        with 0 on the right; without their items if ``unseen``.
        """

    @property
    def network(self) -> Any:
        """Its torch module."""


def recall_of(lists: Any, truths: Any, indptr: Any) -> float:
    """Mean over users of the share of a user's truths, as a set, that the list holds."""
    shares = []
    for row, own_truths in zip(lists, np.split(truths, indptr[1:-1]), strict=True):
        own = np.unique(own_truths)
        shares.append(np.isin(own, row).mean() if len(own) else 0.0)
    return float(np.mean(shares))


def train_in_parts(
    start: Callable[[], Trained], data: Mapping[str, Any], minutes: float
) -> dict[str, Any]:
    """Make the model and train it inside the minutes, its making included.

    Training goes in parts; a part is at most an epoch, and one that would end too late is not
    begun. After each the valid users are looked at, and the best part's lists are returned, with
    what is known of the run under ``about``.
    """
    began = time.perf_counter()
    ends = began + 60 * minutes
    model = start()
    whole = model.whole_epoch
    part, batches, best, seconds = min(FIRST_PART, whole), 0, None, 0.0
    while batches == 0 or time.perf_counter() + seconds < ends:
        part_began = time.perf_counter()
        model.train(part)
        batches += part
        lists = model.lists(data["valid_histories"])
        recall = recall_of(lists, data["valid_truths"], data["valid_indptr"])
        print(f"batch {batches} of {whole} an epoch, valid recall {recall:.5f}", flush=True)
        if best is None or recall > best["recall"]:
            weights = copy.deepcopy(model.network.state_dict())
            best = {"recall": recall, "batches": batches, "valid": lists, "weights": weights}
        seconds = time.perf_counter() - part_began
        if batches == FIRST_PART and whole > FIRST_PART:
            room = (ends - time.perf_counter()) / PARTS
            part = int(np.clip(room / seconds * part, FIRST_PART, whole))
            seconds *= part / FIRST_PART
    assert best is not None
    model.network.load_state_dict(best["weights"])
    return {
        "valid": best["valid"],
        "test": model.lists(data["test_histories"]),
        "unseen": model.lists(data["test_histories"], unseen=True),
        "about": {
            "seconds": time.perf_counter() - began,
            "batches": batches,
            "whole_epoch": whole,
            "best_batch": best["batches"],
            "parameters": sum(weights.numel() for weights in model.network.parameters()),
        },
    }
