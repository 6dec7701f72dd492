# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a search setting costs in the ten best items, once a ranker has ordered its candidates."""

from __future__ import annotations

import numpy as np

from paddlerec_milvus.bench.measure_search import PerUser, compared, mean_of, relevance_of
from paddlerec_milvus.bench.results import RankedQuality
from paddlerec_milvus.bench.workload import Workload, WorkloadRanker
from paddlerec_milvus.evaluation.metrics import index_recall
from paddlerec_milvus.ranking.samples import Moment, searched_users
from paddlerec_milvus.retrieval.base import MISSING_ID, FloatArray, IntArray, Retriever
from paddlerec_milvus.retrieval.exact import ExactRetriever

TOP = 10  # items of a ranked list


class RankingMeter:
    """Ranks what a search finds for all users of a workload, beside what exact search finds.

    As tools/infer.py --rank and the service do it: candidates without the user's history, of which
    the search gives the ranker's quota, and its other channels the rest.
    """

    def __init__(self, workload: Workload, ranker: WorkloadRanker) -> None:
        """``workload`` holds the users' histories, and what they clicked later."""
        self._workload, self._ranker = workload, ranker
        exact = ExactRetriever(workload.vectors, workload.ids, workload.metric)
        self._exact = self.lists(exact)
        self._exact_relevance = self._relevance(self._exact)

    def lists(self, retriever: Retriever) -> IntArray:
        """[U, 10] ranked items, -1 where a list is short. RetrievalError: the server is away."""
        work, model = self._workload, self._ranker.model
        nothing = np.empty(0, np.int64)
        moments = [Moment(row, history, nothing) for row, history in enumerate(work.histories)]

        def interests(_: IntArray, __: IntArray, rows: IntArray | None) -> FloatArray:
            return work.interests[rows]

        ranked = np.full((len(moments), TOP), MISSING_ID, np.int64)
        for user in searched_users(
            moments, interests, self._ranker.maxlen, retriever, model.channels.searched
        ):
            excluded = set(user.moment.history.tolist())
            best = model.rank(user.clicks, user.interests, user.hits, excluded, TOP)
            ranked[user.moment.user, : len(best.items)] = best.items
        return ranked

    def quality(self, retriever: Retriever) -> RankedQuality:
        """Of what ``retriever`` finds. RetrievalError: the server is away."""
        lists = self.lists(retriever)
        return RankedQuality(
            top_n=TOP,
            overlap=mean_of(index_recall(lists, self._exact)),
            relevance=compared(self._exact_relevance, self._relevance(lists)),
        )

    def _relevance(self, lists: IntArray) -> PerUser:
        return relevance_of(lists, self._workload.truths)
