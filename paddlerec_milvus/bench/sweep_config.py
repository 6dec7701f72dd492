# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A sweep as data: a yaml → checked, frozen settings → the builds and searches that it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from paddlerec_milvus.bench.workload import Workload, synthetic_workload, trained_workload
from paddlerec_milvus.bundle import base_of, roots
from paddlerec_milvus.config import read_mapping
from paddlerec_milvus.errors import SettingsError, nearest, redacted
from paddlerec_milvus.retrieval.base import LARGEST_K
from paddlerec_milvus.retrieval.indexes import Index, index_from_settings, search_keys
from paddlerec_milvus.settings import Count, Natural, Section

Scalar = int | str
Values = Scalar | list[Scalar]
Share = Annotated[float, Field(gt=0, le=1, strict=False)]


class CheckpointData(Section):
    """A trained checkpoint and its test users; paths are relative to the yaml's folder."""

    name: str
    model: str = "mind/config.yaml"  # as -m of tools/infer.py takes it
    folder: str | None = None  # of prepared data, as --data
    options: list[str] = Field(default_factory=list)  # as -o
    epoch: Natural | Literal["best"] = "best"
    users: Natural = 0  # test users that search, drawn with the seed; 0: all


class SyntheticData(Section):
    """Vectors around centres; nobody clicks, so there is no relevance."""

    items: Count
    dimension: Count = 64
    users: Count = 1_000
    interests: Count = 4
    clusters: Count = 200
    spread: Annotated[float, Field(ge=0, strict=False)] = 0.7  # noise beside a centre's length 1
    norm_skew: Annotated[float, Field(ge=0, strict=False)] = 0.0  # sigma of log-normal lengths
    metric: Literal["IP", "COSINE", "L2"] = "IP"


class DataSection(Section):
    """What is searched: a checkpoint, or synthetic vectors."""

    checkpoint: CheckpointData | None = None
    synthetic: SyntheticData | None = None

    @model_validator(mode="after")
    def _one(self) -> DataSection:
        if (self.checkpoint is None) == (self.synthetic is None):
            raise ValueError("give one of 'checkpoint' and 'synthetic'")
        return self


class IndexGrid(Section):
    """An index type; lists are tried in every combination, in Milvus' own words."""

    type: str
    build: dict[str, Values] = Field(default_factory=dict)
    search: dict[str, Values] = Field(default_factory=dict)
    floor: bool = True  # measure the engine alone at the same parameters, too


class MeasureConfig(Section):
    """How long and how often a search setting is measured."""

    requests: Annotated[int, Field(ge=1)] = 1_000  # of one client, for the latencies
    warm_up: Natural = 100  # requests before
    clients: list[Count] = Field(default=[1, 2, 4, 8, 16])  # processes
    seconds: Annotated[float, Field(gt=0, strict=False)] = 3.0  # of each throughput run
    repetitions: Count = 2  # of these
    batches: list[Count] = Field(default=[16, 128])  # users in one call
    # of the open loop: users a second over the most clients
    rates: list[Count] = Field(default_factory=list)


class StudyConfig(Section):
    """More than static search, on one setting of one index. An empty list: not measured."""

    index: dict[str, Scalar] = Field(
        default={"type": "HNSW", "M": 16, "efConstruction": 200, "ef": 128}
    )
    # items that a list may not hold, a user
    exclude_ids: list[Natural] = Field(default_factory=list)
    # of the items that pass a filter by category
    filter_shares: list[Share] = Field(default_factory=list)
    # rows a second, while users search
    upsert_rates: list[Count] = Field(default_factory=list)
    # of the catalogue, upserted with new vectors
    replaced_shares: list[Share] = Field(default_factory=list)
    # inserts whose way to a search is timed, a consistency level
    freshness_tries: Natural = 0
    # sizes of a synthetic catalogue of the same dimension
    scale_items: list[Count] = Field(default_factory=list)


class SweepConfig(Section):
    """A sweep of the index benchmark, as its yaml has it."""

    name: str
    data: DataSection
    server: str = "local"  # local: a server of its own; lite: Milvus Lite; or a uri
    k: Annotated[int, Field(ge=1, le=LARGEST_K)] = 50
    seed: Natural = 1
    rank: bool = False  # also the ten best after the ranker beside the checkpoint
    indexes: Annotated[list[IndexGrid], Field(min_length=1)]
    measure: MeasureConfig = MeasureConfig()
    floor: list[Literal["faiss", "hnswlib"]] = Field(default_factory=list)
    studies: StudyConfig = StudyConfig()

    @model_validator(mode="after")
    def _ranks_clicks(self) -> SweepConfig:
        if self.rank and self.data.checkpoint is None:
            raise ValueError(
                "rank: synthetic vectors have no ranker; leave it out, or search a checkpoint"
            )
        return self


@dataclass(frozen=True)
class BuildPlan:
    """An index to build, and the searches to measure on it."""

    index: Index
    searches: tuple[Index, ...]
    """The same index with each combination of search parameters."""
    floor: bool


def find_sweep(name: str) -> Path:
    """The yaml of ``-s``: a path, or a name in ``benchmarks/sweeps/``; SettingsError: neither."""
    folders = [root / "benchmarks" / "sweeps" for root in roots()]
    for file in (Path(name), *(folder / name for folder in folders)):
        if file.is_file():
            return file
    known = sorted({file.name for folder in folders for file in folder.glob("*.yaml")})
    raise SettingsError(
        f"-s {name}: no such file, and none of that name in {' or '.join(map(str, folders))}"
        f"{nearest(name, known)}; there are: {', '.join(known)}"
    )


def read_sweep(file: Path, *, rates: Sequence[int] | None = None, **changed: Any) -> SweepConfig:
    """The sweep of a yaml; ``changed`` top-level keys win, and ``rates`` over ``measure.rates``.

    SettingsError names file and key. A password or a token is refused, as a run's folder holds a
    copy of the yaml and names the server.
    """
    content = read_mapping(file, "keys such as 'data:'")
    if redacted(words := f"{content} {changed}") != words:
        raise SettingsError(
            f"{file}: a sweep holds no password and no token, as its run keeps a copy: give them "
            "by MILVUS_TOKEN (user:password, or an API key)"
        )
    measure = content.get("measure", {})
    if rates is not None and isinstance(measure, dict):
        content = {**content, "measure": {**measure, "rates": list(rates)}}
    try:
        sweep = SweepConfig(**{"name": file.stem, **content, **changed})
    except (ValidationError, TypeError) as error:
        raise SettingsError(f"{file}: {_explained(error)}") from error
    return _with_places(sweep, base_of(file))


def _explained(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            hint = nearest(str(problem["loc"][-1]), _fields(problem["loc"][:-1]))
            lines.append(f"unknown key '{place}'{hint or ': nothing reads it'}")
        else:
            text = problem["msg"].removeprefix("Value error, ")
            value = problem["input"]
            shown = "" if isinstance(value, dict) else f" (given {value!r:.40})"
            lines.append(f"{place}: {text[0].lower()}{text[1:]}{shown}")
    return "; ".join(lines)


def _fields(place: tuple[int | str, ...]) -> list[str]:
    """The known keys at a place of the yaml."""
    sections: dict[str, type[BaseModel]] = {
        "data": DataSection,
        "checkpoint": CheckpointData,
        "synthetic": SyntheticData,
        "indexes": IndexGrid,
        "measure": MeasureConfig,
        "studies": StudyConfig,
    }
    names = [part for part in place if isinstance(part, str)]
    return list((sections[names[-1]] if names else SweepConfig).model_fields)


def _with_places(sweep: SweepConfig, folder: Path) -> SweepConfig:
    """Paths as seen from the yaml's folder."""
    checkpoint = sweep.data.checkpoint
    if checkpoint is None or checkpoint.folder is None:
        return sweep
    placed = checkpoint.model_copy(update={"folder": str((folder / checkpoint.folder).resolve())})
    return sweep.model_copy(update={"data": DataSection(checkpoint=placed)})


def load_workload(sweep: SweepConfig) -> Workload:
    """The vectors that the sweep names."""
    if sweep.data.synthetic is not None:
        return synthetic_workload(**sweep.data.synthetic.model_dump(), seed=sweep.seed)
    data = sweep.data.checkpoint
    assert data is not None
    folder = Path(data.folder) if data.folder else None
    return trained_workload(
        *(data.name, data.model, folder, data.options, data.epoch, data.users, sweep.seed),
        rank=sweep.rank,
    )


def builds_of(sweep: SweepConfig) -> list[BuildPlan]:
    """Every build with its searches. SettingsError: unknown type or key, a value out of bounds."""
    return [
        build for number, grid in enumerate(sweep.indexes) for build in _builds(sweep, number, grid)
    ]


def _builds(sweep: SweepConfig, number: int, grid: IndexGrid) -> list[BuildPlan]:
    try:
        _check_sections(grid)
        builds = []
        for built in _combinations(grid.build):
            searches = [
                index_from_settings(grid.type, {**built, **search}, others=False)
                for search in _combinations(grid.search)
            ]
            builds.append(BuildPlan(searches[0], tuple(searches), grid.floor))
        check_reaches(builds[0].index, grid.search, sweep.k)
    except SettingsError as error:
        raise SettingsError(f"indexes.{number} ({grid.type}): {error}") from error
    return builds


def _check_sections(grid: IndexGrid) -> None:
    """SettingsError: a parameter of a search among those of the build, or the other way round."""
    searched = search_keys(grid.type)
    for key, values in {**grid.build, **grid.search}.items():
        if values == []:
            raise SettingsError(f"{key}: an empty list; give one value or more")
    misplaced = {
        "build": sorted(set(grid.build) & set(searched)),
        "search": sorted(set(grid.search) - set(searched)),
    }
    for section, keys in misplaced.items():
        if keys:
            hint = nearest(keys[0], searched) if section == "search" else ""
            raise SettingsError(
                f"{', '.join(keys)} cannot stand in '{section}'{hint}; "
                f"a search of {grid.type} takes: {', '.join(sorted(searched)) or 'nothing'}"
            )


def check_reaches(index: Index, search: Mapping[str, Values], k: int) -> None:
    """SettingsError: a value of ``search``, numbers by their key, that Milvus wants to reach k."""
    key = index.reaching_k
    low = [value for value in _listed(search.get(key, [])) if int(value) < k]
    if low:
        raise SettingsError(f"{key} {low[0]} is below k {k}, and Milvus refuses that")


def _listed(values: Values) -> list[Scalar]:
    return values if isinstance(values, list) else [values]


def _combinations(grid: Mapping[str, Values]) -> list[dict[str, Scalar]]:
    lists = [_listed(values) for values in grid.values()]
    return [dict(zip(grid, values, strict=True)) for values in product(*lists)]


def check_fits(sweep: SweepConfig, workload: Workload) -> None:
    """SettingsError: more neighbours or cells than there are items."""
    items = len(workload.ids)
    if sweep.k > items:
        raise SettingsError(f"k: {sweep.k} neighbours of {items:,} items cannot be found; lower k")
    for build in builds_of(sweep):
        cells = int(build.index.build_params().get("nlist", 0))
        if cells > items:
            raise SettingsError(
                f"indexes: {build.index.type_name} with nlist {cells:,} on {items:,} items: there "
                "cannot be more cells than items; lower nlist"
            )
