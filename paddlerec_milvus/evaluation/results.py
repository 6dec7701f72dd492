# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What an evaluation measured, typed: measuring fills these results, tables and plots read them.

In JSON the relevance of lists of N stands flat, as ``recall@N`` and its like.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

CHOSE_EPOCH = "the epoch was chosen on these very users"
METRICS = ("recall", "ndcg", "ndcg_hits", "hitrate")


class EvaluationResult(BaseModel):
    """A part of a report: complete when it is made, the same ever after."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CosineSummary(EvaluationResult):
    """Cosine of each two interests of a user, over users; None where there is no pair."""

    mean: float | None
    p10: float | None
    p50: float | None
    p90: float | None


class InterestSummary(EvaluationResult):
    """What users' interests are good for: means over users, None where no user has a value."""

    count: int
    """K, the interests of a user."""
    cosine: CosineSummary
    dead: float
    """Interests of a user that are idle or repeated."""
    idle: float
    """Interests of a user that bring nothing to the list."""
    repeated: float
    """Interests of a user that repeat an earlier one."""
    dead_for_all: float
    """The share of the K that bring nothing to any list."""
    share_by_index: list[float | None]
    """[K]: the share of the list that an interest brings."""
    share_by_rank: list[float | None]
    """[K]: the largest share of a user, the second …"""


class ListSummary(EvaluationResult):
    """What lists, or held-out clicks, show of the catalogue; None where it is unknown."""

    coverage: float | None
    gini: float | None
    popularity_rank: float | None
    category_diversity: float | None = None
    """Left out where no item has a category; None where no user has a value."""

    @model_serializer(mode="wrap")
    def _without_categories(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        if "category_diversity" not in self.model_fields_set:
            del values["category_diversity"]
        return values


class CatalogueSummary(EvaluationResult):
    """How many items there are, and where their popularity comes from."""

    items: int
    popularity_from: str


class ListRelevance(EvaluationResult):
    """Means over users, of lists of ``top_n`` against held-out clicks; see ``metrics``."""

    top_n: int
    recall: float
    ndcg: float
    ndcg_hits: float
    hitrate: float

    @classmethod
    def of(cls, means: Mapping[str, float], top_n: int) -> ListRelevance:
        """From ``means`` by names such as ``recall@N``; KeyError where one is missing."""
        return cls(top_n=top_n, **{name: means[f"{name}@{top_n}"] for name in METRICS})

    def flat(self) -> dict[str, float]:
        """By the names that files and tables use: ``recall@N``, …"""
        values: dict[str, float] = self.model_dump(exclude={"top_n"})
        return {f"{name}@{self.top_n}": value for name, value in values.items()}


class MethodResult(EvaluationResult):
    """How a method did: relevance of its lists, means over ``users``, and what they show."""

    relevance: ListRelevance
    users: int
    lists: ListSummary

    @model_validator(mode="before")
    @classmethod
    def _relevance_from_flat(cls, values: dict[str, Any]) -> dict[str, Any]:
        top_n = next((key[7:] for key in values if key.startswith("recall@")), None)
        if top_n is None:
            return values
        flat = {f"{name}@{top_n}": name for name in METRICS}
        relevance = {name: values[key] for key, name in flat.items() if key in values}
        rest = {key: value for key, value in values.items() if key not in flat}
        return {**rest, "relevance": {"top_n": int(top_n), **relevance}}

    @model_serializer(mode="wrap")
    def _flat(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        del values["relevance"]
        return self.relevance.flat() | values


class IndexQuality(EvaluationResult):
    """How exact the index is; in JSON its fields stand beside the epoch's."""

    index_recall: float
    """The share of the exact lists that the index returned."""
    index_recall_users: int
    """The users that this is the mean over."""
    parameters_without_effect: list[str]
    """Parameters of the index whose every value finds the same."""

    def flat(self, top_n: int) -> dict[str, Any]:
        """By the names that files use."""
        return {
            f"index_recall@{top_n}": self.index_recall,
            "index_recall_users": self.index_recall_users,
            "parameters_without_effect": self.parameters_without_effect,
        }


class HeldOutSummary(EvaluationResult):
    """Whom lists are measured on. Truths are counted once for each user; all are in the
    denominators."""

    split: str
    """How the log was split, in words."""
    users: int
    truths: int
    excluded_truths: int | None
    """Those in their user's history, which lists leave out (retrieval.exclude_history), else None.
    """
    cold_truths: int | None
    """Those of items without a train click; None where the train clicks are not known."""
    chose_epoch: bool
    """Whether the epoch is the best one on these very users."""

    def words(self) -> str:
        """The heading of a table."""
        text = f"{self.split}: {self.users:,} users, {self.truths:,} truths"
        missed = []
        if self.excluded_truths is not None:
            missed.append(f"{self.excluded_truths:,} in a history, which lists leave out,")
        if self.cold_truths:
            missed.append(f"{self.cold_truths:,} of items without a train click")
        if missed:
            text += f", of which {' and '.join(missed)} stay in the denominator"
        if self.chose_epoch:
            text += f"; {CHOSE_EPOCH}"
        return text


class Gain(EvaluationResult):
    """A mean difference over users, and the 95 % interval of a paired bootstrap."""

    mean: float
    low: float
    high: float


class ChannelResult(EvaluationResult):
    """What a channel brought to the candidates of all users."""

    candidates: float
    """A user."""
    only: float
    """Of these, those that no other channel had."""
    relevant: int
    """Later clicks among its candidates, of all users."""
    relevant_only: int
    """Of these, those that no other channel had."""


class RankingResult(EvaluationResult):
    """Channels and a ranker beside the vector model's own lists, both without the history."""

    ranker: str
    """16 hex digits that tell the ranker from all others."""
    users: int
    unranked: dict[str, float]
    """Means over users of the vector model's lists: ``recall@10``, ``mrr@10`` …"""
    ranked: dict[str, float]
    gain: dict[str, Gain]
    """Ranked minus unranked."""
    without: dict[str, dict[str, float]]
    """By channel: of ranked lists without the candidates that it alone had."""
    channels: dict[str, ChannelResult]


class EpochResult(MethodResult):
    """All that is measured of one epoch of a model."""

    seconds: float
    seconds_by_stage: dict[str, float]
    index: IndexQuality | None
    """None of exact search."""
    interests: InterestSummary
    truths: ListSummary
    catalogue: CatalogueSummary
    ranking: RankingResult | None = None
    """Left out of a file where no ranker was measured."""

    @model_validator(mode="before")
    @classmethod
    def _index_from_flat(cls, values: dict[str, Any]) -> dict[str, Any]:
        keys = {key: key.partition("@")[0] for key in values}
        index = {
            name: values[key] for key, name in keys.items() if name in IndexQuality.model_fields
        }
        rest = {k: v for k, v in values.items() if keys[k] not in IndexQuality.model_fields}
        return {"index": index or None, **rest}

    @model_serializer(mode="wrap")
    def _flat(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        del values["relevance"], values["index"]
        if self.ranking is None:
            del values["ranking"]
        exactness = self.index.flat(self.relevance.top_n) if self.index is not None else {}
        return self.relevance.flat() | values | exactness


class EvaluationReport(EvaluationResult):
    """All epochs and baselines, with what they came from; the last epoch stands on top in JSON."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # the numbers on top, when it is read

    format: Literal[1]
    epoch: int
    """The last one."""
    top_n: int
    retriever: str
    """``exact``, or the uri of Milvus."""
    held_out: HeldOutSummary
    epochs: dict[str, EpochResult]
    baselines: dict[str, MethodResult]
    settings: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]

    @property
    def last(self) -> EpochResult:
        """The last epoch's numbers."""
        return self.epochs[str(self.epoch)]

    @model_serializer(mode="wrap")
    def _last_on_top(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        return {**values["epochs"][str(self.epoch)], **values}


class ForwardResult(EvaluationResult):
    """One epoch of a ranking, match or multitask folder by its own metrics, over all test rows."""

    metrics: dict[str, float | None]
    """By the names of ``create_metrics``; None where one is not finite."""
    printed: dict[str, float | None]
    """Means over rows of what ``infer_forward`` prints."""
    rows: int
    seconds: float


class ForwardReport(EvaluationResult):
    """All epochs of such a folder; the last one's numbers stand on top in JSON."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal[1]
    epoch: int
    """The last one."""
    epochs: dict[str, ForwardResult]
    settings: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]

    @model_serializer(mode="wrap")
    def _last_on_top(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        return {**values["epochs"][str(self.epoch)], **values}
