# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A model folder's epochs on its test users: their candidates, and all that is said of these."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import InitVar, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.checkpoint import evaluated_checkpoints
from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out
from paddlerec_milvus.data.log import ClickLog, read_click_log
from paddlerec_milvus.device import use_device
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.errors import RefusedError, UserError
from paddlerec_milvus.evaluation.baselines import Baseline, ItemKNN, MostPopular, Transitions
from paddlerec_milvus.evaluation.beyond_accuracy import (
    ItemStatistics,
    list_report,
    of_lists,
    of_truths,
)
from paddlerec_milvus.evaluation.held_out_summary import (
    held_out_summary,
    require_others_than_the_ranker_saw,
)
from paddlerec_milvus.evaluation.interests import InterestUse, interest_report
from paddlerec_milvus.evaluation.item_statistics import item_statistics_of
from paddlerec_milvus.evaluation.metrics import in_a_line, index_recall, relevance
from paddlerec_milvus.evaluation.predict import (
    Queries,
    Search,
    Stopwatch,
    candidates_of,
    require_known_items,
)
from paddlerec_milvus.evaluation.results import (
    CatalogueSummary,
    EpochResult,
    HeldOutSummary,
    IndexQuality,
    ListRelevance,
    ListSummary,
    MethodResult,
)
from paddlerec_milvus.ranking.samples import held_out_moments, searched_users
from paddlerec_milvus.retrieval.base import Retriever, checked_k
from paddlerec_milvus.retrieval.indexes import index_of_settings
from paddlerec_milvus.retrieval.milvus import MilvusRetriever, retriever_from_settings
from paddlerec_milvus.retrieval.ownership import CHECKPOINT, Description
from paddlerec_milvus.sampling import evenly_spread
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import TrainedModel, identity_of_model
from paddlerec_milvus.zoo import ModelFolder

if TYPE_CHECKING:  # onnxruntime
    from paddlerec_milvus.evaluation.ranking_report import RankedUsers
    from paddlerec_milvus.ranking.ranking_model import RankingModel

logger = logging.getLogger(__name__)

IntArray = npt.NDArray[np.int64]

# exact search over a large catalogue costs more than the evaluation: beyond these, fewer users
EXACT_PAIRS = 400_000_000  # of a user and an item
EXACT_USERS = 1_000  # at least

BASELINES = {"most_popular": MostPopular, "item_knn": ItemKNN, "transitions": Transitions}
ORDER_BLIND = ("most_popular", "item_knn")


@dataclass
class Evaluation:
    """One model folder, its test users, and where its vectors are searched."""

    settings: Settings
    top_n: int = 50
    exact: bool = False
    best: bool = False  # the best epoch on the valid users, instead of infer_start_epoch …
    measured_on: InitVar[HeldOutUsers | None] = None  # instead of those of test_data_dir
    rank: bool = False  # measure the ranker beside each checkpoint, too

    def __post_init__(self, measured_on: HeldOutUsers | None) -> None:
        checked_k(self.top_n)
        if self.rank:
            from paddlerec_milvus.ranking.ranking_model import require_inner_product  # onnxruntime

            require_inner_product(self.settings)
            require_others_than_the_ranker_saw(self.settings)
        use_device(self.settings)
        self.index = index_of_settings(self.settings)
        self.users = measured_on or read_held_out(self.settings.path("test_data_dir"))
        require_known_items(self.users, self.settings, "test_data_dir")
        self.encoder = Encoder(self.settings, ModelFolder(self.settings.model_dir))
        exclude = self.settings.retrieval.exclude_history
        self.lists: IntArray = np.empty((0, self.top_n), np.int64)
        """[users, top_n], the last epoch's; short ones end with -1."""
        self.ranked: IntArray = np.empty((0, 0), np.int64)
        """[users, 200], the same of its ranker, from all channels; of none without ``rank``."""
        self.queries = Queries.of(self.users, self.encoder.maxlen, exclude_history=exclude)

    def epochs(self) -> dict[str, EpochResult]:
        """What is measured of each epoch, by its number."""
        reports, checkpoints = {}, evaluated_checkpoints(self.settings, best=self.best)
        for _, checkpoint in checkpoints if self.rank else ():
            self._require_ranking(checkpoint)
        logger.info("%s: %s", self.settings.path("test_data_dir"), self.held_out.words())
        with nullcontext() if self.exact else self._milvus() as retriever:
            for epoch, checkpoint in checkpoints:
                reports[str(epoch)] = self._epoch(epoch, checkpoint, retriever)
        return reports

    def _milvus(self) -> MilvusRetriever:
        """Where the vectors go; beside those by which a service answers, if there are such."""
        logger.info("searching with %r, metric %s", self.index, self.settings.retrieval.metric)
        name = self.settings.milvus.collection
        retriever = retriever_from_settings(self.settings)
        try:
            serving = retriever.versions.serving()
        except BaseException:
            retriever.close()
            raise
        if not _is_of_a_service(serving):
            return retriever
        retriever.close()
        beside = f"{name}_evaluation"
        logger.info("a service answers by the collection %r: evaluated in %r", name, beside)
        return retriever_from_settings(self.settings, collection=beside)

    def _epoch(self, epoch: int, checkpoint: Path, milvus: MilvusRetriever | None) -> EpochResult:
        watch, began = Stopwatch(), time.perf_counter()
        self.encoder.load(checkpoint)
        table = self.encoder.item_vectors()
        if milvus is not None:
            if _is_of_a_service(milvus.versions.serving()):
                raise RefusedError(
                    f"meanwhile a service has stored its vectors in {milvus.collection!r}, and "
                    "they are left alone: start again, and another collection is evaluated"
                )
            times = milvus.versions.build(table[1:], np.arange(1, len(table), dtype=np.int64))
            watch.seconds |= {
                "insert": times.insert_seconds + times.compact_seconds,
                "index": times.index_seconds,
                "load": times.load_seconds,
            }
        exact = self._exact(table)
        result = self._measure(epoch, exact, milvus, watch, began)
        if not self.rank:
            return result
        from paddlerec_milvus.evaluation.ranking_report import ranking_result

        model, ranked = self.ranked_lists(checkpoint, table, milvus or exact.retriever)
        ranking = ranking_result(model, ranked, self.users)
        return result.model_copy(update={"ranking": ranking})

    def _exact(self, table: npt.NDArray[np.float32]) -> Search:
        return Search.exactly(table, self.settings.retrieval.metric, self.top_n)

    def _require_ranking(self, checkpoint: Path) -> None:
        from paddlerec_milvus.ranking.ranking_model import require_ranking  # onnxruntime

        trained = TrainedModel(self.settings, checkpoint)
        identity = identity_of_model(trained, trained.fingerprint())
        require_ranking(checkpoint, identity.digest, identity.data_fingerprint)

    def ranked_lists(
        self, checkpoint: Path, table: npt.NDArray[np.float32], retriever: Retriever
    ) -> tuple[RankingModel, RankedUsers]:
        """The ranker beside ``checkpoint``, and what it makes of what ``retriever`` finds.

        ``table`` [V, D] are the item vectors of the checkpoint, which is loaded.
        """
        from paddlerec_milvus.evaluation.ranking_report import rank_users
        from paddlerec_milvus.ranking.training import ranking_beside

        model = ranking_beside(TrainedModel(self.settings, checkpoint), table)
        moments, encoder = held_out_moments(self.users), self.encoder
        most = model.channels.searched
        users = searched_users(moments, encoder.interests, encoder.maxlen, retriever, most)
        lists = rank_users(model, users)
        self.ranked = lists.ranked
        return model, lists

    def of_index(self, epoch: int, checkpoint: Path, milvus: MilvusRetriever | None) -> EpochResult:
        """What is measured of ``checkpoint``, whose item vectors ``milvus`` holds already.

        None: exact search.
        """
        watch, began = Stopwatch(), time.perf_counter()
        self.encoder.load(checkpoint)
        return self._measure(epoch, self._exact(self.encoder.item_vectors()), milvus, watch, began)

    def _measure(
        self,
        epoch: int,
        exact: Search,
        milvus: MilvusRetriever | None,
        watch: Stopwatch,
        began: float,
    ) -> EpochResult:
        """The result of searching all users, with what ``watch`` has timed since ``began``.

        They are searched in ``milvus``, which is compared with ``exact``, else in that.
        """
        search = exact if milvus is None else replace(exact, retriever=milvus)
        self.lists, use = self._candidates(search, self.queries, watch)
        relevance = self._relevance(self.lists)
        seconds = time.perf_counter() - began
        logger.info(
            "epoch: %d done, %s, epoch time: %.2f s",
            epoch,
            in_a_line(relevance.flat(), self.top_n),
            seconds,
        )
        return EpochResult(
            relevance=relevance,
            users=len(self.lists),
            lists=self._list_summary(self.lists),
            seconds=seconds,
            seconds_by_stage=watch.seconds,
            index=None if milvus is None else self._index_quality(milvus, exact),
            interests=interest_report(use),
            truths=self.truths,
            catalogue=CatalogueSummary(
                items=self.item_statistics.size,
                popularity_from=self.item_statistics.popularity_from,
            ),
        )

    def _candidates(
        self, search: Search, queries: Queries, watch: Stopwatch
    ) -> tuple[IntArray, InterestUse]:
        batch_size = self.settings.runner.infer_batch_size
        return candidates_of(self.encoder, search, queries, batch_size, watch)

    def _relevance(self, lists: IntArray) -> ListRelevance:
        users = self.users
        return ListRelevance.of(
            relevance(lists, users.truth_indptr, users.truths, self.top_n), self.top_n
        )

    def _list_summary(self, lists: IntArray) -> ListSummary:
        return list_report(of_lists(lists, self.item_statistics.size), self.item_statistics)

    @cached_property
    def truths(self) -> ListSummary:
        """What the truths show, by the same functions as lists."""
        truths = of_truths(self.users.truth_indptr, self.users.truths, self.item_statistics.size)
        return list_report(truths, self.item_statistics)

    def _index_quality(self, milvus: MilvusRetriever, exact: Search) -> IndexQuality:
        """How exact the index is, over all users or a spread of them, and which setting is idle."""
        rows = evenly_spread(len(self.lists), max(EXACT_USERS, EXACT_PAIRS // len(exact.vectors)))
        truth, _ = self._candidates(exact, self.queries[rows], Stopwatch())
        few = self.queries[rows[:16]]
        interests = self.encoder.interests(few.histories, few.lengths, few.users)
        idle = milvus.parameters_without_effect(
            interests.reshape(-1, interests.shape[-1]), self.top_n
        )
        for parameter in idle:
            logger.warning(
                "index.%s has no effect on %s: every setting of it finds the same",
                parameter,
                self.settings.milvus.uri,
            )
        return IndexQuality(
            index_recall=float(index_recall(self.lists[rows], truth).mean()),
            index_recall_users=len(rows),
            parameters_without_effect=idle,
        )

    @cached_property
    def train_log(self) -> ClickLog:
        """The clicks of ``train_data_dir``."""
        return read_click_log(self.settings.path("train_data_dir"))

    @cached_property
    def known_log(self) -> ClickLog | None:
        """The same; None, and a log line, where there are none."""
        try:
            return self.train_log
        except UserError as error:
            logger.info("popularity is taken from the order of ids: %s", error)
            return None

    @cached_property
    def held_out(self) -> HeldOutSummary:
        """Whom the lists are measured on."""
        items = None if self.known_log is None else self.known_log.items
        return held_out_summary(self.users, self.settings, "test_data_dir", items, best=self.best)

    @cached_property
    def item_statistics(self) -> ItemStatistics:
        """What is known of the items that the model has vectors of."""
        size = len(self.encoder.item_vectors()) - 1
        return item_statistics_of(size, self.known_log, self.settings.path("test_data_dir"))

    def baselines(self, names: Sequence[str] = ORDER_BLIND) -> dict[str, MethodResult]:
        """Those of BASELINES with these names on the same users, by the same rule on their
        histories, from the clicks of ``train_data_dir``."""
        log = self.train_log
        items = 1 + max(int(log.items.max()), int(self.users.history.max(initial=0)))
        return {name: self._baseline(BASELINES[name](log, items)) for name in names}

    def _baseline(self, model: Baseline) -> MethodResult:
        exclude = self.settings.retrieval.exclude_history
        lists = model.recommend(
            self.users, self.encoder.maxlen, self.top_n, exclude_history=exclude
        )
        return MethodResult(
            relevance=self._relevance(lists), users=len(lists), lists=self._list_summary(lists)
        )


def _is_of_a_service(version: Description | None) -> bool:
    """Whether it says which checkpoint it is of, as those by which a service answers do."""
    return version is not None and CHECKPOINT in version.properties
