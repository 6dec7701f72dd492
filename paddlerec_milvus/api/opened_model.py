# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained run that is open: its settings, its model, the index that is searched, its ranker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from paddlerec_milvus.api.loaded_model import LoadedModel
from paddlerec_milvus.api.trained_run import TrainedRun
from paddlerec_milvus.errors import SettingsError, UserError
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.trained_model import epoch_of

if TYPE_CHECKING:
    from paddlerec_milvus.ranking.ranking_model import RankingModel

Opened = TypeVar("Opened", bound="OpenedModel")


class OpenedModel:
    """What is open of a run, until :meth:`close`. A context manager."""

    def __init__(self, run: TrainedRun | None = None) -> None:
        if run is None:
            raise UserError(
                "Recommender.fit(clicks) trains one, Recommender.load(folder) opens one; "
                "Recommender() alone has no model"
            )
        self._run = run
        self._retriever: MilvusRetriever | None = None
        self.settings = run.settings()
        """All settings, with those of the index that was opened last."""
        self._model = LoadedModel(run.trained(self.settings))

    def close(self) -> None:
        """Let go of Milvus; what is stored stays."""
        retriever, self._retriever = self._retriever, None
        if retriever is not None:
            retriever.close()

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "no index" if self._retriever is None else self._retriever.uri
        folder = os.path.relpath(self.folder)
        return f"{type(self).__name__}({self.settings.model_dir.name}, {folder}, {where})"

    @property
    def folder(self) -> Path:
        """Where the run is: what ``load`` takes."""
        return self._run.folder

    @property
    def epoch(self) -> int | None:
        """The epoch whose parameters are used; None: the checkpoint does not say."""
        return epoch_of(self._run.checkpoint)

    def _searched(self) -> MilvusRetriever:
        if self._retriever is None:
            raise UserError(
                'there is no index: call index("milvus.db") first, or with a server\'s address'
            )
        return self._retriever

    def _excludes(self, choice: bool | None) -> bool:
        return self.settings.retrieval.exclude_history if choice is None else choice

    def _ranking(self, ranked: bool | None, exclude_history: bool | None) -> RankingModel | None:
        """What shall rank; None: nothing, lists are in the model's own order.

        ``ranked`` None: the ranker, if there is one.
        """
        if ranked is False or (ranked is None and not self._model.has_ranker):
            return None
        if not self._model.has_ranker:
            raise UserError("there is no ranker: call rank() first, which trains one")
        if exclude_history is False:
            raise SettingsError(
                "exclude_history: a ranked list never holds what the user has clicked: leave it "
                "out, or have the model's own order with ranked=False"
            )
        return self._model.ranking(self.settings)
