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
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.retrieval.base import MISSING_ID, IntArray

RELEVANCE = ("recall", "ndcg", "ndcg_hits", "hitrate")
TITLES = {"most_popular": "MostPopular", "item_knn": "item-kNN"}
PACKAGES = (
    *("paddlerec-milvus", "paddlepaddle", "pymilvus", "milvus-lite", "milvus", "numpy"),
    *("faiss-cpu", "hnswlib", "hdrhistogram"),
)
CPU = Path("/proc/cpuinfo")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
    }


def _processor() -> str:
    """The processor's model as Linux has it, else what Python knows."""
    try:
        lines = CPU.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    parts = (line.partition(":") for line in lines)
    model = next((value.strip() for name, _, value in parts if name.strip() == "model name"), "")
    return model or platform.processor() or platform.machine()


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
    """All that is printed of a report: relevance, then interests and lists, then words on these."""
    return "\n\n".join([relevance_table(report), interest_table(report), in_words(report)])


def relevance_table(report: Mapping[str, Any]) -> str:
    """Relevance of each line, in per cent."""
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


def _shown(value: float | None, form: str = ".1f", scale: float = 100) -> str:
    return "" if value is None else format(scale * value, form)


def _interest_cells(values: Mapping[str, Any]) -> list[str]:
    """How alike the interests are, how many are dead, and their shares; empty for a baseline."""
    use = values.get("interests")
    if use is None:
        return ["", "", ""]
    shares = " / ".join(_shown(share, ".0f") for share in use["share_by_rank"])
    return [
        _shown(use["cosine"]["mean"], ".2f", scale=1),
        f"{use['dead']:.2f} of {use['count']}",
        shares,
    ]


def interest_table(report: Mapping[str, Any]) -> str:
    """What the interests and the lists of each line of the table are like, and the truths."""
    names = ["coverage", "gini", "popularity_rank"]
    names += ["category_diversity"] if "category_diversity" in report["truths"] else []
    rows = {
        title: [*_interest_cells(values), *(_shown(values["lists"][name]) for name in names)]
        for title, values in rows_of(report).items()
    }
    rows["held-out clicks"] = ["", "", "", *(_shown(report["truths"][name]) for name in names)]
    header = ["interests", "cosine", "dead", "share of list, %", *(f"{name}, %" for name in names)]
    lines = [[title, *cells] for title, cells in rows.items()]
    return tabulate(lines, headers=header, stralign="right", disable_numparse=True)


def in_words(report: Mapping[str, Any]) -> str:
    """What to read from ``interest_table``, of the last epoch: a line on each half."""
    use, shown, truths = report["interests"], report["lists"], report["truths"]
    catalogue = report["catalogue"]
    largest, alike = use["share_by_rank"][0], use["cosine"]["mean"]
    first = f"Of {use['count']} interests a user, {use['dead']:.2f} are dead"
    if largest is not None:
        first += f"; the largest brings {100 * largest:.0f} % of the list"
        first += f" (an even share: {100 / use['count']:.0f} %)"
    if alike is not None:
        first += f"; their mean cosine is {alike:.2f} (near 1 they are one)"
    second = f"Lists show {100 * shown['coverage']:.1f} % of the {catalogue['items']:,} items"
    if shown["popularity_rank"] is not None and truths["popularity_rank"] is not None:
        bias = shown["popularity_rank"] < truths["popularity_rank"]
        second += (
            f", {'more' if bias else 'no more'} popular ones than users click: mean popularity "
            f"rank {100 * shown['popularity_rank']:.1f} % against "
            f"{100 * truths['popularity_rank']:.1f} % (0 %: the most popular; by "
            f"{catalogue['popularity_from']})"
        )
    return f"{first}.\n{second}."


def check_place(file: Path, option: str = "--report", suffix: str = ".json") -> None:
    """Make the folder of ``file``; UserError, before any work is done, if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {file}: cannot be written: {error.strerror}") from error
    if file.suffix != suffix or file.is_dir() or not os.access(file.parent, os.W_OK):
        expected = f"expected a FILE{suffix} in a folder that can be written"
        raise UserError(f"{option} {file}: {expected}")


def write_json(report: Mapping[str, Any], file: Path, option: str = "--report") -> None:
    """Write what ``option`` asked for whole or not at all. UserError when the disk is full."""
    with replacing(file, f"{option} {file}") as fresh:
        fresh.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def write_lists(users: IntArray, lists: IntArray, file: Path) -> None:
    """Write ``lists`` [U, N] (short ones end with -1) of ``users`` [U], a JSON object a line."""
    with replacing(file, f"--lists {file}") as fresh, fresh.open("w", encoding="utf-8") as lines:
        for user, items in zip(users.tolist(), lists.tolist(), strict=True):
            found = [item for item in items if item != MISSING_ID]
            lines.write(json.dumps({"user": user, "items": found}) + "\n")
