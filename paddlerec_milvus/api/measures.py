# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The metrics that a caller names, such as ``recall@50``, from what an evaluation measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from paddlerec_milvus.api.python_words import quiet_import
from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.errors import SettingsError, nearest
from paddlerec_milvus.evaluation.metrics import relevance
from paddlerec_milvus.evaluation.results import METRICS
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.trained_model import TrainedModel, epoch_of

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
    ) -> dict[str, float]:
        """Their values on ``users``, None: the test users of the settings of ``model``.

        ``retriever`` holds its item vectors; None: exact search.
        """
        with quiet_import():
            from paddlerec_milvus.evaluation.evaluator import Evaluation

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
        return {f"{name}@{length}": values[f"{name}@{length}"] for name, length in self.pairs}


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
