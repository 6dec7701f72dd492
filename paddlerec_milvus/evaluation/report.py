# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Numbers that leave the program: JSON with all that made them, a table, a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from tabulate import tabulate

from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.data.id_map import IdMap, read_item_ids, read_user_ids
from paddlerec_milvus.data.prepared import folder_above
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.evaluation.results import (
    EpochResult,
    EvaluationReport,
    HeldOutSummary,
    MethodResult,
)
from paddlerec_milvus.retrieval.base import MISSING_ID, IntArray
from paddlerec_milvus.settings import Settings

TITLES = {"most_popular": "MostPopular", "item_knn": "item-kNN", "transitions": "transitions"}
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
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def provenance(settings: Settings) -> dict[str, Any]:
    """What every report says of where its numbers came from: settings, versions, machine."""
    return {
        "settings": json.loads(settings.model_dump_json()),  # a token stays masked
        "versions": versions(),
        "machine": machine(),
    }


def make_report(
    settings: Settings,
    top_n: int,
    epochs: Mapping[str, EpochResult],
    baselines: Mapping[str, MethodResult],
    held_out: HeldOutSummary,
    *,
    exact: bool,
) -> EvaluationReport:
    """Epochs and baselines, with the settings, the packages and the machine they came from."""
    return EvaluationReport(
        format=1,
        epoch=int(list(epochs)[-1]),
        top_n=top_n,
        retriever="exact" if exact else settings.milvus.uri,
        held_out=held_out,
        epochs=dict(epochs),
        baselines=dict(baselines),
        **provenance(settings),
    )


def rows_of(report: EvaluationReport) -> dict[str, MethodResult]:
    """Each line of the table: the model's epochs, then the baselines."""
    model = Path(report.settings["file"]).parent.name.upper()
    rows = {f"{model}, epoch {epoch}": values for epoch, values in report.epochs.items()}
    return {**rows, **{TITLES[name]: values for name, values in report.baselines.items()}}


def table(report: EvaluationReport) -> str:
    """All that is printed of a report: whom it is of, relevance, interests and lists, and words."""
    parts = [report.held_out.words(), relevance_table(report), interest_table(report)]
    return "\n\n".join([*parts, in_words(report)])


def relevance_table(report: EvaluationReport) -> str:
    """Relevance of each line, in per cent."""
    last = report.last
    approximate = [f"index_recall@{report.top_n}"] if last.index is not None else []
    header = ["per cent", *last.relevance.flat(), *approximate, "users"]
    lines = []
    for title, result in rows_of(report).items():
        line = [title, *(f"{100 * value:.3f}" for value in result.relevance.flat().values())]
        if approximate:
            index = result.index if isinstance(result, EpochResult) else None
            line.append("" if index is None else f"{100 * index.index_recall:.3f}")
        lines.append([*line, result.users])
    return tabulate(lines, headers=header, stralign="right", disable_numparse=True)


def _shown(value: float | None, form: str = ".1f", scale: float = 100) -> str:
    return "" if value is None else format(scale * value, form)


def _interest_cells(result: MethodResult) -> list[str]:
    """How alike the interests are, how many are dead, and their shares; empty for a baseline."""
    if not isinstance(result, EpochResult):
        return ["", "", ""]
    use = result.interests
    shares = " / ".join(_shown(share, ".0f") for share in use.share_by_rank)
    return [_shown(use.cosine.mean, ".2f", scale=1), f"{use.dead:.2f} of {use.count}", shares]


def interest_table(report: EvaluationReport) -> str:
    """What the interests and the lists of each line of the table are like, and the truths."""
    truths = report.last.truths.model_dump()
    rows = {
        title: _interest_cells(result) + [_shown(v) for v in result.lists.model_dump().values()]
        for title, result in rows_of(report).items()
    }
    rows["held-out clicks"] = ["", "", "", *(_shown(value) for value in truths.values())]
    header = ["interests", "cosine", "dead", "share of list, %", *(f"{name}, %" for name in truths)]
    lines = [[title, *cells] for title, cells in rows.items()]
    return tabulate(lines, headers=header, stralign="right", disable_numparse=True)


def in_words(report: EvaluationReport) -> str:
    """What to read from ``interest_table``, of the last epoch: a line on each half."""
    last = report.last
    use, lists, truths = last.interests, last.lists, last.truths
    largest, alike = use.share_by_rank[0], use.cosine.mean
    first = f"Of {use.count} interests a user, {use.dead:.2f} are dead"
    if largest is not None:
        first += f"; the largest brings {100 * largest:.0f} % of the list"
        first += f" (an even share: {100 / use.count:.0f} %)"
    if alike is not None:
        first += f"; their mean cosine is {alike:.2f} (near 1 they are one)"
    second = f"Lists show {_shown(lists.coverage)} % of the {last.catalogue.items:,} items"
    if lists.popularity_rank is not None and truths.popularity_rank is not None:
        bias = lists.popularity_rank < truths.popularity_rank
        second += (
            f", {'more' if bias else 'no more'} popular ones than users click: mean popularity "
            f"rank {_shown(lists.popularity_rank)} % against {_shown(truths.popularity_rank)} % "
            f"(0 %: the most popular; by {last.catalogue.popularity_from})"
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


class OwnIds(NamedTuple):
    """What the log calls users and items; lists leave the program by these."""

    users: IdMap
    items: IdMap

    @classmethod
    def beside(cls, test_data: Path) -> OwnIds:
        """Those of the prepared folder around ``test_data``; elsewhere the numbers themselves."""
        folder = folder_above(test_data)
        return cls(read_user_ids(folder), read_item_ids(folder))


def write_lists(users: IntArray, lists: IntArray, file: Path, ids: OwnIds) -> None:
    """Write ``lists`` [U, N] (short ones end with -1) of ``users`` [U], a JSON object a line."""
    names = ids.users.own_ids(users.tolist())
    with replacing(file, f"--lists {file}") as fresh, fresh.open("w", encoding="utf-8") as lines:
        for user, items in zip(names, lists.tolist(), strict=True):
            real = ids.items.own_ids(item for item in items if item != MISSING_ID)
            lines.write(json.dumps({"user": user, "items": real}) + "\n")
