# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The tables of docs/results/scale.md and .zh.md, made of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tabulate import tabulate

from paddlerec_milvus.bench.results import RelevanceComparison
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.indexes import setting_name
from scale_study.checks import checks_of, checks_table
from scale_study.plan import plan_of, plan_table
from scale_study.rows import ScaleRow
from scale_study.settings import PlanSettings

PAGES = {"scale.md": "en", "scale.zh.md": "zh"}
NONE_YET = {"en": "(not measured yet)", "zh": "（尚未测量）"}
HEADS = {
    "en": (
        *("items", "index", "insert, s", "build, s", "memory, MiB", "disk, MiB"),
        *("index_recall@50", "recall@50 lost, %", "p50, ms", "p99, ms"),
        *("users/s, 4 clients", "16 clients"),
    ),
    "zh": (
        *("物品", "索引", "写入，秒", "构建，秒", "内存，MiB", "磁盘，MiB"),
        *("index_recall@50", "recall@50 损失，%", "p50，毫秒", "p99，毫秒"),
        *("用户/秒，4 个客户端", "16 个客户端"),
    ),
}


def rows_table(rows: Sequence[ScaleRow], language: str) -> str:
    """A line for each row."""
    lines = []
    for row in rows:
        quality, at = row.measured.quality, row.measured.latency
        lines.append(
            (
                f"{row.case.items:,} x {row.case.dimension}",
                setting_name(row.case.index, row.tuned.params),
                f"{row.build.insert_seconds:,.1f}",
                f"{row.build.index_seconds:,.1f}",
                *(f"{mib or 0:,.0f}" for mib in (row.build.rss_mib, row.build.disk_mib)),
                f"{100 * quality.index_recall.list.mean:.1f}",
                _lost(quality.relevance),
                *(f"{ms:.1f}" for ms in (at.p50, at.p99)),
                *(f"{row.throughput(clients):,.0f}" for clients in (4, 16)),
            )
        )
    return tabulate(lines, HEADS[language], tablefmt="github", disable_numparse=True)


def _lost(relevance: RelevanceComparison | None) -> str:
    """Of recall, relative to that of exact search, with its interval; empty: not measured."""
    if relevance is None:
        return ""
    loss, base = relevance.loss.recall, relevance.exact.recall or 1.0
    mean, low, high = (100 * value / base for value in (loss.mean, loss.low, loss.high))
    return f"{mean:.2f} ({low:.2f} … {high:.2f})"


def tables(rows: Sequence[ScaleRow], settings: PlanSettings, language: str) -> Mapping[str, str]:
    """What stands between the marks of the page, by mark."""
    made = dict.fromkeys(("scale", "scale_fit", "scale_plan"), NONE_YET[language])
    if rows:
        made["scale"] = rows_table(rows, language)
    with suppress(SettingsError):  # too few sizes so far
        made["scale_fit"] = checks_table(checks_of(rows), "github")
        made["scale_plan"] = plan_table(plan_of(rows, settings), "github")
    return made


def renewed(text: str, made: Mapping[str, str]) -> str:
    """A page with other tables between its marks."""
    for name, table in made.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise SettingsError(f"the page has no '<!-- {name} -->' with an '<!-- end -->'")
        text = f"{before}{mark}{table}\n{end}{after}"
    return text


def publish(rows: Sequence[ScaleRow], settings: PlanSettings, folder: Path) -> None:
    """Write the tables of both pages."""
    for name, language in PAGES.items():
        page = folder / name
        text = renewed(page.read_text(encoding="utf-8"), tables(rows, settings, language))
        with replacing(page, str(page)) as fresh:
            fresh.write_text(text, encoding="utf-8")
        print(f"wrote the tables of {page}")
