# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Numbers that leave the program: JSON with all that made them, a table, a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from tabulate import tabulate

from paddlerec_milvus.config import Settings
from paddlerec_milvus.errors import UserError

RELEVANCE = ("recall", "ndcg", "ndcg_hits", "hitrate")
TITLES = {"most_popular": "MostPopular", "item_knn": "item-kNN"}
PACKAGES = ("paddlerec-milvus", "paddlepaddle", "pymilvus", "milvus-lite", "milvus", "numpy")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that the numbers depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def make_report(
    settings: Settings,
    top_n: int,
    epochs: Mapping[str, Mapping[str, Any]],
    baselines: Mapping[str, Mapping[str, Any]],
    *,
    exact: bool,
) -> dict[str, Any]:
    """The whole report; the last epoch's numbers stand at the top level."""
    last = list(epochs)[-1]
    return {
        **epochs[last],
        "epoch": int(last),
        "top_n": top_n,
        "retriever": "exact" if exact else settings.milvus.uri,
        "epochs": dict(epochs),
        "baselines": dict(baselines),
        "settings": json.loads(settings.model_dump_json()),  # a token stays masked
        "versions": versions(),
        "machine": machine(),
    }


def rows_of(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Each line of the table: the model's epochs, then the baselines."""
    model = Path(report["settings"]["file"]).parent.name.upper()
    rows = {f"{model}, epoch {epoch}": values for epoch, values in report["epochs"].items()}
    return rows | {TITLES[name]: values for name, values in report["baselines"].items()}


def table(report: Mapping[str, Any]) -> str:
    """The report as a table, in per cent."""
    top_n = report["top_n"]
    names = [f"{name}@{top_n}" for name in RELEVANCE]
    shown = f"index_recall@{top_n}" in report
    header = ["per cent", *names, *([f"index_recall@{top_n}"] if shown else []), "users"]
    lines = []
    for title, values in rows_of(report).items():
        line = [title, *(f"{100 * values[name]:.3f}" for name in names)]
        if shown:
            exactness = values.get(f"index_recall@{top_n}")
            line.append("" if exactness is None else f"{100 * exactness:.3f}")
        lines.append([*line, values["users"]])
    return tabulate(lines, headers=header, stralign="right", disable_numparse=True)


def check_place(file: Path) -> None:
    """Make the report's folder; UserError, before any work is done, when it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--report {file}: cannot be written: {error.strerror}") from error
    if file.suffix != ".json" or file.is_dir() or not os.access(file.parent, os.W_OK):
        raise UserError(f"--report {file}: expected a FILE.json in a folder that can be written")


def write_json(report: Mapping[str, Any], file: Path) -> None:
    """Write the report whole or not at all. UserError when the disk is full."""
    fresh = file.with_name(f".{file.name}.new")
    try:
        fresh.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        fresh.replace(file)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise UserError(f"--report {file}: cannot be written: {error.strerror}") from error


def draw(report: Mapping[str, Any], file: Path) -> None:
    """A picture of recall, NDCG and HitRate of each line of the table, readable in grey."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    top_n = report["top_n"]
    rows = rows_of(report)
    names = [f"{name}@{top_n}" for name in ("recall", "ndcg", "hitrate")]
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.2 * len(names), 3.4), layout="constrained"
    )
    for axis, name in zip(axes, names, strict=True):
        heights = [100 * values[name] for values in rows.values()]
        greys = [
            str(shade)
            for shade in (0.25 + 0.6 * i / max(len(rows) - 1, 1) for i in range(len(rows)))
        ]
        bars = axis.bar(range(len(rows)), heights, color=greys, edgecolor="black")
        axis.bar_label(bars, fmt="%.1f", padding=2)
        axis.set_title(f"{name}, %")
        axis.set_xticks(range(len(rows)), list(rows), rotation=25, ha="right")
        axis.margins(y=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{report['users']:,} test users, clicks held out")
    figure.savefig(file, dpi=150)
    plt.close(figure)
