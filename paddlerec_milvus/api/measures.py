# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The metrics that a caller names, such as ``recall@50``, from what an evaluation measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.api.python_words import quiet_import
from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.errors import SettingsError, nearest
from paddlerec_milvus.evaluation.held_out_summary import require_others_than_the_ranker_saw
from paddlerec_milvus.evaluation.metrics import relevance
from paddlerec_milvus.evaluation.results import METRICS
from paddlerec_milvus.retrieval.base import Retriever
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.trained_model import TrainedModel, epoch_of

if TYPE_CHECKING:
    from paddlerec_milvus.evaluation.evaluator import Evaluation
    from paddlerec_milvus.ranking.ranking_model import RankingModel

INDEX_RECALL = "index_recall"
DEFAULT_N = 50


@dataclass(frozen=True)
class Measures:
    """Names and lengths of lists, in the order of the call."""

    pairs: Sequence[tuple[str, int]]

    @classmethod
    def parse(cls, metrics: Sequence[str] | None, items: int, *, indexed: bool) -> Measures:
        """The metrics by their names; None: all, of lists of 50.

        SettingsError: an unknown name, lists of more than ``items``, or index_recall without an
        index or of lists that are not the longest.
        """
        known = (*METRICS, *([INDEX_RECALL] if indexed else []))
        if metrics is None:
            return cls([(name, min(DEFAULT_N, items)) for name in known])
        if isinstance(metrics, str) or not metrics:
            raise SettingsError(f'metrics: {metrics!r} is no list such as ["recall@50", "ndcg@10"]')
        pairs = [_pair(text, known, items) for text in metrics]
        longest = max(length for _, length in pairs)
        for name, length in pairs:
            if name == INDEX_RECALL and length != longest:
                raise SettingsError(
                    f"metrics: {name}@{length} is measured of the longest lists alone: "
                    f"{name}@{longest}"
                )
        return cls(pairs)

    @property
    def top_n(self) -> int:
        """The length of the lists that are searched for."""
        return max(length for _, length in self.pairs)

    def measure(
        self,
        model: TrainedModel,
        retriever: MilvusRetriever | None,
        users: HeldOutUsers | None,
        ranking: RankingModel | None = None,
    ) -> dict[str, float]:
        """Their values on ``users``, None: the test users of the settings of ``model``.

        ``retriever`` holds its item vectors; None: exact search. With ``ranking`` those of its
        lists, too. SettingsError: longer ones than are ranked, or users that taught the ranker.
        """
        ranked_pairs = [] if ranking is None else self._ranked_pairs()
        with quiet_import():
            from paddlerec_milvus.evaluation.evaluator import Evaluation

            if ranking is not None and users is None:
                require_others_than_the_ranker_saw(model.settings)

            exact = retriever is None
            evaluation = Evaluation(model.settings, self.top_n, exact, measured_on=users)
        epoch = epoch_of(model.checkpoint) or 0
        result = evaluation.of_index(epoch, model.checkpoint, retriever)
        values = result.relevance.flat()
        if result.index is not None:
            values[f"{INDEX_RECALL}@{self.top_n}"] = result.index.index_recall
        truths = evaluation.users.truth_indptr, evaluation.users.truths
        for length in {length for _, length in self.pairs} - {self.top_n}:
            values |= relevance(evaluation.lists, *truths, length)
        named = {f"{name}@{length}": values[f"{name}@{length}"] for name, length in self.pairs}
        if ranking is None:
            return named
        lists = _ranked_lists(evaluation, ranking, retriever)
        for length in {length for _, length in ranked_pairs}:
            values |= relevance(lists, *truths, length)
        return named | {
            f"ranked_{name}@{length}": values[f"{name}@{length}"] for name, length in ranked_pairs
        }

    def _ranked_pairs(self) -> Sequence[tuple[str, int]]:
        with quiet_import():
            from paddlerec_milvus.evaluation.ranking_report import LONGEST

        pairs = [pair for pair in self.pairs if pair[0] != INDEX_RECALL]
        for name, length in pairs:
            if length > LONGEST:
                raise SettingsError(
                    f"metrics: {name}@{length}: of ranked lists at most {LONGEST} items are "
                    "measured; leave out ranked, or take shorter lists"
                )
        return pairs


def _ranked_lists(
    evaluation: Evaluation, ranking: RankingModel, retriever: MilvusRetriever | None
) -> npt.NDArray[np.int64]:
    """[U, 200], of the users of ``evaluation``, whose encoder holds the model."""
    with quiet_import():
        from paddlerec_milvus.evaluation.ranking_report import rank_users
        from paddlerec_milvus.ranking.samples import held_out_moments, searched_users

    encoder = evaluation.encoder
    searched: Retriever | None = retriever
    if searched is None:
        vectors = encoder.item_vectors()
        searched = ExactRetriever(vectors[1:], np.arange(1, len(vectors)), "IP")
    moments = held_out_moments(evaluation.users)
    most = ranking.channels.searched
    users = searched_users(moments, encoder.interests, encoder.maxlen, searched, most)
    return rank_users(ranking, users).ranked


def _pair(text: str, known: Sequence[str], items: int) -> tuple[str, int]:
    match = re.fullmatch(r"(\w+)@([1-9]\d*)", str(text))
    if match is None or match[1] not in known:
        name = str(text).partition("@")[0]
        raise SettingsError(
            f"metrics: {text!r} is not known{nearest(name, known)}; there are "
            f"{', '.join(f'{one}@N' for one in known)}"
        )
    if int(match[2]) > items:
        raise SettingsError(f"metrics: {text!r}: there are {items:,} items alone")
    return match[1], int(match[2])
