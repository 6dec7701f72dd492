# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The files of a report, each written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddlerec_milvus.bench.report.document import IndexReport, as_markdown, report_of
from paddlerec_milvus.bench.report.html import as_html
from paddlerec_milvus.bench.report.plots_png import as_png
from paddlerec_milvus.bench.report.view import Loss, Point, View, view_of
from paddlerec_milvus.bench.results import (
    RELEVANCE,
    STAGES,
    Result,
)
from paddlerec_milvus.bench.results_file import line_of
from paddlerec_milvus.data.files import replacing


def write_report(rows: Sequence[Result], folder: Path) -> list[Path]:
    """Write report.html, .md, .png, .csv and .json of ``rows`` into ``folder``; returns them.

    Everything is made before anything is written. UserError: no rows, jinja2 is not installed, a
    folder that cannot be written.
    """
    view = view_of(rows)
    report = report_of(view)
    lines = [csv_line(view, point) for point in view.points]
    contents = {
        "report.html": as_html(view, report).encode(),
        "report.md": as_markdown(report).encode(),
        "report.png": as_png(view, report.title),
        "report.csv": _as_csv(lines).encode(),
        "report.json": as_json(rows, lines, report).encode(),
    }
    files = []
    for name, content in contents.items():
        with replacing(folder / name) as fresh:
            fresh.write_bytes(content)
        files.append(folder / name)
    return files


def csv_line(view: View, point: Point) -> dict[str, Any]:
    """All of a point in one flat mapping; times in ms, memory in MiB, shares of 1."""
    row, line = point.result, {"setting": point.name, "type": point.type, "k": point.k}
    quality, latency = point.measured.quality, point.latency
    line |= {f"build_{key}": value for key, value in row.index.items() if key != "type"}
    line |= {f"search_{key}": value for key, value in row.search.items()}
    line["index_recall_interest"] = quality.index_recall.interest.mean
    line["index_recall_interest_se"] = quality.index_recall.interest.se
    line["index_recall_list"] = quality.index_recall.list.mean
    line["index_recall_list_se"] = quality.index_recall.list.se
    for metric in RELEVANCE:
        line[metric] = point.relevance(metric)
        line |= _columns_of(metric, point.loss(metric))
    if (ranked := point.ranked) is not None:
        line |= {"ranked_overlap": ranked.overlap.mean, "ranked_overlap_se": ranked.overlap.se}
        for metric in RELEVANCE:
            line[f"ranked_{metric}"] = ranked.relevance.index.mean(metric)
            line |= _columns_of(f"ranked_{metric}", point.ranked_loss(metric))
    line |= {
        "latency_mean": latency.mean,
        "latency_p50": latency.p50,
        "latency_p95": latency.p95,
        "latency_p99": latency.p99,
        "latency_p99_9": latency.p99_9,
        "latency_max": latency.max,
        "latency_harness_ms": latency.harness_ms,
        "requests": float(latency.requests),
        "users_per_second": point.users_per_second(),
        "best_clients": point.best_clients,
        "times_flat": view.times_flat(point),
    }
    for load in point.throughput.values():
        line[f"users_per_second_{load.clients}_clients"] = load.users_per_second
    for batch in point.measured.batches:
        line[f"users_per_second_batch_{batch.users}"] = batch.users_per_second
    build = point.build.measured if point.build else None
    for stage in STAGES:
        line[f"{stage}_seconds"] = build.stage_seconds(stage) if build else None
    line["build_seconds"] = build.seconds if build else None
    line["rss_mib"] = build.rss_mib if build else None
    line["estimate_mib"] = build.estimate_mib if build else None
    line["disk_mib"] = build.disk_mib if build else None
    return line | {"short_lists": quality.short_lists, "failures": point.failures}


def _columns_of(name: str, loss: Loss | None) -> dict[str, float | None]:
    relative = loss.relative if loss else None
    return {
        f"{name}_lost": loss.mean if loss else None,
        f"{name}_lost_relative": relative.mean if relative else None,
        f"{name}_lost_relative_low": relative.low if relative else None,
        f"{name}_lost_relative_high": relative.high if relative else None,
    }


def _as_csv(lines: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    columns = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def as_json(rows: Sequence[Result], lines: Sequence[Mapping[str, Any]], report: IndexReport) -> str:
    """Advice and the machine's state of ``report``, the table's ``lines``, and all ``rows``."""
    whole = {
        "advice": [line.as_dict() for line in report.advice],
        "machine": report.machine,
        "table": list(lines),
        "rows": [json.loads(line_of(row)) for row in rows],
    }
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"
