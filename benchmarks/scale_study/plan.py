# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Machines for catalogues beyond what was measured; every figure says where it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from tabulate import tabulate

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.indexes import setting_name
from paddlerec_milvus.retrieval.memory_estimate import ROW_BYTES
from scale_study.fit import ScaleFit, ScalePoint, fits_of, values_of
from scale_study.rows import ScaleCase, ScaleRow, usual_build
from scale_study.settings import PlanSettings

SIZES = (10_000_000, 100_000_000, 1_000_000_000)
DIMENSIONS = (64, 128)
LEAST_ITEMS = 1_000_000  # of the largest catalogue that a plan may rest on
GIB = 2**30
ROW_NOTES = {
    "en": (
        f"Of DISKANN's memory {ROW_BYTES} bytes a row (id, timestamp, what a load leaves behind) "
        "are ours, measured for other indexes; the rest is quoted."
    ),
    "zh": (
        f"DISKANN 的内存中，每行 {ROW_BYTES} 字节（id、时间戳、加载留下的）是我们的数字，"
        "在其他索引上测得；其余为引用。"
    ),
}
"""By language: what of a line marked q is not quoted."""
Origin = Literal["measured", "fitted", "quoted"]


class PlanFigure(NamedTuple):
    """A number and where it comes from."""

    value: float
    origin: Origin

    def shown(self, digits: int = 1) -> str:
        """``5.2 m``: the number and the first letter of its origin."""
        return f"{self.value:,.{digits}f} {self.origin[0]}"


@dataclass(frozen=True)
class PlanLine:
    """An index for a size: what it takes, and whether it is the one to take."""

    items: int
    dimension: int
    index: str
    memory_gib: PlanFigure
    disk_gib: PlanFigure
    nodes: int
    usd: float
    """A month."""
    p50_ms: PlanFigure | None = None
    build_hours: PlanFigure | None = None
    reaches_target: bool = True
    chosen: bool = False


def plan_of(rows: Sequence[ScaleRow], settings: PlanSettings) -> list[PlanLine]:
    """Every type that was measured at enough sizes, and DISKANN by Milvus' documents.

    Of each size the cheapest that reaches the target within ``p50_ms`` is chosen. SettingsError: no
    type was measured so.
    """
    fits = {
        name: fit
        for name, fit in fits_of(rows).items()
        if name != "FLAT" and max(row.case.items for row in fit.rows) >= LEAST_ITEMS
    }
    if not fits:
        raise SettingsError(
            f"--plan needs an index type measured at two sizes, one of at least {LEAST_ITEMS:,} "
            "items: smaller ones say nothing of ten million; see --help"
        )
    lines = []
    for dimension in DIMENSIONS:
        for items in SIZES:
            lines += _chosen([*_of_size(items, dimension, fits, settings)], settings)
    return lines


def _chosen(lines: Sequence[PlanLine], settings: PlanSettings) -> list[PlanLine]:
    fit = [
        line
        for line in lines
        if line.reaches_target and line.p50_ms and line.p50_ms.value <= settings.p50_ms
    ]
    best = min(fit, key=lambda line: line.usd, default=None)
    return [replace(line, chosen=line is best) for line in lines]


def _of_size(
    items: int, dimension: int, fits: Mapping[str, ScaleFit], settings: PlanSettings
) -> Iterator[PlanLine]:
    for fit in fits.values():
        yield _by_fit(items, dimension, fit, settings)
    raw = 4.0 * items * dimension / GIB
    links = 4.0 * items * settings.max_degree / GIB
    own = ROW_BYTES * items / GIB  # ours, measured for other indexes; the shares are quoted
    memory = raw * (settings.pq_code_share + settings.search_cache_share) + own
    yield PlanLine(
        *(items, dimension, "DISKANN"),
        PlanFigure(memory, "quoted"),
        PlanFigure(2 * raw + links, "quoted"),  # the index holds the vectors once more
        *_cost(memory, 2 * raw + links, settings),
    )


def _cost(memory: float, disk: float, settings: PlanSettings) -> tuple[int, float]:
    """Query nodes, and dollars a month."""
    nodes = math.ceil(memory / settings.usable_gib) * settings.replicas
    paid = nodes * settings.node_memory_gib * settings.memory_usd
    return nodes, paid + disk * settings.disk_usd  # object storage; replicas read the same


def _by_fit(items: int, dimension: int, fit: ScaleFit, settings: PlanSettings) -> PlanLine:
    largest = max(fit.rows, key=lambda row: (row.case.dimension == dimension, row.case.items))
    case = sized(largest.case, items, dimension)
    row = next((one for one in fit.rows if one.case.key == case.key), None)

    def figure(name: str, scale: float, point: ScalePoint, *, whole: bool = True) -> PlanFigure:
        measured = values_of(row)[name] if row is not None and whole else None
        if measured is not None:
            return PlanFigure(measured / scale, "measured")
        return PlanFigure(fit.value(name, point) / scale, "fitted")

    point = fit.point(case)
    memory, disk = figure("memory, MiB", 1024, point), figure("disk, MiB", 1024, point)
    nodes, usd = _cost(memory.value, disk.value, settings)
    whole = nodes == settings.replicas  # a node holds all of it
    part = fit.point(sized(case, math.ceil(items * settings.replicas / nodes), dimension))
    search = {key: round(part.search) for key in case.built.search_params(1)}
    return PlanLine(
        *(items, dimension, setting_name(case.index, search), memory, disk, nodes, usd),
        p50_ms=figure("p50, ms", 1, part, whole=whole),
        build_hours=figure("build, s", 3600, part, whole=whole),
        reaches_target=largest.tuned.met,
    )


def sized(case: ScaleCase, items: int, dimension: int) -> ScaleCase:
    """The same at another size: cells grow with the rows, codes of IVF_PQ with the dimension."""
    usual = usual_build(case.type, items, dimension)
    index = dict(case.index)
    index.update({key: usual[key] for key in ("nlist", "m") if key in usual})
    return case.model_copy(update={"items": items, "dimension": dimension, "index": index})


def plan_table(lines: Sequence[PlanLine], style: str = "simple", heads: Sequence[str] = ()) -> str:
    """A line for each index of each size; m: measured, f: fitted, q: quoted."""
    cells = [
        (
            f"{line.items / 1e6:,.0f} M x {line.dimension}",
            line.index,
            *(figure.shown(0) for figure in (line.memory_gib, line.disk_gib)),
            f"{line.nodes:,}",
            f"{line.usd:,.0f}",
            line.p50_ms.shown() if line.p50_ms else "",
            line.build_hours.shown() if line.build_hours else "",
            "yes" if line.chosen else "" if line.reaches_target else "recall below the target",
        )
        for line in lines
    ]
    english = ["items", "index", "memory, GiB", "disk, GiB", "nodes", "USD a month"]
    english += ["p50, ms", "build, h", "take it"]
    return tabulate(cells, heads or english, tablefmt=style, disable_numparse=True)
