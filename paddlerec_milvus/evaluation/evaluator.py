# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Test users → interests → search → merged candidates → numbers: the one loop over test users."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from paddlerec_milvus.config import Settings
from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.evaluation.baselines import ItemKNN, most_popular
from paddlerec_milvus.evaluation.metrics import index_recall, relevance
from paddlerec_milvus.retrieval.base import Retriever, checked_k
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import index_from_settings
from paddlerec_milvus.retrieval.merge import Candidates
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.training.trainer import use_device
from paddlerec_milvus.zoo import ModelFolder

logger = logging.getLogger(__name__)

IntArray = npt.NDArray[np.int64]

# exact search over a large catalogue costs more than the evaluation: beyond these, fewer users
EXACT_PAIRS = 400_000_000  # of a user and an item
EXACT_USERS = 1_000  # at least
SEARCHES = 3  # under way at a time


@dataclass
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what runs inside to the stage ``name``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def read_test_users(settings: Settings, item_count: int | None) -> HeldOutUsers:
    """The users of ``runner.test_data_dir``; their histories must fit the item table."""
    users = read_held_out(settings.path("test_data_dir"))
    largest = int(users.history.max(initial=0))
    if item_count is not None and largest >= item_count:
        raise DataError(
            f"{settings.path('test_data_dir')}: a history holds item {largest}, but the model's "
            f"hyper_parameters.item_count is {item_count}: it was trained on other data"
        )
    return users


@dataclass(frozen=True)
class Queries:
    """What is asked: histories [U, maxlen], lengths [U], and the items that a list may not hold."""

    histories: IntArray
    lengths: IntArray
    exclude: Sequence[IntArray] | None

    def __getitem__(self, rows: slice | IntArray) -> Queries:
        exclude = self.exclude
        if exclude is not None:
            exclude = [exclude[row] for row in np.arange(len(self.lengths))[rows]]
        return Queries(self.histories[rows], self.lengths[rows], exclude)


def candidates_of(
    encoder: Encoder,
    retriever: Retriever,
    queries: Queries,
    top_n: int,
    batch_size: int,
    watch: Stopwatch,
) -> IntArray:
    """Candidates [U, top_n] int64 of all users, -1 where a list is short.

    While one batch is searched, the next goes through the tower and the last is merged: ``search``
    is the time that this waits for lists.
    """
    lists: list[IntArray] = []
    under_way: deque[Future[Candidates]] = deque()

    def collect(left: int) -> None:
        while len(under_way) > left:
            with watch.stage("search"):
                lists.append(under_way.popleft().result().ids)

    starts = range(0, len(queries.lengths), batch_size)
    with ThreadPoolExecutor(SEARCHES) as pool:
        for start in tqdm(starts, "users", unit="batch", disable=None):
            batch = queries[start : start + batch_size]
            with watch.stage("tower"):
                interests = encoder.interests(batch.histories, batch.lengths)
            under_way.append(
                pool.submit(search_users, retriever, interests, top_n, exclude=batch.exclude)
            )
            collect(left=SEARCHES)
        collect(left=0)
    return np.concatenate(lists)


def spread(count: int, at_most: int) -> IntArray:
    """At most ``at_most`` of ``count`` row numbers, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, at_most)).astype(np.int64))


@dataclass
class Evaluation:
    """One model folder, its test users, and where its vectors are searched."""

    settings: Settings
    top_n: int = 50
    exact: bool = False

    def __post_init__(self) -> None:
        checked_k(self.top_n)
        use_device(self.settings)
        params = {key: value for key, value in self.settings.index.items() if key != "type"}
        self.index = index_from_settings(str(self.settings.index.get("type", "FLAT")), params)
        item_count = self.settings.hyper_parameters.get("item_count")
        self.users = read_test_users(self.settings, item_count)
        self.encoder = Encoder(self.settings, ModelFolder(self.settings.model_dir))
        excluded = self.users.history_list() if self.settings.retrieval.exclude_history else None
        self.queries = Queries(*self.users.histories(self.encoder.maxlen), excluded)

    def epochs(self) -> dict[str, dict[str, Any]]:
        """The report of each epoch from ``infer_start_epoch`` to before ``infer_end_epoch``."""
        runner = self.settings.runner
        reports = {}
        with nullcontext() if self.exact else self._milvus() as retriever:
            for epoch in range(runner.infer_start_epoch, runner.infer_end_epoch):
                reports[str(epoch)] = self._epoch(epoch, retriever)
        return reports

    def _milvus(self) -> MilvusRetriever:
        milvus = self.settings.milvus
        logger.info("searching with %r, metric %s", self.index, self.settings.retrieval.metric)
        return MilvusRetriever(
            self.settings.milvus_uri,
            milvus.collection,
            token=milvus.token.get_secret_value(),
            db_name=milvus.db_name,
            timeout=milvus.timeout,
            metric=self.settings.retrieval.metric,
            index=self.index,
            consistency=milvus.consistency,
        )

    def _epoch(self, epoch: int, milvus: MilvusRetriever | None) -> dict[str, Any]:
        watch, began = Stopwatch(), time.perf_counter()
        self.encoder.load(self.settings.path("infer_load_path") / str(epoch))
        vectors = self.encoder.item_vectors()[1:]  # row 0 is padding
        ids = np.arange(1, len(vectors) + 1, dtype=np.int64)
        exact = ExactRetriever(vectors, ids, metric=self.settings.retrieval.metric)
        retriever: Retriever = exact
        if milvus is not None:
            times = milvus.build(vectors, ids)
            watch.seconds |= {
                "insert": times.insert_seconds,
                "index": times.index_seconds,
                "load": times.load_seconds,
            }
            retriever = milvus
        found = self._candidates(retriever, self.queries, watch)
        report: dict[str, Any] = relevance(
            found, self.users.truth_indptr, self.users.truths, self.top_n
        )
        seconds = time.perf_counter() - began
        logger.info(
            "epoch: %d done, %s, epoch time: %.2f s",
            epoch,
            ", ".join(
                f"{name}@{self.top_n}: {report[f'{name}@{self.top_n}']:.5f}"
                for name in ("recall", "ndcg", "hitrate")
            ),
            seconds,
        )
        report |= {"users": len(found), "seconds": seconds, "seconds_by_stage": watch.seconds}
        if milvus is not None:
            report |= self._index_quality(milvus, exact, found, len(ids))
        return report

    def _candidates(self, retriever: Retriever, queries: Queries, watch: Stopwatch) -> IntArray:
        batch_size = self.settings.runner.infer_batch_size
        return candidates_of(self.encoder, retriever, queries, self.top_n, batch_size, watch)

    def _index_quality(
        self, milvus: MilvusRetriever, exact: ExactRetriever, found: IntArray, items: int
    ) -> dict[str, Any]:
        """How exact the index is, over all users or a spread of them, and which setting is idle."""
        rows = spread(len(found), max(EXACT_USERS, EXACT_PAIRS // items))
        truth = self._candidates(exact, self.queries[rows], Stopwatch())
        few = self.queries[rows[:16]]
        interests = self.encoder.interests(few.histories, few.lengths)
        idle = milvus.parameters_without_effect(
            interests.reshape(-1, interests.shape[-1]), self.top_n
        )
        for parameter in idle:
            logger.warning(
                "index.%s has no effect on %s: every setting of it finds the same",
                parameter,
                self.settings.milvus.uri,
            )
        return {
            f"index_recall@{self.top_n}": float(index_recall(found[rows], truth).mean()),
            "index_recall_users": len(rows),
            "parameters_without_effect": idle,
        }

    def baselines(self) -> dict[str, dict[str, Any]]:
        """MostPopular and item-kNN on the same users, from the clicks of ``train_data_dir``."""
        log = read_click_log(self.settings.path("train_data_dir"))
        largest = max(int(log.items.max()), int(self.users.history.max(initial=0)))
        popular = np.full((len(self.users.user_ids), self.top_n), -1, dtype=np.int64)
        top = most_popular(log, self.top_n)
        popular[:, : len(top)] = top
        knn = ItemKNN(log, largest + 1)
        lists = {
            "most_popular": popular,
            "item_knn": knn.recommend(self.users, self.encoder.maxlen, self.top_n),
        }
        return {
            name: relevance(found, self.users.truth_indptr, self.users.truths, self.top_n)
            | {"users": len(found)}
            for name, found in lists.items()
        }
