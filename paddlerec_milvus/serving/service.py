# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The service itself, without HTTP: model, Milvus, and what is answered when one of them fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from paddlerec_milvus.data.prepared import ITEMS, open_prepared, read_titles
from paddlerec_milvus.errors import DataError, UserError
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.retrieval.merge import Candidates
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving.histories import Asked, asked_by
from paddlerec_milvus.serving.lists import Timed, answer, find
from paddlerec_milvus.serving.metrics import Metrics
from paddlerec_milvus.serving.reading import parse
from paddlerec_milvus.serving.settings import ServiceSettings
from paddlerec_milvus.serving.store import Store
from paddlerec_milvus.serving.tower import Tower

logger = logging.getLogger(__name__)

SMALL_BODY = 65_536  # bytes; to parse these takes less than a millisecond
LEAST_PAUSE = 0.1  # seconds between two looks at Milvus


class Reply(NamedTuple):
    """An answer as JSON, and what was waited for."""

    content: bytes
    stages: Mapping[str, float]
    """Seconds by stage: tower, search, merge."""


class _Rendered(NamedTuple):
    content: bytes
    sources: Mapping[str, int]


class Service:
    """One model and its items in Milvus. UserError: the checkpoint is missing or does not fit."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.titles = titles_of(settings)
        self.tower = Tower(settings.model, settings.checkpoint)
        self.store = Store(settings.model, self.tower.items, settings.timeout)
        self._searches = ThreadPoolExecutor(settings.threads, "search")
        self._doubt = asyncio.Event()
        metrics.ready.set_function(lambda: float(self.store.state.ready))
        self._look()

    async def watch(self) -> None:
        """Look at Milvus every ``check_seconds``, and as soon as a request has failed."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._doubt.wait(), self.settings.check_seconds)
            self._doubt.clear()
            await asyncio.to_thread(self._look)
            await asyncio.sleep(LEAST_PAUSE)

    def _look(self) -> None:
        try:
            self.store.check()
        except Exception:
            logger.exception("the look at Milvus failed")

    async def candidates(self, body: bytes) -> Reply:
        """The answer to a request's ``body``; InvalidRequestError says what is wrong with it."""
        small = len(body) <= SMALL_BODY
        asked = self._asked(body) if small else await asyncio.to_thread(self._asked, body)
        rows, stages = np.flatnonzero(asked.lengths), dict[str, float]()
        rendered = await self._by_model(asked, rows, stages) if len(rows) else None
        if rendered is None:
            rendered = await asyncio.to_thread(self._render, asked)
        for source, users in rendered.sources.items():
            self.metrics.users.labels(source).inc(users)
        for stage, seconds in stages.items():
            self.metrics.stage_seconds.labels(stage).observe(seconds)
        return Reply(rendered.content, stages)

    def _asked(self, body: bytes) -> Asked:
        request = parse(body, self.settings)
        return asked_by(request, self.tower.maxlen, self.tower.items.total)

    async def _by_model(
        self, asked: Asked, rows: IntArray, stages: dict[str, float]
    ) -> _Rendered | None:
        """The model's answer; None, counted and logged, if there is none within the deadline."""
        if not self.store.state.ready:
            self.metrics.fallbacks.labels("not_ready").inc()
            return None
        try:
            rendered, seconds = await asyncio.wait_for(
                self._search(asked, rows), self.settings.timeout
            )
        except asyncio.TimeoutError:
            self._fall_back("deadline", f"no candidates within {self.settings.timeout:g} s")
        except UserError as error:
            self._fall_back("failure", self.store.without_secrets(error))
        except Exception:  # whatever a model folder raises: the caller gets popular items
            logger.exception("candidates failed")
            self._fall_back("failure", "candidates failed")
        else:
            stages |= seconds
            return rendered
        return None

    def _fall_back(self, reason: str, message: str) -> None:
        self.metrics.fallbacks.labels(reason).inc()
        logger.warning(message)
        self._doubt.set()

    async def _search(self, asked: Asked, rows: IntArray) -> tuple[_Rendered, dict[str, float]]:
        """The answer with lists of the users ``rows`` [n], and seconds by stage."""
        retriever, began = self.store.retriever, time.perf_counter()
        interests = await self.tower.interests(asked.histories[rows], asked.lengths[rows])
        tower = time.perf_counter() - began
        rendered, seconds = await asyncio.get_running_loop().run_in_executor(
            self._searches, self._find, retriever, interests, asked, rows
        )
        return rendered, {"tower": tower, **seconds}

    def _find(
        self, retriever: MilvusRetriever, interests: FloatArray, asked: Asked, rows: IntArray
    ) -> tuple[_Rendered, dict[str, float]]:
        timed, began = Timed(retriever), time.perf_counter()
        found = find(timed, interests, asked, rows)
        merge = time.perf_counter() - began - timed.seconds
        return self._render(asked, rows, found), {"search": timed.seconds, "merge": merge}

    def _render(
        self, asked: Asked, rows: IntArray | None = None, found: Candidates | None = None
    ) -> _Rendered:
        lists = answer(asked, self.tower.items.total, self.titles, rows, found)
        return _Rendered(lists.model_dump_json().encode(), Counter(lists.source))

    async def insert(self) -> tuple[int, float]:
        """Put the checkpoint's item vectors into Milvus; returns how many, and the seconds."""
        began = time.perf_counter()
        times = await asyncio.to_thread(lambda: self.store.insert(self.tower.item_vectors()))
        return times.rows, time.perf_counter() - began

    def close(self) -> None:
        """End the threads, once they have finished what they do, and the connections."""
        self._searches.shutdown(cancel_futures=True)
        self.tower.close()
        self.store.close()


def titles_of(settings: ServiceSettings) -> Mapping[int, str]:
    """Titles by item, of ``items.csv`` in the prepared folder; empty where there is none."""
    folder = settings.data
    if folder is None and settings.model.runner.train_data_dir is not None:
        folder = settings.model.path("train_data_dir").parent
    if folder is None or not (folder / ITEMS).is_file():
        return {}
    try:
        return read_titles(open_prepared(folder))
    except DataError as error:
        logger.warning("no titles: %s", error)
        return {}
