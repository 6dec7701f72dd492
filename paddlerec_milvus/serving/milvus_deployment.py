# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The deployment whose item vectors lie in Milvus.

What serves is what Milvus' alias points at, so all processes of a service, and one that was killed
and started again, come to the same.
"""

from __future__ import annotations

import logging
import threading

import numpy as np

from paddlerec_milvus.command import warn
from paddlerec_milvus.errors import (
    BuildConflictError,
    ForeignError,
    RefusedError,
    RetrievalError,
    UserError,
)
from paddlerec_milvus.retrieval.build import BuildTimes
from paddlerec_milvus.retrieval.indexes import index_of_settings, setting_name
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving.connections import RetiredConnections
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.health import (
    ABSENT,
    AWAY,
    FOREIGN,
    OTHER,
    READY,
    UNUSABLE,
    Health,
    State,
    other_data,
)
from paddlerec_milvus.serving.item_index import IndexVersion, ItemIndex
from paddlerec_milvus.serving.model_cache import ModelCache, ServingModel, freeze_memory
from paddlerec_milvus.serving.observability import Metrics
from paddlerec_milvus.serving.retry_pauses import RetryPauses
from paddlerec_milvus.serving.settings import ServiceSettings, without_secrets
from paddlerec_milvus.trained_model import ModelIdentity, TrainedModel, identity_of_model

logger = logging.getLogger(__name__)

LONGEST_REFUSAL = 60.0  # seconds, until a version of other data is compared with the disk again


class MilvusDeployment:
    """The models of a service and the one that answers. UserError: no checkpoint that fits."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self.collection = settings.model.milvus.collection
        self.health = Health(metrics)
        self.index = ItemIndex(settings.model, settings.timeout)
        self._models = ModelCache(settings)
        self._refreshing = threading.Lock()
        self._retired = RetiredConnections(settings.timeout + settings.large_timeout + 1)
        self._retriever: MilvusRetriever | None = None
        self.served: ServedVersion | None = None
        self.stored = ModelIdentity()
        self._refused = RetryPauses(settings.check_seconds, LONGEST_REFUSAL)
        self.model, self.own = self._load(settings.trained)
        logger.info("started with %s", self.own)

    def _load(self, trained: TrainedModel) -> tuple[ServingModel, ModelIdentity]:
        trained.require_fit()
        model = self._models.load(trained)
        own = identity_of_model(trained, model.tower.fingerprint)
        # inserts build the index of the start, whatever the yaml says by now
        index = setting_name(index_of_settings(self._settings.model).label)
        return model, own.model_copy(update={"index": index, "ranker": model.ranker})

    def start(self) -> None:
        """Drop what killed inserts left, see what serves, and insert where the settings say so.

        Loud where what lies in Milvus is not what the service was started with.
        """
        try:
            for name in self.index.tidy():
                logger.info("dropped %s, left by an insert that did not end", name)
        except UserError as error:
            logger.warning("nothing was tidied: %s", without_secrets(error, self._settings.model))
        self.refresh()
        state, settings = self.health.state, self._settings
        there, index = self.stored.index, self.own.index
        if state.ready and there and there != index:
            warn(
                f"Milvus holds the index {there}, the settings say {index}: POST /insert builds it"
            )
        if self.differs:
            warn(
                f"Milvus holds the item vectors of {self.stored}",
                f"the service was started with {self.own}",
            )
        if (self.differs and settings.mismatch == "insert") or (
            settings.insert_missing and state in (ABSENT, OTHER)
        ):
            try:
                self.insert()
            except BuildConflictError as error:  # another service of the same model, say
                logger.warning("nothing was inserted at the start: %s", error)
        elif self.differs and state.ready:
            warn("it answers by what Milvus holds, which is of the same data, until POST /insert")
        elif self.differs:
            warn(f"the model does not answer: {state.reason}")

    @property
    def differs(self) -> bool:
        """Whether what lies in Milvus is another model than the service was started with.

        So is the same model with another ranker.
        """
        return bool(self.stored.digest) and not self.stored.answers_as(self.own)

    def refresh(self) -> None:
        """Ask Milvus what serves, and follow it; a search proves that it can be searched."""
        with self._refreshing:
            state, details = self._probe()
            self.health.change(state, details)
            served = self.served if state.ready else None
            self._metrics.version.set(served.version.number if served else 0)
            made_at = served.version.made_at if served else ""
            self._metrics.probes.inserted_at.set(float(made_at or "nan"))
            self._retired.close_expired()

    def _probe(self) -> tuple[State, str]:
        """The state, and what Milvus said that is for the log alone."""
        try:
            version = self.index.serving()
            self.stored = version.identity if version else ModelIdentity()
            if version is None:
                return self._without(ABSENT)
            while self.served is None or self.served.version != version:
                if not self._is_of_own_data(version):
                    return self._without(other_data(version.identity, self.own))
                model = self._models.get(version.key)
                if model is None:
                    return self._without(OTHER, f"checkpoint {version.checkpoint or 'unknown'}")
                version = self._follow(model, version)
            self._search_once()
        except ForeignError:
            return self._without(FOREIGN)
        except RefusedError as error:
            return self._without(UNUSABLE, without_secrets(error, self._settings.model))
        except UserError as error:
            self.index.disconnect()
            return self._without(AWAY, without_secrets(error, self._settings.model))
        return READY, ""

    def _is_of_own_data(self, version: IndexVersion) -> bool:
        """Whether ``version`` may serve: it is of the data of this service, as it is on disk now.

        One that no service put there says nothing, and is no model's.
        """
        if not version.checkpoint or not self._is_foreign(version.identity):
            return True
        if not self._refused.is_due(version):
            return False
        # the data may be prepared anew, and the model trained on it, since the start; the disk of
        # this process may show it later than Milvus does
        self._refused.postpone(version)
        try:
            trained = self._settings.newest()
            newest = identity_of_model(trained, trained.fingerprint())
        except UserError:
            return False
        if _are_of_different_data(version.identity, newest):
            return False
        self.own = newest
        return True

    def _is_foreign(self, stored: ModelIdentity) -> bool:
        """Whether it is of other data, and of no export beside the service's own."""
        differs = _are_of_different_data(stored, self.own)
        return differs and self._settings.stored(stored.key) is None

    def _without(self, state: State, details: str = "") -> tuple[State, str]:
        self._retire()
        return state, details

    def _follow(self, model: ServingModel, version: IndexVersion) -> IndexVersion:
        """Let ``model`` answer by ``version`` if that still serves; returns what does."""
        retriever, now = self.index.pinned()
        if now != version:
            retriever.close()
            return now
        if retriever.dimension != model.tower.dimension:
            retriever.close()
            raise RefusedError(
                f"{version.name!r} has {retriever.dimension} dimensions, its model "
                f"{model.tower.dimension}: POST /insert"
            )
        before, self._retriever = self._retriever, retriever
        model.follow(retriever, version)
        self.model, self.served = model, ServedVersion(model, retriever, version)
        if before is not None:
            self._retired.add(before)
        logger.info("%s serves: %s", version.name, version.identity)
        self._prune()
        freeze_memory()
        return version

    def _search_once(self) -> None:
        if self._retriever is not None:
            self._retriever.open()  # loads what a server that was started again has not
            self._retriever.search(np.ones((1, self._retriever.dimension), np.float32), 1)

    def _retire(self) -> None:
        retriever, self._retriever, self.served = self._retriever, None, None
        if retriever is not None:
            self._retired.add(retriever)

    def insert(self) -> tuple[ServingModel, BuildTimes]:
        """Put the vectors of the checkpoint that is on disk now into Milvus, and serve them."""
        with self.index.alone():
            trained = self._settings.newest()
            model, own = self._load(trained)
            self._models.save(trained, model)
            least, before = self._settings.least_recall, self.stored
            times = self.index.insert(model.tower, model.catalogue, least, own)
            self.own = own
            if before.digest and self._is_foreign(before):
                warn(
                    f"item vectors of {before} were replaced. Users that were stored beside them "
                    "stay, and an id that both logs have is one user: right for a later state of "
                    "the same log, else give this data a milvus.collection of its own"
                )
            self.refresh()
        return model, times

    def roll_back(self) -> IndexVersion:
        """Serve the version before again."""
        with self.index.alone():
            version = self.index.roll_back(self._is_known)
            self.refresh()
        return version

    def previous(self) -> IndexVersion | None:
        """The version that :meth:`roll_back` goes back to; None: there is none."""
        return self.index.previous()

    def before(self) -> ServedVersion | None:
        """That version with its model, loaded now if need be, to be compared; None: it has none."""
        version = self.index.previous()
        if version is None or not self._is_known(version):
            return None
        model = self._models.get(version.key)
        return model and ServedVersion(model, self.index.at(version), version)

    def _is_known(self, version: IndexVersion) -> bool:
        """Whether its model is here; RefusedError: it is of other data."""
        if version.checkpoint and self._is_foreign(version.identity):
            raise RefusedError(other_data(version.identity, self.own).reason)
        return self._models.get(version.key) is not None

    def delete(self) -> int | None:
        """Delete all stored item vectors."""
        with self.index.alone():
            deleted = self.index.delete()
            self.refresh()
        return deleted

    def count(self) -> int:
        """The exact number of stored item vectors."""
        return self.index.count()

    def _prune(self) -> None:
        """Models that neither serve nor are there for a rollback need no place."""
        try:
            used = self.index.keys() | {self.model.key}
        except RetrievalError:
            return
        self._models.prune(used)

    def close(self) -> None:
        """Close the connections; what is stored stays."""
        with self._refreshing:
            self._retire()
            self._retired.close_all()
            self.index.disconnect()


def _are_of_different_data(stored: ModelIdentity, own: ModelIdentity) -> bool:
    """Whether ``stored`` is of other data than ``own``, or of data that it does not name."""
    same = own.digest == stored.digest or own.data_fingerprint == stored.data_fingerprint
    return not same and bool(own.data_fingerprint)
