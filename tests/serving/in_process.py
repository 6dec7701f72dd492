# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The service in the test's process: an encoder of numpy and an exact retriever, no server."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from running_service import Running

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.id_map import IdMap, Kind
from paddlerec_milvus.errors import ModelError
from paddlerec_milvus.ranking.ranking_model import RankingModel
from paddlerec_milvus.retrieval.base import FloatArray, IntArray, Neighbours
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.serving.app import create_app
from paddlerec_milvus.serving.settings import ServiceSettings
from paddlerec_milvus.settings import Settings

ITEMS, DIMENSION, MAXLEN = 40, 8, 5
CATEGORIES = {item: ("books", "games", "music")[item % 3] for item in range(1, ITEMS + 1)}
TITLES = {item: f"Title {item} of {CATEGORIES[item]}" for item in range(1, ITEMS + 1)}


class TinyEncoder:
    """Two interests: the mean of the clicks' vectors, and the last click's."""

    fingerprint, unit = "tiny", True
    items, maxlen = ITEMS, MAXLEN

    def __init__(self, dimension: int = DIMENSION) -> None:
        self.dimension = dimension
        vectors = np.random.default_rng(7).normal(size=(ITEMS + 1, dimension))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[0] = 0
        self._vectors = vectors.astype(np.float32)

    def interests(self, histories: IntArray, lengths: IntArray) -> FloatArray:
        clicks = self._vectors[histories]
        mean = clicks.sum(axis=1) / lengths[:, None].astype(np.float32)
        last = clicks[np.arange(len(clicks)), lengths - 1]
        return np.stack([mean, last], axis=1).astype(np.float32)

    def vectors_of_features(self, ids: IntArray, codes: IntArray) -> FloatArray:
        raise ModelError("tiny: makes no vectors of features")

    def item_vectors(self) -> FloatArray:
        return self._vectors

    def sample(self) -> FloatArray:
        return self._vectors[1:9]


class SmallIndex:
    """Items in memory, searched exactly; the filter of categories and single changes are known."""

    is_exact = True

    def __init__(self, vectors: FloatArray) -> None:
        """``vectors`` [items + 1, D] as an encoder gives them."""
        self.vectors_by_id = dict(enumerate(vectors[1:], 1))
        self.categories = dict(CATEGORIES)
        self.names: dict[int, str] = {}
        """Own ids of items beside the encoder's."""
        self.searches: list[tuple[int, int]] = []
        """Queries and k of each search."""

    def search(
        self, queries: FloatArray, k: int, *, filter: str = "", consistency: str | None = None
    ) -> Neighbours:
        self.searches.append((len(queries), k))
        stored = dict(self.vectors_by_id)  # others may change it meanwhile
        ids = sorted(stored)
        if filter.startswith("item <= "):
            ids = [item for item in ids if item <= int(filter.removeprefix("item <= "))]
        elif filter:
            names = json.loads(filter.removeprefix("category in "), strict=False)
            ids = [item for item in ids if self.categories.get(item) in names]
        vectors = np.array([stored[item] for item in ids], np.float32)
        return ExactRetriever(vectors.reshape(-1, queries.shape[1]), ids).search(queries, k)

    def upsert(
        self,
        vectors: FloatArray,
        ids: list[int],
        categories: list[str] | None = None,
        own_ids: list[str] | None = None,
    ) -> int:
        self.names |= dict(zip(ids, own_ids or [""] * len(ids), strict=True))
        self.vectors_by_id |= dict(zip(ids, np.asarray(vectors, np.float32), strict=True))
        self.categories |= dict(zip(ids, categories or [""] * len(ids), strict=True))
        return len(ids)

    def delete(self, ids: list[int]) -> None:
        for item in ids:
            self.vectors_by_id.pop(item, None)

    def stored_vectors(self, ids: list[int], level: str = "Strong") -> dict[int, FloatArray]:
        return {item: self.vectors_by_id[item] for item in ids if item in self.vectors_by_id}

    def stored_names(self, ids: list[int]) -> dict[int, str]:
        return {item: self.names[item] for item in ids if self.names.get(item)}

    def vectors(self, ids: list[int]) -> FloatArray:
        return np.array([self.vectors_by_id[item] for item in ids], np.float32)

    def categories_of(self, ids: list[int], consistency: str | None = None) -> dict[int, str]:
        there = (item for item in ids if item in self.vectors_by_id)
        return {item: self.categories.get(item, "") for item in there}

    def count(self) -> int:
        return len(self.vectors_by_id)


class LoopTransport(httpx.BaseTransport):
    """Calls an application on the event loop of another thread, from as many as there are."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asgi = httpx.ASGITransport(
            app, raise_app_exceptions=False, client=("127.0.0.1", 50_000)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result(60)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        async def parts() -> AsyncIterator[bytes]:
            for part in request.stream:
                yield part

        with_body = httpx.Request(
            request.method, request.url, headers=request.headers, content=parts()
        )
        answer = await self._asgi.handle_async_request(with_body)
        content = b"".join([part async for part in answer.aiter_raw()])
        stream = httpx.ByteStream(content)  # not read yet: the client takes the time until it is
        return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)


@functools.cache
def _mind_settings() -> Settings:
    return load_settings("mind/config.yaml")


def tiny_settings(**settings: Any) -> ServiceSettings:
    """Those of a service without a checkpoint."""
    own = {"check_seconds": 0.2, "timeout": 10, "recall_seconds": 0}
    return ServiceSettings(model=_mind_settings(), **{**own, **settings})


@contextlib.contextmanager
def in_process(app: FastAPI) -> Iterator[Running]:
    """``app`` from its start to its end, on an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    with contextlib.ExitStack() as ends:
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        ends.callback(_ended, loop, thread)
        context = app.router.lifespan_context(app)
        _run(loop, context.__aenter__)
        ends.callback(_run, loop, lambda: context.__aexit__(None, None, None))
        url = "http://127.0.0.1"
        http = httpx.Client(transport=LoopTransport(app, loop), base_url=url, timeout=30)
        yield Running(app, url, ends.enter_context(http))


@contextlib.contextmanager
def in_process_app(
    retriever: Any = None,
    encoder: Any = None,
    catalogue: Catalogue | None = None,
    user_store: Any = None,
    item_ids: IdMap | None = None,
    user_kind: Kind = "int",
    ranking: RankingModel | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """A service of 40 items, by :class:`TinyEncoder` and :class:`SmallIndex` unless given."""
    encoder = encoder or TinyEncoder()
    app = create_app(
        tiny_settings(**settings),
        retriever or SmallIndex(encoder.item_vectors()),
        encoder,
        catalogue=catalogue or Catalogue(ITEMS, TITLES.items(), CATEGORIES.items()),
        user_store=user_store,
        item_ids=item_ids,
        user_kind=user_kind,
        ranking=ranking,
    )
    with in_process(app) as service:
        yield service


def _run(loop: asyncio.AbstractEventLoop, start: Callable[[], Any]) -> None:
    asyncio.run_coroutine_threadsafe(start(), loop).result(60)


def _ended(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()
