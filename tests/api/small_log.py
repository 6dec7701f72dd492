# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A tiny log with ids of its own, and settings that train on it in a moment."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

GROUPS, GROUP_SIZE, CLICKS = 4, 10, 9

OPTIONS: dict[str, Any] = {
    "runner.epochs": 1,
    "runner.train_batch_size": 64,
    "hyper_parameters.embedding_dim": 8,
    "hyper_parameters.hidden_size": 8,
    "hyper_parameters.neg_samples": 16,
    "hyper_parameters.maxlen": 5,
}


def book(number: int) -> str:
    return f"B{number:03}"


def clicks(users: int = 60) -> pl.DataFrame:
    """A user walks round one group of ten books."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(users):
        start = int(rng.integers(GROUP_SIZE))
        for time in range(CLICKS):
            number = 1 + user % GROUPS * GROUP_SIZE + (start + time) % GROUP_SIZE
            rows.append((f"u{user:02}", book(number), time))
    return pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")


def books() -> pl.DataFrame:
    numbers = range(1, GROUPS * GROUP_SIZE + 1)
    return pl.DataFrame(
        {"item": map(book, numbers), "title": [f"The Book of {number}" for number in numbers]}
    )
