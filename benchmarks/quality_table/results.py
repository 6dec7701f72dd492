# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What was tried and measured: filled by measuring, read by table, picture and check.

In JSON a metric of lists of TOP_N has its full name, as ``recall@50``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
)

from paddlerec_milvus.evaluation.statistics import Difference

TOP_N = 50
METRICS = tuple(f"{metric}@{TOP_N}" for metric in ("recall", "ndcg", "hitrate"))
RECALL = METRICS[0]
ALIASES = {name.partition("@")[0]: name for name in METRICS} | {"valid_recall": f"valid {RECALL}"}


class QualityResult(BaseModel):
    """A part of the results: complete when it is made, the same ever after."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: ALIASES.get(name, name),
        populate_by_name=True,
    )


class RelevanceMeans(QualityResult):
    """Means over users."""

    recall: float
    ndcg: float
    hitrate: float


class RelevanceByUser(QualityResult):
    """A value for each user [U]."""

    recall: list[float]
    ndcg: list[float]
    hitrate: list[float]


class ValidTrial(QualityResult):
    """Parameters of a baseline, and how they do on the valid users."""

    params: dict[str, Any]
    valid: RelevanceMeans


class Measurement(QualityResult):
    """One training, measured on the valid and the test users."""

    seconds: float
    valid: RelevanceMeans
    test: RelevanceByUser
    checkpoint: dict[str, Any] | None = None
    """Of a MIND: what is known of the epoch that was measured."""


PieceResult = list[ValidTrial] | Measurement
PIECE_RESULT: TypeAdapter[PieceResult] = TypeAdapter(PieceResult)


class Estimate(QualityResult):
    """A mean over seeds and users, and how sure it is."""

    mean: float
    se_seeds: float | None
    """Standard error over seeds; None of one."""
    se_users: float
    """Standard error over users."""


class Provenance(QualityResult):
    """The run that a row comes from."""

    command: str
    machine: dict[str, Any]
    versions: dict[str, str]


class MethodQuality(QualityResult):
    """A line of the table."""

    title: str
    recall: Estimate
    ndcg: Estimate
    hitrate: Estimate
    valid_recall: float
    seeds: int
    seconds: float
    params: dict[str, Any]
    chosen: str | None = None
    """How the parameters were chosen; left out where there is no choice, as the two below."""
    trials: list[ValidTrial] | None = None
    checkpoints: list[dict[str, Any]] | None = None
    origin: Provenance | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in plain(self).items() if value is not None}


class Comparison(QualityResult):
    """MIND minus the baseline that is best on the test users by a metric."""

    baseline: str
    difference: Difference
    paired: bool
    """Bootstrap over users, paired; else from the two standard errors over users alone, wider."""


class LogQuality(QualityResult):
    """All methods on one click log."""

    fingerprint: str
    split: str | None = None
    """How the log was split, in words; left out by results of before there was a choice."""
    items: int
    train_users: int
    train_clicks: int
    test_users: int
    methods: dict[str, MethodQuality]
    best_baseline: str | None = None
    """By recall on the test users; left out, as the difference, without it or without MIND."""
    mind_minus_best: Difference | None = None
    paired: bool = True
    """Whether that interval is; see ``Comparison``."""
    best_by_ndcg: Comparison | None = None
    """MIND against the baseline with the best ndcg; results of before have none."""
    not_measured: dict[str, str]
    """Methods that cannot be measured on it, and why."""

    @property
    def best(self) -> Comparison | None:
        """MIND against the baseline with the best recall."""
        if self.best_baseline is None or self.mind_minus_best is None:
            return None
        return Comparison(
            baseline=self.best_baseline, difference=self.mind_minus_best, paired=self.paired
        )

    @model_serializer(mode="wrap")
    def _without_none(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in plain(self).items() if value is not None}


class Bootstrap(QualityResult):
    """How intervals were drawn."""

    resamples: int
    seed: int
    level: float


class QualityReport(QualityResult):
    """The content of quality.json."""

    format: Literal[1]
    command: str
    top_n: int
    maxlen: int
    seeds: list[int]
    jobs: int
    bootstrap: Bootstrap
    grids: dict[str, dict[str, list[Any]]]
    """By title: the values that each parameter was tuned over."""
    data: dict[str, LogQuality]
    machine: dict[str, Any]
    versions: dict[str, str]
