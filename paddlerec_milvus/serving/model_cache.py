# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Models in memory, each with its ranker: loaded when Milvus first holds their vectors."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from paddlerec_milvus.command import warn
from paddlerec_milvus.data.catalogue import Catalogue, read_catalogue
from paddlerec_milvus.data.id_map import Kind, read_item_ids, user_kind
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.ranking.files import FOLDER, WITHOUT
from paddlerec_milvus.ranking.ranking_model import (
    RankingModel,
    load_ranking,
    require_inner_product,
    warn_of_other_quotas,
)
from paddlerec_milvus.serving.hidden_items import FIRST_ITEMS, HiddenItems
from paddlerec_milvus.serving.item_categories import ItemCategories
from paddlerec_milvus.serving.item_features import FeatureValues, read_feature_values
from paddlerec_milvus.serving.item_ids import ItemIds
from paddlerec_milvus.serving.model_registry import ModelRegistry
from paddlerec_milvus.serving.retry_pauses import RetryPauses
from paddlerec_milvus.serving.settings import ServiceSettings
from paddlerec_milvus.serving.tower import UserTower, tower_of
from paddlerec_milvus.trained_model import TrainedModel

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 600.0  # seconds, until a model that cannot be used is loaded again


class ServingModel(NamedTuple):
    """A model that can answer: its user tower and its items."""

    tower: UserTower
    catalogue: Catalogue
    ids: ItemIds
    """What items are called."""
    categories: ItemCategories
    """Those that stored items have."""
    hidden: HiddenItems
    """Those of its items that were deleted."""
    features: FeatureValues | None = None
    """By which items can be given; None: its prepared folder has none."""
    user_kind: Kind = "int"
    """What the ids of users are."""
    ranking: RankingModel | None = None
    """What ranks its candidates; None: nothing does."""
    is_ranker_refused: bool = False
    """There is a ranker beside it, which cannot be used."""

    @property
    def ranker(self) -> str:
        """The digest of its ranker, or ``WITHOUT``."""
        return WITHOUT if self.ranking is None else self.ranking.digest

    @property
    def key(self) -> str:
        """What tells this model with this ranker from all others."""
        return f"{self.tower.fingerprint}-{self.ranker}"

    def follow(self, retriever: object, version: object) -> None:
        """Look items that were added or deleted since up in ``retriever``, of ``version``.

        The most popular ones at once, as lists show them, too, while it does not answer.
        """
        self.ids.follow(retriever)
        self.categories.follow(retriever)
        self.hidden.follow(retriever, version)
        items = range(1, self.catalogue.total + 1)
        self.hidden.check_popular(FIRST_ITEMS, [frozenset()], items, "Strong")


class ModelCache:
    """The models that serve, or did before, each loaded once and copied to the registry.

    Each is known by its :attr:`ServingModel.key`. Those of one checkpoint that differ in their
    rankers share their tower.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings, self._stored = settings.model, settings.stored
        self._registry = ModelRegistry(settings.registry_folder)
        self._loading = threading.Lock()
        self._models: dict[str, ServingModel] = {}
        self._unusable = RetryPauses(settings.check_seconds, LONGEST_PAUSE)

    def load(self, trained: TrainedModel) -> ServingModel:
        """The model of a checkpoint with the ranker that is beside it now.

        UserError: it is missing or does not fit.
        """
        model = self._of(trained.fingerprint())
        if model is None:
            tower = tower_of(trained, self._loading)
            catalogue = read_catalogue(trained.data, tower.items)
            model = ServingModel(
                tower,
                catalogue,
                ItemIds(read_item_ids(trained.data), tower.items),
                ItemCategories(catalogue),
                HiddenItems(),
                read_feature_values(trained.data),
                user_kind(trained.data),
            )
        model = _with_ranking(model, trained)
        self._models[model.key] = model
        return model

    def get(self, key: str) -> ServingModel | None:
        """The model of a key, from the registry or an export at need; None: it cannot be had.

        A key without a ranker is of a version that does not say which it had: the one that is here
        will do. Where the ranker of a key cannot be had, nothing ranks.
        """
        if key not in self._models and (model := self._saved(key) or self._by_tower(key)):
            self._models[key] = model
        return self._models.get(key)

    def _saved(self, key: str) -> ServingModel | None:
        if not key or not self._unusable.is_due(key):
            return None
        try:
            trained = self._registry.get(key, self._settings)
            if trained is None and (trained := self._stored(key)) is not None:
                trained.require_fit()
            return None if trained is None else self.load(trained)
        except UserError as error:  # the model folder's code has changed, or files are not all here
            logger.warning("the model %s that was kept cannot be used: %s", key, error)
            self._unusable.postpone(key)
            return None

    def _by_tower(self, key: str) -> ServingModel | None:
        """A model that is here and has the tower of ``key``, without another one's ranker."""
        digest, _, ranker = key.partition("-")
        model = self._of(digest)
        if model is None or ranker in ("", model.ranker):
            return model
        if ranker != WITHOUT:
            warn(f"the ranker {ranker} is not kept here, lists stay in the model's order")
        return model._replace(ranking=None)

    def _of(self, digest: str) -> ServingModel | None:
        """A model of the tower ``digest``, whatever its ranker is."""
        models = self._models.values()
        return next((model for model in models if model.tower.fingerprint == digest), None)

    def save(self, trained: TrainedModel, model: ServingModel) -> None:
        """Put a copy of ``model`` into the registry, which training does not write over."""
        self._registry.save(trained, model.key)

    def prune(self, keys: Collection[str]) -> None:
        """Forget all other models, here and in the registry."""
        self._registry.prune(keys)
        self._models = {key: model for key, model in self._models.items() if key in keys}


def _with_ranking(model: ServingModel, trained: TrainedModel) -> ServingModel:
    """``model`` with the ranker beside ``trained``; without one, and a warning, if it cannot be
    used: candidates are then given in the model's own order.
    """
    folder = trained.checkpoint / FOLDER
    if not folder.is_dir():
        return model._replace(ranking=None, is_ranker_refused=False)
    try:
        require_inner_product(trained.settings)
        data = trained.data_identity() if trained.has_log else None
        ranking = load_ranking(
            trained.checkpoint,
            model.tower.item_vectors(),
            model.catalogue.category_numbers(np.arange(model.tower.items + 1)),
            model.tower.fingerprint,
            None if data is None else data.fingerprint,
        )
        warn_of_other_quotas(trained.settings, ranking.manifest)
    except UserError as error:
        warn(f"the ranker cannot be used, lists stay in the model's order: {error}")
        return model._replace(ranking=None, is_ranker_refused=True)
    logger.info("ranker %s ranks its candidates", ranking.digest)
    return model._replace(ranking=ranking, is_ranker_refused=False)


def freeze_memory() -> None:
    """Let the garbage collector leave out what is here now.

    A model and the libraries are some 200,000 objects; to look through them holds up all requests
    for longer than most of them take.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
