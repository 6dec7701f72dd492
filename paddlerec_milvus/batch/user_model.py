# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A model as lists need it: by an export without paddle, or by a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from paddlerec_milvus.data.catalogue import read_catalogue
from paddlerec_milvus.data.id_map import IdMap, OwnId, read_item_ids
from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.ranking.ranking_model import (
    RankingModel,
    load_ranking,
    require_inner_product,
)
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.trained_model import TrainedModel

Interests = Callable[[IntArray, IntArray, IntArray], FloatArray]


class UserModel(NamedTuple):
    """The user tower of a model, its items, and its ranker."""

    name: str
    digest: str
    """Of the checkpoint's parameters."""
    maxlen: int
    """Clicks of a history that the tower looks at."""
    interests: Interests
    """[B, K, D] of histories [B, maxlen], lengths [B] and numbers of users [B]."""
    sample: Callable[[], FloatArray]
    """Interests [n, D] of users with one click, to check an index by."""
    vectors: FloatArray
    """[V, D], the item table; row 0 is padding."""
    ids: IdMap
    """What items are called."""
    ranking: RankingModel | None = None

    @property
    def total(self) -> int:
        """It knows the items 1 … total."""
        return len(self.vectors) - 1

    def known(self, history: Sequence[OwnId]) -> IntArray:
        """The numbers of those items of ``history`` that it knows."""
        numbers = (self.ids.number(own) for own in history)
        return np.array([n for n in numbers if n is not None and 1 <= n <= self.total], np.int64)


def load_model(trained: TrainedModel, *, rank: bool) -> UserModel:
    """The model of a checkpoint or of an export, with its ranker if it is to ``rank``.

    UserError: a file is damaged or written meanwhile, or the ranker is missing or does not fit.
    """
    if rank:
        require_inner_product(trained.settings)
    digest = trained.fingerprint()
    if isinstance(trained, ExportedModel):
        model = _of_export(trained, digest)
    else:
        model = _of_checkpoint(trained, digest)
    if rank:
        model = model._replace(ranking=_ranking(trained, model))
    trained.require_still(digest)
    return model


def _ranking(trained: TrainedModel, model: UserModel) -> RankingModel:
    catalogue, data = read_catalogue(trained.data, model.total), None
    if trained.has_log:
        data = trained.data_identity()
    return load_ranking(
        trained.checkpoint,
        model.vectors,
        catalogue.category_numbers(np.arange(model.total + 1)),
        model.digest,
        None if data is None else data.fingerprint,
    )


def _of_export(trained: ExportedModel, digest: str) -> UserModel:
    from paddlerec_milvus.export.onnx_tower import OnnxTower  # onnxruntime: not for --help

    tower = OnnxTower(trained)

    def interests(histories: IntArray, lengths: IntArray, _: IntArray) -> FloatArray:
        return tower.interests(histories, lengths)

    ids, vectors = read_item_ids(trained.data), np.asarray(tower.item_vectors())
    return UserModel(trained.name, digest, tower.maxlen, interests, tower.sample, vectors, ids)


def _of_checkpoint(trained: TrainedModel, digest: str) -> UserModel:
    from paddlerec_milvus.encoder import loaded_encoder  # paddle: not for an export

    encoder = loaded_encoder(*trained)
    encoder.settle()
    vectors, ids = encoder.item_vectors(), read_item_ids(trained.data)

    def sample() -> FloatArray:
        return encoder.sample(len(vectors) - 1)

    return UserModel(trained.name, digest, encoder.maxlen, encoder.interests, sample, vectors, ids)
