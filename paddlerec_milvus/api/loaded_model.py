# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained model in memory: its tower, its item vectors, what its users and items are called."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from paddlerec_milvus.api.frames import SHOWN
from paddlerec_milvus.api.histories import Histories, known_histories
from paddlerec_milvus.api.python_words import quiet_import
from paddlerec_milvus.data.catalogue import Catalogue, read_catalogue
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import CheckpointError, SettingsError
from paddlerec_milvus.evaluation.report import OwnIds
from paddlerec_milvus.ranking.files import FOLDER, RankerKind
from paddlerec_milvus.retrieval.base import MISSING_ID, FloatArray, Retriever
from paddlerec_milvus.retrieval.candidates import (
    Candidates,
    no_candidates,
    popular_items,
    search_users,
)
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import TrainedModel

if TYPE_CHECKING:
    from paddlerec_milvus.encoder import Encoder
    from paddlerec_milvus.ranking.ranking_model import RankingModel

NAMED = 5  # ids that a warning names


class LoadedModel:
    """One checkpoint; what is large is read when it is first needed."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained, self._digest = trained, trained.fingerprint()
        self.ids = OwnIds.beside(trained.settings.path("train_data_dir"))
        """What users and items are called."""
        self._ranker: RankingModel | None = None

    @property
    def on_disk(self) -> TrainedModel:
        """What it is loaded from. CheckpointError: that is another model by now."""
        if self.trained.fingerprint() != self._digest:
            raise CheckpointError(
                f"{self.trained.checkpoint}: has been trained since this model was opened: "
                "Recommender.load(folder) opens what is there now"
            )
        return self.trained

    @cached_property
    def encoder(self) -> Encoder:
        """The user tower."""
        with quiet_import():
            from paddlerec_milvus.encoder import loaded_encoder

            encoder = loaded_encoder(*self.trained)
        _ = self.on_disk
        return encoder

    @cached_property
    def vectors(self) -> FloatArray:
        """Item vectors [N, D], row 0 is item 1."""
        return self.encoder.item_vectors()[1:]

    @property
    def total(self) -> int:
        """N, the number of items."""
        return len(self.vectors)

    def list_length(self, k: object) -> int:
        """``k``, of Python's ints or numpy's, as an int. SettingsError: no list is that long."""
        expected = f"expected 1 to {self.total:,}, the number of items"
        if isinstance(k, bool) or not isinstance(k, int | np.integer):
            raise SettingsError(f"k is {k!r:.{SHOWN}}, of type {type(k).__name__}; {expected}")
        if not 1 <= k <= self.total:
            raise SettingsError(f"k is {k}; {expected}")
        return int(k)

    @cached_property
    def catalogue(self) -> Catalogue:
        """Titles and categories."""
        return read_catalogue(self.trained.data, self.total)

    def known(self, histories: Sequence[Sequence[OwnId]]) -> list[list[int]]:
        """The numbers of the items that the model knows; a warning names ids that it does not."""
        numbers, unknown = known_histories(histories, self.ids.items, self.total)
        if unknown:
            shown = ", ".join(f"{own!r:.{SHOWN}}" for own in unknown[:NAMED])
            more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
            _warn(f"ids of no item of this model were left out of histories: {shown}{more}")
        return numbers

    def interests(self, numbers: Sequence[Sequence[int]]) -> FloatArray:
        """Interests [B, K, D] of B histories in numbers; 0 where one is empty."""
        rows = [row for row, one in enumerate(numbers) if one]
        size = self.trained.settings.runner.infer_batch_size
        parts = [rows[start : start + size] for start in range(0, len(rows), size)] or [[]]
        computed = [self._batch([numbers[row] for row in part] or [[1]]) for part in parts]
        interests = np.zeros((len(numbers), *computed[0].shape[1:]), np.float32)
        if rows:
            interests[rows] = np.concatenate(computed)
        return interests

    def _batch(self, numbers: Sequence[Sequence[int]]) -> FloatArray:
        return self.encoder.interests(*pad_histories(numbers, self.encoder.maxlen))

    def candidates(
        self, retriever: Retriever, numbers: Sequence[Sequence[int]], k: int, *, exclude: bool
    ) -> Candidates:
        """Lists [B, k] of B histories in numbers, which are left out with ``exclude``.

        An empty history has popular items, without scores and interests; a warning counts them.
        """
        lists = no_candidates(len(numbers), k)
        rows = [row for row, one in enumerate(numbers) if one]
        some = [numbers[row] for row in rows]
        if some:
            interests = self.interests(some)
            results = search_users(retriever, interests, k, exclude=some if exclude else None)
            lists.ids[rows], lists.scores[rows] = results.ids, results.scores
            lists.interests[rows] = results.interests
        self.fill_with_popular(lists, [row for row, one in enumerate(numbers) if not one])
        return lists

    def fill_with_popular(self, lists: Candidates, rows: Sequence[int]) -> None:
        """Popular items, without scores, to ``rows`` of ``lists`` [B, k]; a warning counts them."""
        if rows:
            _warn(f"popular items for users without a known item in their history: {len(rows)}", 5)
            k = lists.ids.shape[1]
            lists.ids[rows] = popular_items(k, frozenset(), range(1, self.total + 1))

    @property
    def has_ranker(self) -> bool:
        """Whether one was trained for this checkpoint."""
        return (self.trained.checkpoint / FOLDER).is_dir()

    def ranking(self, settings: Settings) -> RankingModel:
        """Channels and ranker beside the checkpoint, for searches by ``settings``.

        UserError: there is none, or it does not fit.
        """
        with quiet_import():
            from paddlerec_milvus.ranking.ranking_model import require_inner_product
            from paddlerec_milvus.ranking.training import ranking_beside

        require_inner_product(settings)
        if self._ranker is None:
            self._ranker = ranking_beside(self.trained, self.encoder.item_vectors())
        return self._ranker

    def train_ranker(self, kind: RankerKind, lists: int, rounds: int, seed: int) -> None:
        """Train one, beside the checkpoint, as tools/rank.py does."""
        with quiet_import():
            from paddlerec_milvus.ranking.training import train_ranking

        self._ranker = train_ranking(
            self.on_disk, seed, threads=0, kind=kind, most_lists=lists, rounds=rounds
        )

    def list_frame(self, histories: Histories, lists: Candidates) -> pl.DataFrame:
        """The lists [B, k] of ``histories``, an item a row; see :meth:`Recommender.recommend`."""
        there = lists.ids != MISSING_ID
        rows, places = np.nonzero(there)
        items = lists.ids[there].tolist()
        columns = {
            "user": [histories.users[row] for row in rows.tolist()],
            "item": self.ids.items.own_ids(items),
            "title": pl.Series(map(self.catalogue.titles.get, items), dtype=pl.String),
            "score": pl.Series(lists.scores[there]),
            "rank": pl.Series(places + 1, dtype=pl.Int64),
            "interest": pl.Series(lists.interests[there]),
        }
        frame = pl.DataFrame(columns, strict=False)
        by_model = pl.col("interest") >= 0
        return frame.with_columns(pl.when(by_model).then(pl.col("score", "interest")))


def _warn(text: str, level: int = 4) -> None:
    warnings.warn(text, stacklevel=level)  # where the API was called
