# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a sweep writes: a result of one kind a line, filled by measuring and read by the report.

Times are in milliseconds where the name does not say seconds, memory is in MiB, shares are of 1.
None: not measured, or it cannot be seen there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from paddlerec_milvus.bench.load_results import (
    BatchThroughput,
    LatencySummary,
    OpenLoop,
    ResultModel,
    Throughput,
)
from paddlerec_milvus.bench.sweep_config import MeasureConfig
from paddlerec_milvus.bench.workload import WorkloadInfo
from paddlerec_milvus.machine_state import MachineState

Parameters = Mapping[str, int | float | str]
"""Of an index or a search, by Milvus' names."""
RelevanceMetric = Literal["recall", "ndcg", "ndcg_hits", "hitrate"]
RELEVANCE: tuple[RelevanceMetric, ...] = ("recall", "ndcg", "ndcg_hits", "hitrate")
Stage = Literal["insert", "compact", "index", "load"]
STAGES: tuple[Stage, ...] = ("insert", "compact", "index", "load")


class MeanWithError(ResultModel):
    """A mean over users and its standard error."""

    mean: float
    se: float | None = None


class IndexRecall(ResultModel):
    """Share of the exact neighbours found: an interest's, and of the merged list."""

    interest: MeanWithError
    list: MeanWithError


class RelevanceMeans(ResultModel):
    """Means over users at k, against the clicks that were held out."""

    recall: float
    ndcg: float
    ndcg_hits: float
    hitrate: float

    def mean(self, metric: RelevanceMetric) -> float:
        """The mean of one of the metrics."""
        return float(getattr(self, metric))


class RelevanceLoss(ResultModel):
    """Relevance of exact search less that of the index, with its 95 % interval."""

    mean: float
    low: float
    high: float
    relative: float


class RelevanceLosses(ResultModel):
    """The loss of every relevance metric at k."""

    recall: RelevanceLoss
    ndcg: RelevanceLoss
    ndcg_hits: RelevanceLoss
    hitrate: RelevanceLoss

    def of(self, metric: RelevanceMetric) -> RelevanceLoss:
        """The loss of one of the metrics."""
        loss: RelevanceLoss = getattr(self, metric)
        return loss


class RelevanceComparison(ResultModel):
    """Relevance of an index beside that of exact search, over the same users."""

    index: RelevanceMeans
    exact: RelevanceMeans
    loss: RelevanceLosses


class RankedQuality(ResultModel):
    """The best items after ranking, beside those that the same ranker makes of exact search."""

    top_n: int
    """Length of a ranked list."""
    overlap: MeanWithError
    """Share of the exact search's ranked list that is in the index's."""
    relevance: RelevanceComparison
    """Of the ranked lists, at ``top_n``."""


class SearchQuality(ResultModel):
    """What a search returns beside what exact search returns."""

    index_recall: IndexRecall
    short_lists: int = 0
    """Users whose list holds fewer items than exact search finds."""
    ids_digest: str | None = None
    """Of all returned ids, to see which settings return the same."""
    merge_ms: float | None = None
    """A user, for merging the interests' results."""
    relevance: RelevanceComparison | None = None
    """None where nobody clicked."""
    ranked: RankedQuality | None = None
    """None where nothing was ranked."""


class SegmentInfo(ResultModel):
    """A segment of the collection, and whether it has an index."""

    rows: int
    indexed: bool


class BuildMeasurement(ResultModel):
    """Building an index: seconds of each stage, memory and disk with it loaded."""

    insert_seconds: float
    compact_seconds: float
    index_seconds: float
    load_seconds: float
    rows: int
    segments: list[SegmentInfo]
    rss_mib: float | None = None
    rss_empty_mib: float | None = None
    """Of the server before anything was built."""
    disk_mib: float | None = None
    disk_empty_mib: float | None = None
    rss_bytes_per_vector: float | None = None
    disk_bytes_per_vector: float | None = None
    estimate_mib: float
    """Of the index, before it was built."""
    warnings: list[str]

    def stage_seconds(self, stage: Stage) -> float:
        """Seconds of one of the stages."""
        return float(getattr(self, f"{stage}_seconds"))

    @property
    def seconds(self) -> float:
        """From the first insert until it is loaded."""
        return sum(self.stage_seconds(stage) for stage in STAGES)

    @property
    def rss_added_mib(self) -> float | None:
        """Server memory above that of the empty server."""
        if self.rss_mib is None or self.rss_empty_mib is None:
            return None
        return self.rss_mib - self.rss_empty_mib


class SearchMeasurement(ResultModel):
    """A search setting: what it returns, how fast, and under how many clients."""

    quality: SearchQuality
    latency: LatencySummary
    """One client that searches for one user at a time."""
    warnings: list[str]
    throughput: list[Throughput]
    batches: list[BatchThroughput]
    open_loop: list[OpenLoop]
    machine_state: MachineState | None = None
    """While it was measured; None: not recorded."""

    def with_ranked(self, ranked: RankedQuality) -> SearchMeasurement:
        """The same, and what ranking makes of it."""
        quality = self.quality.model_copy(update={"ranked": ranked})
        return self.model_copy(update={"quality": quality})

    @property
    def failures(self) -> int:
        """Requests that failed, in all loads."""
        loads: list[Throughput | BatchThroughput | LatencySummary] = [self.latency]
        loads += [*self.throughput, *self.batches, *self.open_loop]
        return sum(load.failures for load in loads)


class LibraryMeasurement(ResultModel):
    """An engine alone, searched by one thread of this process."""

    index_recall: IndexRecall
    build_seconds: float
    latency: LatencySummary
    warnings: list[str]
    users_per_second: float
    threads: int = 1


class StudyParams(ResultModel):
    """What a study was measured at; every study sets those that it varies."""

    ids: int | None = None
    by: str | None = None
    share: float | None = None
    state: str | None = None
    items: int | None = None
    vectors: str | None = None
    rows_per_second: int | None = None
    consistency: str | None = None
    tries: int | None = None


class StudyValues(ResultModel):
    """What a study measured; every study sets those that it has."""

    rss_mib: float | None = None
    disk_mib: float | None = None
    insert_seconds: float | None = None
    index_seconds: float | None = None
    p50: float | None = None
    p99: float | None = None
    failures: int | None = None
    index_recall: float | None = None
    short_lists: int | None = None
    rows_written_per_second: float | None = None
    seconds: float | None = None
    median_seconds: float | None = None
    longest_seconds: float | None = None
    searched_with: str | None = None
    """Search parameters really used, where a study raises them: ``ef 178 to 1,074``."""


class StudyMeasurement(ResultModel):
    """A line of the table of one study."""

    study: str
    params: StudyParams
    values: StudyValues


class ServerInfo(ResultModel):
    """``local``, ``lite`` or a uri, and the version that it answered with."""

    kind: str
    version: str = ""


class Provenance(ResultModel):
    """Where a number comes from: machine, versions, server, data and how it was measured."""

    machine: dict[str, Any]
    versions: dict[str, str]
    data: WorkloadInfo
    seed: int
    measure: MeasureConfig
    sweep: str
    server: ServerInfo
    time: str


class Measured(ResultModel):
    """What results of all kinds have; ``key`` is a digest of all that decides the result."""

    key: str
    provenance: Provenance
    index: Parameters
    """Type and build parameters."""

    @property
    def index_type(self) -> str:
        """FLAT, HNSW …"""
        return str(self.index["type"])


class Head(TypedDict):
    """The fields of :class:`Measured`, for the results of one sweep."""

    key: str
    provenance: Provenance
    index: Parameters


class BuildResult(Measured):
    """An index that was built."""

    kind: Literal["build"] = "build"
    build: BuildMeasurement


class SearchResult(Measured):
    """A search setting that was measured on an index."""

    kind: Literal["point"] = "point"
    search: Parameters
    k: int
    measured: SearchMeasurement


class RepeatResult(Measured):
    """The setting that was measured first, timed again after all others."""

    kind: Literal["repeat"] = "repeat"
    search: Parameters
    k: int
    measured: SearchMeasurement


class LibraryResult(Measured):
    """A search setting that was measured in an engine alone."""

    kind: Literal["floor"] = "floor"
    engine: str
    search: Parameters
    k: int
    measured: LibraryMeasurement


class StudyResult(Measured):
    """A line of a study on one setting of one index."""

    kind: Literal["study"] = "study"
    search: Parameters
    k: int
    measured: StudyMeasurement


class Refusal(Measured):
    """A build, a search or an engine's search that Milvus or the engine refuses."""

    kind: Literal["refused"] = "refused"
    what: Literal["build", "point", "floor"]
    reason: str
    search: Parameters | None = None
    k: int | None = None
    engine: str | None = None


Result = BuildResult | SearchResult | RepeatResult | LibraryResult | StudyResult | Refusal
