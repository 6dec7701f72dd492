# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Results made up: numbers that fit one another, none of them measured.

Tests write them flat, as rows; :func:`results` makes of these what a run writes.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from paddlerec_milvus.bench.report import compare, write_report
from paddlerec_milvus.bench.report.view import View, view_of
from paddlerec_milvus.bench.results import Result
from paddlerec_milvus.bench.results_file import RESULT

Row = dict[str, Any]

PROVENANCE: Row = {
    "machine": {"processor": "x86_64", "cores": 2, "memory_gib": 15.6, "python": "3.10.1"},
    "versions": {"paddlerec-milvus": "0.1.0", "pymilvus": "3.0.0", "numpy": "2.0.0"},
    "server": {"kind": "local", "version": "v2.3.5"},
    "data": {
        "name": "goodbooks_mix",
        "fingerprint": "0123456789abcdef",
        "items": 9346,
        "dimension": 128,
        "users": 1344,
        "interests": 4,
        "metric": "IP",
        "norm_skew": 1.0,
    },
    "measure": {
        "requests": 1000,
        "clients": [1, 2, 4, 8],
        "seconds": 2.0,
        "repetitions": 2,
        "rates": [200],
    },
    "seed": 1,
    "sweep": "goodbooks_mix",
    "time": "2026-11-24T21:40:00Z",
}
EXACT = {"recall@50": 0.2, "ndcg@50": 0.1, "ndcg_hits@50": 0.5, "hitrate@50": 0.6}
FLAT = {"type": "FLAT"}
HNSW = {"type": "HNSW", "M": 16, "efConstruction": 200}
IVF = {"type": "IVF_FLAT", "nlist": 256}


QUALITY = ("index_recall", "short_lists", "merge_ms", "ranked")
HEAD = ("kind", "key", "provenance", "index", "search", "k", "engine")


def results(rows: list[Row]) -> list[Result]:
    """Flat rows as typed results."""
    return [RESULT.validate_python(_nested(row)) for row in rows]


def _nested(row: Row) -> Row:
    head = {name: row[name] for name in HEAD if name in row}
    rest = {name: value for name, value in row.items() if name not in HEAD}
    if "refused" in row:
        return head | {"kind": "refused", "what": row["kind"], "reason": row["refused"]}
    if row["kind"] == "build":
        return head | {"build": rest}
    if row["kind"] in ("point", "repeat"):
        quality = {name: rest.pop(name) for name in QUALITY if name in rest}
        quality |= {"ids_digest": rest.pop("found")}
        if "relevance" in rest:
            parts = {"index": "relevance", "exact": "exact", "loss": "loss"}
            quality["relevance"] = {
                part: {metric.split("@")[0]: value for metric, value in rest.pop(name).items()}
                for part, name in parts.items()
            }
        rest["quality"] = quality
    return head | {"measured": rest}


def view(rows: list[Row]) -> View:
    return view_of(results(rows))


def compared(first: list[Row], second: list[Row]) -> str:
    return compare(results(first), results(second))


def report_written(rows: list[Row], folder: Path) -> list[Path]:
    return write_report(results(rows), folder)


def row(kind: str, index: Row, **values: Any) -> Row:
    about = {"kind": kind, "key": "0" * 16, "provenance": copy.deepcopy(PROVENANCE)}
    return about | {"index": dict(index), **values}


def build(index: Row, rss: float | None = 210.0, **changed: Any) -> Row:
    values = {
        "insert_seconds": 1.5,
        "compact_seconds": 0.5,
        "index_seconds": 2.0,
        "load_seconds": 1.0,
        "rows": 9346,
        "segments": [{"rows": 9346, "indexed": index["type"] != "FLAT"}],
        "rss_mib": rss,
        "rss_empty_mib": None if rss is None else 180.0,
        "disk_mib": 9.5,
        "rss_bytes_per_vector": None if rss is None else (rss - 180) * 2**20 / 9346,
        "disk_bytes_per_vector": 1065.8,
        "estimate_mib": 6.3,
        "warnings": [],
    }
    return row("build", index, **values | changed)


def point(
    index: Row,
    search: Row,
    *,
    found: float = 0.99,
    rate: float = 1000.0,
    p99: float = 3.0,
    lost: float | None = 0.0,
    width: float = 0.0,
    k: int = 50,
    **changed: Any,
) -> Row:
    """``lost`` relative to exact search, its interval ``width`` to both sides; None: no truths."""
    values: Row = {
        "search": dict(search),
        "k": k,
        "index_recall": {
            "interest": {"mean": found, "se": 0.0003},
            "list": {"mean": found, "se": 0.0004},
        },
        "short_lists": 0,
        "found": f"{index}{search}",
        "merge_ms": 0.05,
        "latency": latency(p99),
        "throughput": [
            clients(number, rate * share)
            for number, share in ((1, 0.5), (2, 0.9), (4, 1.0), (8, 0.97))
        ],
        "warnings": [],
        "batches": [{"users": 16, "users_per_second": 1.5 * rate, "failures": 0}],
        "open_loop": [],
    }
    if lost is not None:
        values |= relevance(lost, width, k)
    return row("point", index, **values | changed)


def machine_state(
    foreign: float | None = 0.0, pace: float = 2.0, after: float | None = None, **changed: Any
) -> Row:
    """Of two cores, quiet where nothing else is said."""
    paces = {"pace_before_ms": pace, "pace_after_ms": pace if after is None else after}
    about = {"cores": 2, "seconds": 9.0, "foreign": foreign, "steal": 0.0, "busiest": "cc1"}
    return about | paces | changed


def clients(number: int, rate: float, spread: float = 0.01) -> Row:
    runs = [rate * (1 - spread / 2), rate * (1 + spread / 2)]
    return {
        "clients": number,
        "users_per_second": rate,
        "runs": runs,
        "failures": 0,
        "p50": 1000 * number / rate,
        "p99": 2000 * number / rate,
    }


def latency(p99: float) -> Row:
    shares = {"mean": 0.5, "p50": 0.45, "p95": 0.8, "p99": 1.0, "p99_9": 1.6, "max": 3.0}
    times = {name: share * p99 for name, share in shares.items()}
    return {"requests": 1000, "failures": 0, "harness_ms": 0.004, "histogram": "HIST"} | times


def relevance(lost: float, width: float = 0.0, k: int = 50) -> Row:
    exact = {f"{name.split('@')[0]}@{k}": value for name, value in EXACT.items()}
    return {
        "relevance": {name: value * (1 - lost) for name, value in exact.items()},
        "exact": exact,
        "loss": {
            name: {
                "mean": value * lost,
                "low": value * (lost - width),
                "high": value * (lost + width),
                "relative": lost,
            }
            for name, value in exact.items()
        },
    }


def floor(index: Row, search: Row, engine: str = "faiss", p50: float = 0.4) -> Row:
    return row(
        "floor",
        index,
        engine=engine,
        search=dict(search),
        k=50,
        index_recall={"interest": {"mean": 0.99, "se": 0.0}, "list": {"mean": 0.99, "se": 0.0}},
        build_seconds=0.7,
        latency=latency(p50 / 0.45),
        users_per_second=2000.0,
        threads=1,
        warnings=[],
    )


def study(name: str, params: Row, values: Row) -> Row:
    return row("study", HNSW, study=name, search={"ef": 96}, k=50, params=params, values=values)


def studies() -> list[Row]:
    rows = [
        study("exclusion", {"ids": ids, "by": by}, {"p50": 1.5 + ids / 500, "index_recall": 0.98})
        for ids in (0, 100)
        for by in ("over-fetching", "filter")
    ]
    rows += [
        study(
            "scale",
            {"items": items, "vectors": "synthetic"},
            {
                "insert_seconds": items / 2e4,
                "index_seconds": items / 1e4,
                "rss_mib": 180 + items / 1e3,
                "disk_mib": items / 2e3,
                "p50": 1 + items / 1e6,
                "p99": 2 + items / 5e5,
                "index_recall": 0.98,
            },
        )
        for items in (10_000, 100_000, 1_000_000)
    ]
    paper = {"items": 10_000_000, "vectors": "on paper, from the fitted growth"}
    return [*rows, study("scale", paper, {"index_seconds": 1000.0, "p50": 9.0, "p99": 18.0})]


def everything() -> list[Row]:
    """A whole run: 32 points of nine builds, floors, studies, a refusal."""
    flat = point(FLAT, {}, found=1.0, rate=242.0, p99=9.5)
    rows = [build(FLAT, 187.0, index_seconds=0.0), flat, floor(FLAT, {}, p50=3.1)]
    for nlist in (64, 256):
        index = {"type": "IVF_FLAT", "nlist": nlist}
        rows.append(build(index, 190.0))
        for step, nprobe in enumerate((1, 2, 4, 8, 16, 32)):
            missed = 0.4 * 0.5**step * (nlist / 256) ** 0.5
            rate, p99 = 900 / (1 + 0.1 * nprobe * 256 / nlist), 2.5 + 0.05 * nprobe
            search = {"nprobe": nprobe}
            ours = point(
                index, search, found=1 - missed, rate=rate, p99=p99, lost=missed / 4, width=0.002
            )
            rows += [ours, floor(index, search, p50=0.2 + 0.05 * nprobe)]
    for number, links in enumerate((8, 16)):
        index = {"type": "HNSW", "M": links, "efConstruction": 200}
        rows.append(build(index, 195.0 + links, estimate_mib=5 + links / 10))
        for step, ef in enumerate((50, 64, 96, 128, 256)):
            missed = 0.02 * 0.45**step / (1 + number)
            rate = 1400 / (1 + ef / 300) - 60 * number
            ours = point(
                index,
                {"ef": ef},
                found=1 - missed,
                rate=rate,
                p99=2.1 + ef / 150,
                lost=missed / 5,
                width=0.0015,
            )
            loop = latency(2.4 + ef / 100) | {"rate": 200, "clients": 8, "planned": 1000}
            rows += [ours | {"open_loop": [loop]}, floor(index, {"ef": ef}, "hnswlib")]
    for kind in ("IVF_SQ8", "SCANN", "DISKANN"):
        name = "search_list" if kind == "DISKANN" else "nprobe"
        index = {"type": kind, **({} if kind == "DISKANN" else {"nlist": 64})}
        rows.append(build(index, 186.0))
        for step, value in enumerate((50, 100)):
            rows.append(
                point(
                    index,
                    {name: value},
                    found=0.97 + step / 100,
                    rate=500 - 100 * step - 2 * len(kind),
                    lost=0.004 - step / 500,
                    p99=4.0,
                    width=0.001,
                )
            )
    auto = {"type": "AUTOINDEX"}
    bare = "1 segments (9,346 rows) have no index"
    rows += [build(auto, None, warnings=[bare]), point(auto, {}, found=0.985, rate=700, lost=0.002)]
    rows.append(row("build", {"type": "HNSW_SQ", "M": 16}, refused="HNSW_SQ: v2.3.5 lacks it"))
    return rows + studies()
