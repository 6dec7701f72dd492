# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The item vectors in Milvus: connects when it can, and says whose version serves."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.errors import RefusedError, RetrievalError
from paddlerec_milvus.evaluation.index_check import require_recall
from paddlerec_milvus.retrieval.build import BuildTimes
from paddlerec_milvus.retrieval.indexes import Index, index_of_name
from paddlerec_milvus.retrieval.milvus import MilvusRetriever, retriever_from_settings
from paddlerec_milvus.retrieval.ownership import Description
from paddlerec_milvus.serving.tower import UserTower
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import ModelIdentity


class BusyError(RetrievalError):
    """Another insert, rollback or delete of this service is under way."""


class IndexVersion(NamedTuple):
    """A version of the collection."""

    name: str
    made_at: str
    """Tells it from an older one of the same name."""
    checkpoint: str
    """Fingerprint of the model; empty: not put there by a service."""
    identity: ModelIdentity = ModelIdentity()

    @property
    def number(self) -> int:
        """The version's number: 3 of ``items_v3``."""
        return int(self.name.rpartition("_v")[2])

    @property
    def key(self) -> str:
        """By which its model and ranker are kept."""
        return self.identity.key or self.checkpoint


class ItemIndex:
    """The collection ``milvus.collection`` and its versions.

    ``timeout`` seconds for every call; those of an insert or a delete have ``milvus.timeout``. Safe
    to use from several threads.
    """

    def __init__(self, settings: Settings, timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        self._link: MilvusRetriever | None = None
        self._linking = threading.Lock()
        self._writing = threading.Lock()

    def serving(self) -> IndexVersion | None:
        """Whose vectors serve now, None: nobody's. RetrievalError: Milvus is away."""
        return _version(self._linked().versions.serving())

    def pinned(self) -> tuple[MilvusRetriever, IndexVersion]:
        """A retriever of its own on the version that serves now, whatever comes after.

        It searches the index that the version has: the settings may name another by now.
        """
        settings, serving = self._settings, self.serving()
        if serving and (index := self._index_of(serving)):
            own = {**index.label, **index.search_params(0)}
            settings = settings.model_copy(update={"index": {**settings.index, **own}})
        retriever = retriever_from_settings(settings, timeout=self._timeout)
        try:
            return retriever, _version_of(retriever.open(pin=True))
        except BaseException:
            retriever.close()
            raise

    def previous(self) -> IndexVersion | None:
        """The version that a rollback goes back to, None: there is none."""
        return _version(self._linked().versions.previous())

    def at(self, version: IndexVersion) -> MilvusRetriever:
        """A retriever on ``version``, whatever its index is, by the common connection.

        RefusedError: it does not say what its index is, or has another metric than the settings.
        """
        if (index := self._index_of(version)) is None:
            raise RefusedError(f"{version.name!r} does not say what its index is: POST /insert")
        return self._linked().at(version.name, index)

    def _index_of(self, version: IndexVersion) -> Index | None:
        """That of ``version``, searched as the settings say; None: it does not say which."""
        params = {key: value for key, value in self._settings.index.items() if key != "type"}
        name = version.identity.index
        return index_of_name(name, params, fit=True) if name else None

    def disconnect(self) -> None:
        """Connect anew next time: an old connection tries again with ever longer pauses."""
        with self._linking:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def count(self) -> int:
        """The exact number of stored vectors, 0 without a collection."""
        link = self._linked()
        return 0 if link.versions.serving() is None else link.count()

    def tidy(self) -> list[str]:
        """Drop what killed inserts left; returns its names."""
        return self._linked().versions.tidy()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Held while what serves is changed; BusyError: somebody else of this process does."""
        if not self._writing.acquire(blocking=False):
            raise BusyError(
                f"another insert, rollback or delete of this service (process {os.getpid()} on "
                f"{socket.gethostname()}) is under way: wait for it, then try again"
            )
        try:
            yield
        finally:
            self._writing.release()

    def insert(
        self,
        tower: UserTower,
        catalogue: Catalogue,
        least_recall: float,
        identity: ModelIdentity,
    ) -> BuildTimes:
        """Build a version of the vectors of ``tower`` and let it serve; the one before is kept.

        It says of itself that it is ``identity``'s.

        RefusedError, and the old one goes on: on a sample of users the index finds less than
        ``least_recall`` of the true neighbours.
        """
        vectors = tower.item_vectors()[1:]
        ids = np.arange(1, len(vectors) + 1, dtype=np.int64)
        named = catalogue.categories
        categories = [named.get(item, "") for item in ids.tolist()] if named else None

        def check(fresh: MilvusRetriever) -> None:
            advice = "or lower SERVING_LEAST_RECALL; the version before goes on serving"
            require_recall(fresh, vectors, tower.sample(), least_recall, advice)

        with self._opened() as retriever:
            return retriever.versions.build(
                vectors,
                ids,
                categories,
                properties=identity.properties(),
                check=lambda version: check(retriever.at(version)),
                keep=True,
            )

    def roll_back(self, known: Callable[[IndexVersion], bool]) -> IndexVersion:
        """Let the version before serve again; RefusedError unless it is ``known``."""
        with self._opened() as retriever:
            before = _version(retriever.versions.previous())
            if before is not None and not known(before):
                raise RefusedError(
                    f"the model of {before.name!r} (checkpoint {before.checkpoint or 'unknown'}) "
                    "is not kept here: its vectors would have no user tower"
                )
            retriever.versions.roll_back()
            return _version(retriever.versions.serving()) or IndexVersion("", "", "")

    def keys(self) -> set[str]:
        """Of the models of the serving version and of the one before."""
        link = self._linked()
        versions = [_version(link.versions.serving()), _version(link.versions.previous())]
        return {version.key for version in versions if version}

    def delete(self) -> int | None:
        """Delete all; returns how many there were, None where a damaged collection cannot tell."""
        stored: int | None = None
        with self._opened() as retriever:
            if retriever.versions.serving() is None:
                stored = 0
            else:
                with contextlib.suppress(RefusedError):
                    stored = retriever.count()
            retriever.versions.drop()  # also an alias that points at nothing
        return stored

    def _linked(self) -> MilvusRetriever:
        with self._linking:
            if self._link is None:
                self._link = self._connect(self._timeout)
            return self._link

    def _connect(self, timeout: float) -> MilvusRetriever:
        return retriever_from_settings(self._settings, timeout=timeout)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[MilvusRetriever]:
        with self._connect(self._settings.milvus.timeout) as retriever:
            yield retriever


def _version(description: Description | None) -> IndexVersion | None:
    return None if description is None else _version_of(description)


def _version_of(description: Description) -> IndexVersion:
    properties = description.properties
    identity = ModelIdentity.of_properties(properties)
    return IndexVersion(description.name, properties.get("made_at", ""), identity.digest, identity)
