# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The model in training, measured on the valid users: which epoch is best, and when to stop."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle

from paddlerec_milvus.data.files import data_files
from paddlerec_milvus.data.fingerprint import identity_of
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.evaluation.held_out_summary import held_out_summary
from paddlerec_milvus.evaluation.metrics import in_a_line, relevance
from paddlerec_milvus.evaluation.predict import (
    Queries,
    Search,
    Stopwatch,
    candidates_of,
    read_users,
)
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.training.checkpoint import Best, random_state, set_random_state
from paddlerec_milvus.zoo import DygraphModel, ModelFolder

logger = logging.getLogger(__name__)


class Validation:
    """The users of ``runner.valid_data_dir`` and what ``encoder``, in training, gives them."""

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        runner, retrieval = settings.runner, settings.retrieval
        self.encoder, self.top_n, self.patience = encoder, runner.valid_top_n, runner.patience
        self.metric, self.batch_size = retrieval.metric, runner.infer_batch_size
        self.folder = settings.path("valid_data_dir")
        data_files(self.folder, "runner.valid_data_dir")
        self.users = read_users(settings, "valid_data_dir")
        self.queries = Queries.of(
            self.users, encoder.maxlen, exclude_history=retrieval.exclude_history
        )
        summary = held_out_summary(self.users, settings, "valid_data_dir")
        logger.info("valid users: %s", summary.words())
        self.measured = {
            "runner.valid_data_dir": _users_of(self.folder),
            "runner.valid_top_n": self.top_n,
            "retrieval.metric": self.metric,
            "retrieval.exclude_history": retrieval.exclude_history,
        }

    def measure(self) -> dict[str, float]:
        """Relevance by exact search. The model stays in training, random draws go on as before."""
        state = random_state()
        self.encoder.model.eval()
        try:
            with paddle.utils.unique_name.guard():
                search = Search.exactly(self.encoder.item_vectors(), self.metric, self.top_n)
                lists, _ = candidates_of(
                    self.encoder, search, self.queries, self.batch_size, Stopwatch()
                )
        finally:
            self.encoder.model.train()
            set_random_state(state)
        return relevance(lists, self.users.truth_indptr, self.users.truths, self.top_n)

    def better(self, epoch: int, best: Best | None) -> Best:
        """The better by recall of ``best``, the earlier one of equals, and the model as it is."""
        metrics = self.measure()
        logger.info("epoch: %d valid, %s", epoch, in_a_line(metrics, self.top_n))
        recall = f"recall@{self.top_n}"
        if best is not None and best.metrics[recall] >= metrics[recall]:
            return best
        return Best(epoch, metrics, self.top_n, self.measured)

    def comparable(self, best: Best | None) -> Best | None:
        """``best`` of a run that goes on, or None where it was measured in another way."""
        if best is None or best.measured == self.measured:
            return best
        earlier = {**self.measured, "runner.valid_data_dir": str(self.folder)}  # as it was written
        if best.measured == earlier:
            return replace(best, measured=self.measured)
        changed = [
            f"{key}: was {best.measured.get(key)}, is {value}"
            for key, value in self.measured.items()
            if best.measured.get(key) != value
        ]
        logger.info("the best epoch so far, %d, is forgotten: %s", best.epoch, "; ".join(changed))
        return None

    def gives_up(self, epoch: int, best: Best | None) -> bool:
        """Whether ``patience`` epochs before ``epoch`` brought nothing better; says so."""
        if not self.patience or best is None or epoch - 1 - best.epoch < self.patience:
            return False
        logger.info(
            "stopped before epoch %d: no better recall@%d since epoch %d, which is kept as best "
            "(runner.patience: %d)",
            epoch,
            self.top_n,
            best.epoch,
            self.patience,
        )
        return True


def _users_of(part: Path) -> str:
    """The valid users as a folder that may move: its name, and the fingerprint of its data."""
    data = identity_of(part)
    return str(part) if data is None else f"{part.name} (fingerprint {data.fingerprint})"


def open_validation(
    settings: Settings, folder: ModelFolder, contract: DygraphModel, model: Any
) -> Validation | None:
    """The validation that the settings ask for; no second model is made."""
    if settings.runner.valid_data_dir is None:
        return None
    return Validation(settings, Encoder(settings, folder, contract, model))
