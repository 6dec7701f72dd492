# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What benchmarks/scale.py measures, typed, and the file that holds it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from paddlerec_milvus.bench.load_results import ResultModel
from paddlerec_milvus.bench.results import BuildMeasurement, Parameters, SearchMeasurement
from paddlerec_milvus.bench.results_file import ResultsError, key_of
from paddlerec_milvus.bench.sweep_config import MeasureConfig
from paddlerec_milvus.evaluation.report import write_json
from paddlerec_milvus.retrieval.indexes import Index, build_keys, index_from_settings, most_cells
from paddlerec_milvus.retrieval.memory_estimate import MIB, estimate_mib

MOST_CELLS = 4_096  # a segment has so many of its own; more cost more to make than they save
MEASURE = MeasureConfig(
    requests=1_000, warm_up=100, clients=[4, 16], seconds=5.0, repetitions=2, batches=[]
)


def usual_build(type_name: str, items: int, dimension: int) -> dict[str, int]:
    """The build parameters that are usual for a catalogue of that size."""
    nlist = min(int(4 * math.sqrt(items)), most_cells(items), MOST_CELLS)
    usual = {"nlist": nlist, "m": dimension // 2, "nbits": 8, "M": 16, "efConstruction": 200}
    return {key: usual[key] for key in build_keys(type_name) if key in usual}


class ScaleCase(ResultModel):
    """One catalogue and index: all that decides what is measured."""

    items: int
    dimension: int
    index: Parameters
    """Type and build parameters, by Milvus' names."""
    target: float = 0.95
    """index_recall@k of the merged list that the search parameters have to reach."""
    k: int = 50
    users: int = 500
    interests: int = 4
    clusters: int = 200
    spread: float = 0.7
    seed: int = 1
    measure: MeasureConfig = MEASURE

    @property
    def key(self) -> str:
        """Stands for all of it: a case of the same key is not measured twice."""
        return key_of(self.model_dump())

    @property
    def unusual(self) -> tuple[str, ...]:
        """What differs from the usual case of this type, size and dimension: build, target …"""
        build = usual_build(self.type, self.items, self.dimension)
        usual = ScaleCase(
            items=self.items, dimension=self.dimension, index={"type": self.type, **build}
        )
        fields = ScaleCase.model_fields
        differ = [field for field in fields if getattr(self, field) != getattr(usual, field)]
        return tuple("build" if field == "index" else field for field in differ)

    @property
    def type(self) -> str:
        """The index type, HNSW …"""
        return str(self.index["type"])

    @property
    def built(self) -> Index:
        """The index, with the search parameters that its type has by default."""
        params = {key: value for key, value in self.index.items() if key != "type"}
        if "nlist" in params:
            params["nprobe"] = 1
        return index_from_settings(self.type, params, others=False)

    @property
    def raw_mib(self) -> float:
        """The vectors alone, as float32."""
        return 4.0 * self.items * self.dimension / MIB

    @property
    def formula_mib(self) -> float:
        """What the memory formula says of the index."""
        return estimate_mib(self.built, self.items, self.dimension)


class TunedSearch(ResultModel):
    """The search parameters that were chosen on some of the users, and why."""

    params: Parameters
    """By Milvus' names; none for FLAT."""
    users: int
    index_recall: float
    """Of those users."""
    met: bool
    """Whether the target was met; where not, the setting is the least that is within 1 % of the
    best that was tried."""
    tried: dict[int, float] = Field(default_factory=dict)
    """index_recall by the value of ef or nprobe."""


class ScaleRow(ResultModel):
    """A catalogue in an index of Milvus, measured."""

    key: str
    case: ScaleCase
    build: BuildMeasurement
    peak_rss_mib: float | None = None
    """The most that the server's processes held while they built."""
    tuned: TunedSearch
    measured: SearchMeasurement
    relevance: Literal["planted clicks", "not measured: index_recall only"]
    exact_seconds: float
    seconds: float
    """Of the whole row."""
    load_before: float
    """The machine's load average when the row began."""
    machine: dict[str, Any]
    versions: dict[str, str]
    time: str

    @property
    def segments(self) -> int:
        """How many segments a search goes through."""
        return max(1, len(self.build.segments))

    def throughput(self, clients: int) -> float:
        """Users a second of so many clients; NaN where that was not measured."""
        rates = {line.clients: line.users_per_second for line in self.measured.throughput}
        return rates.get(clients, float("nan"))


class ScaleResults(ResultModel):
    """All rows of the file, in the order of type, dimension and size."""

    format: Literal[1] = 1
    rows: list[ScaleRow] = Field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> ScaleResults:
        """The rows of ``file``, none where it does not exist; ResultsError: not such a file."""
        if not file.exists():
            return cls()
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            lines = str(error).splitlines()
            raise ResultsError(f"{file}: is no file of benchmarks/scale.py: {lines[-1]}") from error

    def __contains__(self, key: str) -> bool:
        return any(row.key == key for row in self.rows)

    def with_row(self, row: ScaleRow) -> ScaleResults:
        """The same, and ``row`` in place of one of its key."""
        rows = [*(other for other in self.rows if other.key != row.key), row]
        rows.sort(key=lambda one: (one.case.type, one.case.dimension, one.case.items, one.key))
        return ScaleResults(rows=rows)

    def write(self, file: Path) -> None:
        """Write all rows, or leave the file as it is."""
        write_json(self.model_dump(mode="json", exclude_none=True), file, "--out")


def usual_rows(rows: Sequence[ScaleRow]) -> list[ScaleRow]:
    """Those of the usual case: they differ in type, size and dimension alone."""
    return [row for row in rows if not row.case.unusual]


def exclusion_note(rows: Sequence[ScaleRow]) -> str:
    """How many rows are not of the usual case, and what differs; empty where all are."""
    reasons = Counter(" and ".join(row.case.unusual) for row in rows if row.case.unusual)
    if not reasons:
        return ""
    counts = ", ".join(f"other {reason}: {count}" for reason, count in sorted(reasons.items()))
    return (
        f"left out of fit, plan and page: {reasons.total()} of {len(rows)} rows, "
        f"which are not of the usual case ({counts})"
    )
