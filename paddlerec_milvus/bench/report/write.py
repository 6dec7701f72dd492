# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The files of a report, each written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddlerec_milvus.bench.report.advice import Advice
from paddlerec_milvus.bench.report.document import as_markdown, report_of
from paddlerec_milvus.bench.report.html import as_html
from paddlerec_milvus.bench.report.plots_png import as_png
from paddlerec_milvus.bench.report.results import RELEVANCE, STAGES, Point, View, view_of
from paddlerec_milvus.data.files import replacing

SHOWN = ("mean", "p50", "p95", "p99", "p99_9", "max", "harness_ms")


def write_report(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write report.html, .md, .png, .csv and .json of ``rows`` into ``folder``; returns them.

    Everything is made before anything is written. UserError: no rows, plotly is not installed, a
    folder that cannot be written.
    """
    view = view_of(rows)
    report = report_of(view)
    lines = [line_of(view, point) for point in view.points]
    contents = {
        "report.html": as_html(view, report).encode(),
        "report.md": as_markdown(report).encode(),
        "report.png": as_png(view, report.title),
        "report.csv": _as_csv(lines).encode(),
        "report.json": _as_json(rows, lines, report.advice).encode(),
    }
    files = []
    for name, content in contents.items():
        with replacing(folder / name) as fresh:
            fresh.write_bytes(content)
        files.append(folder / name)
    return files


def line_of(view: View, point: Point) -> dict[str, Any]:
    """All of a point in one flat mapping; times in ms, memory in MiB, shares of 1."""
    row, line = point.row, {"setting": point.name, "type": point.type, "k": point.k}
    line |= {f"build_{key}": value for key, value in row["index"].items() if key != "type"}
    line |= {f"search_{key}": value for key, value in row["search"].items()}
    for part in ("interest", "list"):
        line[f"index_recall_{part}"] = point.index_recall(part)
        line[f"index_recall_{part}_se"] = point.index_recall(part, "se")
    for name in RELEVANCE:
        line[name] = point.relevance(name)
        line |= _loss_of(point, name)
    line |= {f"latency_{name}": point.latency(name) for name in SHOWN}
    line["requests"] = point.latency("requests")
    line["users_per_second"] = point.users_per_second()
    line["best_clients"] = point.best_clients
    line["times_flat"] = view.times_flat(point)
    for number in point.throughput:
        line[f"users_per_second_{number}_clients"] = point.users_per_second(number)
    for each in row.get("batches") or []:
        line[f"users_per_second_batch_{each['users']}"] = each["users_per_second"]
    line |= {f"{stage}_seconds": point.built(f"{stage}_seconds") for stage in STAGES}
    line["build_seconds"] = point.build.seconds if point.build else None
    line |= {name: point.built(name) for name in ("rss_mib", "estimate_mib", "disk_mib")}
    return line | {"short_lists": row.get("short_lists"), "failures": point.failures}


def _loss_of(point: Point, name: str) -> dict[str, float | None]:
    loss = point.loss(name)
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


def _as_json(
    rows: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], advice: Sequence[Advice]
) -> str:
    whole = {
        "advice": [each.as_dict() for each in advice],
        "table": list(lines),
        "rows": list(rows),
    }
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"
