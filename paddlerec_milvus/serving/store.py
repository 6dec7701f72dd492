# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The item vectors in Milvus: connects when it can, and knows whether they are this model's."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from paddlerec_milvus.config import Settings
from paddlerec_milvus.errors import RefusedError, RetrievalError
from paddlerec_milvus.retrieval import versions
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.build import BuildTimes
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.indexes import index_from_settings
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving.tower import Items

logger = logging.getLogger(__name__)

TOLERANCE = 1e-5  # between a vector sent and the same one stored


class BusyError(RetrievalError):
    """Another insert or delete of this service is under way."""


class State(NamedTuple):
    """Whether the model can be used, and a reason that anyone may read."""

    ready: bool
    reason: str


STARTING = State(False, "Milvus has not been asked yet")
READY = State(True, "the stored item vectors are this checkpoint's")
AWAY = State(False, "Milvus does not answer or refuses; the service's log says more")
ABSENT = State(False, "no item vectors are stored: POST /insert")
FOREIGN = State(False, "Milvus holds a collection of this name that the service did not make")
OTHER = State(False, "the stored item vectors are not this checkpoint's: POST /insert")
UNUSABLE = State(False, "the collection cannot be used as it is; the service's log says more")


class _Link(NamedTuple):
    """One connection for looking, one for searching."""

    connection: Connection
    retriever: MilvusRetriever

    def close(self) -> None:
        self.retriever.close()
        self.connection.close()


class Store:
    """The collection ``milvus.collection``, expected to hold ``items``.

    ``timeout`` seconds for every call; those of an insert or a delete have ``milvus.timeout``. Safe
    to use from several threads.
    """

    def __init__(self, settings: Settings, items: Items, timeout: float) -> None:
        self._settings = settings
        self._items = items
        self._timeout = timeout
        params = {key: value for key, value in settings.index.items() if key != "type"}
        self._index = index_from_settings(str(settings.index.get("type", "FLAT")), params)
        self._link: _Link | None = None
        self._verified: tuple[str, str] | None = None  # the version whose vectors were compared
        self._checking, self._writing = threading.Lock(), threading.Lock()
        self.state = STARTING

    @property
    def retriever(self) -> MilvusRetriever:
        """For searching; RetrievalError unless the stored vectors are known to be the model's."""
        link, state = self._link, self.state
        if link is None or not state.ready:
            raise RetrievalError(state.reason)
        return link.retriever

    def check(self) -> State:
        """Look at Milvus: connect where that is needed, compare what is stored with the model."""
        with self._checking:
            before, (self.state, more) = self.state, self._look()
            if self.state != before:
                level = logging.INFO if self.state.ready else logging.WARNING
                logger.log(level, "%s%s", self.state.reason, more and f" ({more})")
            return self.state

    def _look(self) -> tuple[State, str]:
        """The state, and what Milvus said that is for the log alone."""
        try:
            if self._link is None:
                self._link = self._connect(self._timeout)
            found = versions.describe(self._link.connection, self._settings.milvus.collection)
        except RetrievalError as error:
            self._disconnect()  # an old connection tries again with ever longer pauses
            return AWAY, self.without_secrets(error)
        if found is None:
            return ABSENT, ""
        if not versions.owned(found, self._settings.milvus.collection):
            return FOREIGN, ""
        if found.dimension != self._items.sample.shape[1]:
            return OTHER, f"{found.dimension} dimensions"
        try:
            return self._compare(self._link.retriever, found), ""
        except RetrievalError as error:
            self._verified = None
            return UNUSABLE, self.without_secrets(error)

    def _compare(self, retriever: MilvusRetriever, found: versions.Description) -> State:
        """Count every time, vectors once for each version: those that this process sees anew."""
        version = (found.name, found.properties.get("made_at", ""))
        if version != self._verified:
            self._verified = None
            retriever.open()
        if retriever.count() != self._items.total:
            return OTHER
        if version != self._verified:
            stored = retriever.vectors(self._items.sample_ids)
            if not np.allclose(stored, self._items.sample, rtol=0, atol=TOLERANCE):
                return OTHER
            self._verified = version
        return READY

    def without_secrets(self, error: Exception) -> str:
        """The error's text without the token and without a password in the uri."""
        text, address = str(error), urlsplit(self._settings.milvus.uri)
        for secret in (self._settings.milvus.token.get_secret_value(), address.password):
            text = text.replace(secret, "…") if secret else text
        return text

    def count(self) -> int:
        """The exact number of stored vectors, 0 without a collection."""
        if (link := self._link) is None:
            raise RetrievalError(self.state.reason)
        found = versions.describe(link.connection, self._settings.milvus.collection)
        return 0 if found is None else link.retriever.count()

    def insert(self, vectors: FloatArray) -> BuildTimes:
        """Store ``vectors`` [N + 1, D] (row 0 is padding) in place of what is there."""
        with self._alone(), self._opened(self._settings.milvus.timeout) as link:
            times = link.retriever.build(vectors[1:], np.arange(1, len(vectors), dtype=np.int64))
        self.check()
        return times

    def delete(self) -> int | None:
        """Delete all; returns how many there were, None where a damaged collection cannot tell."""
        stored: int | None = None
        with self._alone(), self._opened(self._settings.milvus.timeout) as link:
            found = versions.current(link.connection, self._settings.milvus.collection)
            if found is None:
                stored = 0
            else:
                with contextlib.suppress(RefusedError):
                    stored = link.retriever.count()
                link.retriever.drop()
        self.check()
        return stored

    def close(self) -> None:
        """Close the connections; what is stored stays."""
        with self._checking:
            self._disconnect()

    def _connect(self, timeout: float) -> _Link:
        milvus, uri = self._settings.milvus, self._settings.milvus_uri
        token = milvus.token.get_secret_value()
        connection = Connection(uri, token=token, db_name=milvus.db_name, timeout=timeout)
        try:
            retriever = MilvusRetriever(
                uri,
                milvus.collection,
                token=token,
                db_name=milvus.db_name,
                timeout=timeout,
                metric=self._settings.retrieval.metric,
                index=self._index,
                consistency=milvus.consistency,
            )
        except BaseException:
            connection.close()
            raise
        return _Link(connection, retriever)

    @contextlib.contextmanager
    def _opened(self, timeout: float) -> Iterator[_Link]:
        link = self._connect(timeout)
        try:
            yield link
        finally:
            link.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._writing.acquire(blocking=False):
            raise BusyError("another insert or delete is under way: wait for it, then try again")
        try:
            yield
        finally:
            self._writing.release()

    def _disconnect(self) -> None:
        link, self._link, self._verified = self._link, None, None
        if link is not None:
            link.close()
