# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The index_recall of what serves, measured again and again while it serves.

An index that was good when it was inserted may become worse: by what was written since, by other
search parameters, by a Milvus that lost or moved segments. Nobody sees that in an answer.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from paddlerec_milvus.errors import UserError
from paddlerec_milvus.evaluation.index_check import CHECKED_K, StoredItems, recall_as_stored
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.item_index import IndexVersion
from paddlerec_milvus.serving.observability import ProbeMetrics
from paddlerec_milvus.serving.settings import ServiceSettings, without_secrets

logger = logging.getLogger(__name__)

QUERIES = 64
AT_ONCE = 8  # of them; requests go between
REST = 9.0  # times as long as these took: the probe has a tenth of a core
FIRST = 10.0  # seconds from the start, or from an insert, at most


class IndexProbe:
    """Compares the index that serves with exact search, on the last interests searched for."""

    def __init__(self, settings: ServiceSettings, metrics: ProbeMetrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._thread = ThreadPoolExecutor(1, "recall")
        self._ended = threading.Event()
        self._recent: deque[FloatArray] = deque(maxlen=QUERIES)
        self._recent_of: IndexVersion | None = None
        self._turns = itertools.count()
        self.recall: float | None = None
        """Of the version that was measured last; None: of none yet."""
        metrics.least_recall.set(settings.least_recall)
        metrics.recall_seconds.set(settings.recall_seconds)
        if settings.recall_seconds:
            metrics.recall_at.set(0)

    @property
    def warnings(self) -> list[str]:
        """What the last probe says that somebody should see to."""
        least = self._settings.least_recall
        if self.recall is None or self.recall >= least:
            return []
        return [
            f"index_recall@{CHECKED_K} is {self.recall:.3f}, below SERVING_LEAST_RECALL={least:g}: "
            "raise the index's search parameters (ef, nprobe), or POST /insert"
        ]

    def remember(self, served: ServedVersion, interests: FloatArray) -> None:
        """Of a request's ``interests`` [n, K, D], which ``served`` was searched for: one."""
        if served.version != self._recent_of:
            self._recent.clear()
            self._recent_of = served.version
        vector = interests[0, next(self._turns) % interests.shape[1]]
        if vector.any():
            self._recent.append(vector.copy())

    async def watch(self, current: Callable[[], ServedVersion | None]) -> None:
        """Probe what ``current`` says every ``recall_seconds``, and soon where it is another.

        Ends where its retriever does not tell the vectors that it holds.
        """
        seconds, due, is_said = self._settings.recall_seconds, 0.0, False
        before: IndexVersion | None = None
        while seconds:
            await asyncio.sleep(min(FIRST, seconds))
            served, is_due = current(), time.monotonic() >= due
            if served is None:
                if is_due and not is_said:
                    self._metrics.recalls.labels("skipped").inc()
                    logger.warning("index_recall is not measured while the model does not answer")
                is_said = is_said or is_due
            elif not isinstance(served.retriever, StoredItems):
                logger.info("index_recall is not measured: this retriever tells no vectors")
                self._metrics.recall_at.set(math.nan)
                return
            elif is_due or served.version != before:
                loop, before = asyncio.get_running_loop(), served.version
                await loop.run_in_executor(self._thread, self._probe, served, served.retriever)
                due, is_said = time.monotonic() + seconds, False

    def _probe(self, served: ServedVersion, items: StoredItems) -> None:
        """Measure once, and tell it to metrics and log; a failure is told, too."""
        try:
            recall = self._measure(served, items)
        except UserError as error:
            text = without_secrets(error, self._settings.model)
        except Exception:  # a probe must not end the service
            logger.exception("index_recall was not measured")
            text = ""
        else:
            if recall is not None:
                self._tell(recall, served)
            return
        self._metrics.recalls.labels("failed").inc()
        if text:
            logger.warning("index_recall was not measured: %s", text)

    def _tell(self, recall: float, served: ServedVersion) -> None:
        self.recall = recall
        self._metrics.recall.set(recall)
        self._metrics.recall_at.set(time.time())
        self._metrics.recalls.labels("done").inc()
        name = served.version.name or "the index"
        logger.info("index_recall@%d of %s is %.3f", CHECKED_K, name, recall)
        for text in self.warnings:
            logger.warning(text)

    def _measure(self, served: ServedVersion, items: StoredItems) -> float | None:
        """The mean over the queries; None: the service ends."""
        vectors = served.model.tower.item_vectors()[1:]
        ids = np.arange(1, len(vectors) + 1)
        model = ExactRetriever(vectors, ids, self._settings.model.retrieval.metric)
        queries = self._queries(served)
        recalls = []
        for part in np.array_split(queries, math.ceil(len(queries) / AT_ONCE)):
            began = time.perf_counter()
            recalls.append(recall_as_stored(items, model, part))
            if self._ended.wait(REST * (time.perf_counter() - began)):
                return None
        return float(np.concatenate(recalls).mean())

    def _queries(self, served: ServedVersion) -> FloatArray:
        """The last interests [n, D], and where these are few the tower's sample beside them."""
        recent = list(self._recent) if self._recent_of == served.version else []
        if len(recent) < QUERIES:
            sample = served.model.tower.sample()
            rows = np.linspace(0, len(sample) - 1, min(len(sample), QUERIES - len(recent)))
            recent.extend(sample[rows.astype(int)])
        return np.stack(recent)

    def close(self) -> None:
        """End a probe that is under way, at its next rest."""
        self._ended.set()
        self._thread.shutdown(cancel_futures=True)
