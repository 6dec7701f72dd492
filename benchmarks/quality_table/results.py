# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What was tried and measured: filled by measuring, read by table, picture and check.

In JSON a metric has its full name: ``recall`` is ``recall@50``, ``recall_short`` ``recall@10``.
What is None is left out.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from paddlerec_milvus.evaluation.statistics import Difference

TOP_N, SHORT = 50, 10
FORMAT: Final = 2
METRICS = tuple(f"{metric}@{TOP_N}" for metric in ("recall", "ndcg", "hitrate"))
SHORT_METRICS = tuple(f"{metric}@{SHORT}" for metric in ("recall", "ndcg", "hitrate"))
FIELDS = ("recall", "ndcg", "hitrate", "recall_short", "ndcg_short", "hitrate_short")
"""Of all that have metrics, in the order of the tables' columns."""
RECALL = METRICS[0]
NAMES = dict(zip(FIELDS, METRICS + SHORT_METRICS, strict=True))
ALIASES = NAMES | {"valid_recall": f"valid {RECALL}"}


class QualityResult(BaseModel):
    """A part of the results: complete when it is made, the same ever after."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: ALIASES.get(name, name),
        populate_by_name=True,
    )


class SparseResult(QualityResult):
    """One that JSON holds without what is None."""

    @model_serializer(mode="wrap")
    def _without_none(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in plain(self).items() if value is not None}


class RelevanceMeans(SparseResult):
    """Means over users; results of before have none of the short lists."""

    recall: float
    ndcg: float
    hitrate: float
    recall_short: float | None = None
    ndcg_short: float | None = None
    hitrate_short: float | None = None


class RelevanceByUser(QualityResult):
    """A value for each user [U]."""

    recall: list[float]
    ndcg: list[float]
    hitrate: list[float]
    recall_short: list[float]
    ndcg_short: list[float]
    hitrate_short: list[float]


class ValidTrial(QualityResult):
    """Parameters of a baseline, and how they do on the valid users."""

    params: dict[str, Any]
    valid: RelevanceMeans


class TrainerSpeed(QualityResult):
    """What a short run of the trainer says of a long one, in seconds."""

    start: float
    """Until the first batch."""
    batch: float
    """A step with its reading."""
    valid: float
    """An epoch's end: the valid users measured, the checkpoint saved."""
    batches: int
    """In a whole epoch."""


class TrainingRun(SparseResult):
    """How long a model was trained, and why it ended then."""

    epochs: float
    """That were trained; of a peer with a part of one."""
    batches: int | None = None
    """In each of them, where they were cut to fit the budget."""
    whole_epoch: int | None = None
    """Batches of all samples; of those that were cut."""
    ended: Literal["epochs", "budget", "patience"]
    """As its settings say, cut to fit the minutes, or without a better epoch for a while."""


class TowerCost(QualityResult):
    """What a user of a model costs."""

    parameters: int
    """Weights of the whole model, the item table included."""
    tower_ms: float
    """The user tower for one user, median, on one thread."""
    vectors: int
    """Of a user: searches of a request."""
    dimensions: int
    """Of such a vector."""


class Measurement(SparseResult):
    """One training, measured on the valid and the test users."""

    seconds: float
    valid: RelevanceMeans
    test: RelevanceByUser
    unseen: RelevanceByUser | None = None
    """Of the test users, the items of their histories left out of the lists."""
    checkpoint: dict[str, Any] | None = None
    """Of a model: what is known of the epoch that was measured."""
    training: TrainingRun | None = None
    cost: TowerCost | None = None


PieceResult = list[ValidTrial] | TrainerSpeed | Measurement
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


class UnseenQuality(QualityResult):
    """As the metrics of a line, the items of the histories left out of the lists."""

    recall: Estimate
    ndcg: Estimate
    hitrate: Estimate
    recall_short: Estimate
    ndcg_short: Estimate
    hitrate_short: Estimate


class MethodQuality(SparseResult):
    """A line of the table."""

    title: str
    recall: Estimate
    ndcg: Estimate
    hitrate: Estimate
    recall_short: Estimate | None = None
    ndcg_short: Estimate | None = None
    hitrate_short: Estimate | None = None
    valid_recall: float
    seeds: int
    seconds: float
    params: dict[str, Any]
    chosen: str | None = None
    """How the parameters were chosen; left out where there is no choice, as the trials."""
    trials: list[ValidTrial] | None = None
    checkpoints: list[dict[str, Any]] | None = None
    training: list[TrainingRun] | None = None
    """Of each seed of a model."""
    cost: TowerCost | None = None
    unseen: UnseenQuality | None = None
    origin: Provenance | None = None


class Comparison(QualityResult):
    """A model minus another row, in one metric on the test users."""

    metric: str
    model: str
    against: str
    role: Literal["best baseline", "fusion", "peer", "counterpart"]
    """``best baseline``: by this metric on these users, the fusion of two left out;
    ``counterpart``: a public implementation of the model.
    """
    difference: Difference
    paired: bool
    """Bootstrap over users, paired; else from the two standard errors over users alone, wider."""


class LogQuality(SparseResult):
    """All methods on one click log."""

    fingerprint: str
    split: str | None = None
    """How the log was split, in words; left out by results of before there was a choice."""
    items: int
    train_users: int
    train_clicks: int
    test_users: int
    methods: dict[str, MethodQuality]
    comparisons: list[Comparison] = []
    """Of the recommended model."""
    not_measured: dict[str, str]
    """Methods that cannot be measured on it, and why."""

    @model_validator(mode="before")
    @classmethod
    def _of_format_1(cls, content: Any) -> Any:
        """The comparisons of format 1 stand at the log itself, all of them MIND's."""
        if not isinstance(content, dict) or "comparisons" in content:
            return content
        content = dict(content)
        best, by_ndcg = content.pop("best_baseline", None), content.pop("best_by_ndcg", None)
        gain, paired = content.pop("mind_minus_best", None), content.pop("paired", True)
        earlier = []
        if best is not None:
            earlier.append((RECALL, {"baseline": best, "difference": gain, "paired": paired}))
        if by_ndcg is not None:
            earlier.append((METRICS[1], by_ndcg))
        content["comparisons"] = [
            {
                "metric": metric,
                "model": "mind",
                "against": known["baseline"],
                "role": "best baseline",
                "difference": known["difference"],
                "paired": known["paired"],
            }
            for metric, known in earlier
        ]
        return content


class Bootstrap(QualityResult):
    """How intervals were drawn."""

    resamples: int
    seed: int
    level: float


class Recommended(QualityResult):
    """The model that we would take."""

    method: str
    """Its row."""
    folder: str
    """Of the repository."""
    options: list[str]
    """As they follow ``-o``."""


class QualityReport(SparseResult):
    """The content of quality.json; files of format 1 are read as the format of today."""

    format: Literal[2]
    command: str
    recommended: Recommended
    minutes: float | None = None
    """A training of a model may take; None: as long as its settings say."""
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

    @model_validator(mode="before")
    @classmethod
    def _of_format_1(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("format") != 1:
            return content
        mind = {"method": "mind", "folder": "models/recall/mind", "options": []}
        return content | {"format": FORMAT, "recommended": mind}
