# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Small rankers beside the trained MIND, and calls for ranked lists."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from running_service import Running, running, settings_of

from paddlerec_milvus.ranking.ranking_model import RankingModel
from paddlerec_milvus.trained_model import TrainedModel

TOP_K = 10


def copy_of(trained: Any, folder: Path) -> Any:
    """The trained model with checkpoints of its own in ``folder``."""
    shutil.copytree(trained.checkpoints, folder / "out")
    return replace(trained, checkpoints=folder / "out")


def train_small(trained: TrainedModel, trees: int = 10, seed: int = 1) -> RankingModel:
    """A ranker of few trees and lists, saved beside the checkpoint."""
    from paddlerec_milvus.ranking.training import train_ranking  # paddle

    return train_ranking(trained, seed, kind="trees", most_lists=150, rounds=trees)


def started(ranked: Any, folder: Path, **others: Any) -> Any:
    """A service whose rankings have time enough on any machine."""
    return running(settings_of(ranked, folder, **{"ranking_timeout": 60.0, **others}))


def recommended(service: Running, *histories: list[Any], **options: Any) -> dict[str, Any]:
    """The answer of a good request."""
    answer = service.http.post("/recommend", json={"hist_item": histories, **options})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def ids(answer: dict[str, Any]) -> list[list[Any]]:
    """The items of each user."""
    return [[item["id"] for item in row] for row in answer["recommendations"]]
