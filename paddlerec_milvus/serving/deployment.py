# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which model answers: a tower and the version of the collection that holds its item vectors.

Both belong to one checkpoint, by its fingerprint, and a request uses one pair from its beginning to
its end. What serves is what Milvus' alias points at, so all processes of a service, and one that
was killed and started again, come to the same.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from typing import NamedTuple

from paddlerec_milvus.data.catalogue import Catalogue, read_catalogue
from paddlerec_milvus.errors import ForeignError, RefusedError, RetrievalError, UserError
from paddlerec_milvus.retrieval.build import BuildTimes
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving.item_features import FeatureValues, read_feature_values
from paddlerec_milvus.serving.item_index import Store, Version, without_secrets
from paddlerec_milvus.serving.metrics import Metrics
from paddlerec_milvus.serving.model_registry import Found, Kept
from paddlerec_milvus.serving.settings import ServiceSettings
from paddlerec_milvus.serving.tower import Tower

logger = logging.getLogger(__name__)

FAILURES = 3  # searches that fail one after the other, until none is tried


class Model(NamedTuple):
    """A checkpoint: its user tower and its items."""

    tower: Tower
    catalogue: Catalogue
    features: FeatureValues | None
    """By which items can be given; None: its prepared folder has none."""


class Generation(NamedTuple):
    """A model and the version of the collection that holds its vectors."""

    model: Model
    retriever: MilvusRetriever
    """On this version alone."""
    version: Version


class State(NamedTuple):
    """Whether the model can be used, and a reason that anyone may read."""

    ready: bool
    reason: str


STARTING = State(False, "Milvus has not been asked yet")
READY = State(True, "the stored item vectors are this checkpoint's")
AWAY = State(False, "Milvus does not answer or refuses; the service's log says more")
FAILING = State(False, "searches fail one after the other; Milvus is looked at")
ABSENT = State(False, "no item vectors are stored: POST /insert")
FOREIGN = State(False, "Milvus holds a collection of this name that the service did not make")
OTHER = State(False, "the stored item vectors are of a model that is not here: POST /insert")
UNUSABLE = State(False, "the collection cannot be used as it is; the service's log says more")


class Generations:
    """The models of a service and the one that answers. UserError: no checkpoint that fits."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self.store = Store(settings.model, settings.timeout)
        self._kept = Kept(settings.kept_folder)
        self._looking, self._towers = threading.Lock(), threading.Lock()
        self._retired: list[tuple[float, MilvusRetriever]] = []
        self._failures = 0
        self._models: dict[str, Model] = {}
        self._unusable = set[str]()
        self._generation: Generation | None = None
        self.state = STARTING
        metrics.ready.set_function(lambda: float(self.state.ready))
        metrics.breaker.set_function(lambda: float(self.state in (AWAY, FAILING)))
        self.model = self._loaded(settings.found)

    @property
    def current(self) -> Generation | None:
        """What answers now; None while :attr:`state` is not ready."""
        return self._generation if self.state.ready else None

    @property
    def collection(self) -> str:
        """The name that clients of Milvus search by."""
        return self._settings.model.milvus.collection

    def _loaded(self, found: Found) -> Model:
        fingerprint = found.fingerprint()
        if fingerprint not in self._models:
            tower = Tower(found, self._towers)
            fingerprint = tower.fingerprint
            catalogue = read_catalogue(found.data, tower.items)
            features = read_feature_values(found.data)
            self._models[fingerprint] = Model(tower, catalogue, features)
        return self._models[fingerprint]

    def _model_of(self, fingerprint: str) -> Model | None:
        """The model of a fingerprint, loaded or kept; None: it is not here or cannot be used."""
        if fingerprint in self._models:
            return self._models[fingerprint]
        if not fingerprint or fingerprint in self._unusable:
            return None
        try:
            found = self._kept.get(fingerprint, self._settings.model)
            return None if found is None else self._loaded(found)
        except UserError as error:  # say, the model folder's code has changed since
            logger.warning("the model %s that was kept cannot be used: %s", fingerprint, error)
            self._unusable.add(fingerprint)
            return None

    def start(self) -> None:
        """Drop what killed inserts left, look what serves, and insert where that is asked for."""
        try:
            for name in self.store.tidy():
                logger.info("dropped %s, left by an insert that did not end", name)
        except UserError as error:
            logger.warning("nothing was tidied: %s", without_secrets(error, self._settings.model))
        self.look()
        if self._settings.insert_missing and self.state in (ABSENT, OTHER):
            self.insert()

    def look(self) -> None:
        """Ask Milvus what serves, and follow it; a search proves that it can be searched."""
        with self._looking:
            state, more = self._look()
            if state != self.state:
                level = logging.INFO if state.ready else logging.WARNING
                logger.log(level, "%s%s", state.reason, more and f" ({more})")
            if state.ready:
                self._failures = 0
            self.state = state
            answering = self.current
            self._metrics.version.set(answering.version.number if answering else 0)
            self._close_retired()

    def _look(self) -> tuple[State, str]:
        """The state, and what Milvus said that is for the log alone."""
        try:
            version = self.store.serving()
            if version is None:
                return self._without(ABSENT)
            while self._generation is None or self._generation.version != version:
                model = self._model_of(version.checkpoint)
                if model is None:
                    return self._without(OTHER, f"checkpoint {version.checkpoint or 'unknown'}")
                version = self._follow(model, version)
            self._prove()
        except ForeignError:
            return self._without(FOREIGN)
        except RefusedError as error:
            return self._without(UNUSABLE, without_secrets(error, self._settings.model))
        except UserError as error:
            self.store.disconnect()
            return self._without(AWAY, without_secrets(error, self._settings.model))
        return READY, ""

    def _without(self, state: State, more: str = "") -> tuple[State, str]:
        self._retire()
        return state, more

    def _follow(self, model: Model, version: Version) -> Version:
        """Let ``model`` answer by ``version`` if that still serves; returns what does."""
        retriever, now = self.store.pinned()
        if now != version:
            retriever.close()
            return now
        if retriever.dimension != model.tower.dimension:
            retriever.close()
            raise RefusedError(
                f"{version.name!r} has {retriever.dimension} dimensions, its model "
                f"{model.tower.dimension}"
            )
        before = self._generation
        self.model, self._generation = model, Generation(model, retriever, version)
        if before is not None:
            self._retired.append((time.monotonic(), before.retriever))
        logger.info("%s serves, checkpoint %s", version.name, version.checkpoint)
        self._forget()
        _settle_memory()
        return version

    def _prove(self) -> None:
        if self._generation is not None:
            retriever = self._generation.retriever
            retriever.open()  # loads what a server that was started again has not
            retriever.search([[1.0] * retriever.dimension], 1)

    def _retire(self) -> None:
        generation, self._generation = self._generation, None
        if generation is not None:
            self._retired.append((time.monotonic(), generation.retriever))

    def _close_retired(self, *, all_: bool = False) -> None:
        """Close connections that no request can use any more."""
        end = time.monotonic() - self._settings.timeout - 1
        for retired in list(self._retired):
            if all_ or retired[0] < end:
                retired[1].close()
                self._retired.remove(retired)

    def failed(self) -> None:
        """Count a search that failed; after some in a row none is tried before the next look."""
        self._failures += 1
        if self._failures >= FAILURES and self.state.ready:
            self.state = FAILING
            logger.warning(FAILING.reason)

    def succeeded(self) -> None:
        """Count anew."""
        self._failures = 0

    def insert(self) -> tuple[Model, BuildTimes]:
        """Put the vectors of the checkpoint that is on disk now into Milvus, and serve them."""
        with self.store.alone():
            found = self._settings.newest()
            model = self._loaded(found)
            self._kept.keep(found, model.tower.fingerprint)
            times = self.store.insert(model.tower, model.catalogue, self._settings.least_recall)
            self.look()
        return model, times

    def roll_back(self) -> Version:
        """Serve the version before again."""
        with self.store.alone():
            version = self.store.roll_back(lambda mark: self._model_of(mark) is not None)
            self.look()
        return version

    def delete(self) -> int | None:
        """Delete all stored item vectors."""
        with self.store.alone():
            deleted = self.store.delete()
            self.look()
        return deleted

    def _forget(self) -> None:
        """Models that neither serve nor are kept for a rollback need no place."""
        try:
            used = self.store.checkpoints() | {self.model.tower.fingerprint}
        except RetrievalError:
            return
        self._kept.only(used)
        self._models = {key: model for key, model in self._models.items() if key in used}

    def close(self) -> None:
        """Close the connections; what is stored stays."""
        with self._looking:
            self._retire()
            self._close_retired(all_=True)
            self.store.disconnect()


def _settle_memory() -> None:
    """Let the garbage collector leave out what is here now.

    A model and the libraries are some 200,000 objects; to look through them holds up all requests
    for longer than most of them take.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
