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
from scale_study.checks import FitCheck, checks_of, checks_table
from scale_study.plan import ROW_NOTES, plan_of, plan_table
from scale_study.rows import ScaleRow, usual_rows
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
CHECK_NOTES = {
    "en": (
        "A fit of this table has no row of the size that is left out, and is told the case alone: "
        "segments and `ef` or `nprobe` are its own, not those measured there, as for the plan "
        "below. Bars missed: {missed}."
    ),
    "zh": (
        "表中的拟合没有留出规模的任何行，只知道要预测的情形："
        "段数和 `ef` 或 `nprobe` 由它自己给出，不取那里测得的值，与下面的规划一样。"
        "未达到要求的次数：{missed}。"
    ),
}
MISSED = {
    "en": "{what} {missed} of {all} (largest error {worst:+.1f} %)",
    "zh": "{what} {all} 次中 {missed} 次（最大误差 {worst:+.1f} %）",
}
COMMA = {"en": ", ", "zh": "，"}
MEMORY = {"en": "memory", "zh": "内存"}


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
    """What stands between the marks of the page, by mark; of usual rows alone."""
    rows = usual_rows(rows)
    made = dict.fromkeys(("scale", "scale_fit", "scale_plan"), NONE_YET[language])
    if rows:
        made["scale"] = rows_table(rows, language)
    with suppress(SettingsError):  # too few sizes so far
        checks = checks_of(rows)
        made["scale_fit"] = f"{checks_table(checks, 'github')}\n\n{check_note(checks, language)}"
        plan = plan_table(plan_of(rows, settings), "github")
        made["scale_plan"] = f"{plan}\n\n{ROW_NOTES[language]}"
    return made


def check_note(checks: Sequence[FitCheck], language: str) -> str:
    """How the errors came about, and how often each bar was missed."""
    barred: dict[str, list[FitCheck]] = {}
    for check in checks:
        if check.bar is not None:
            barred.setdefault(check.quantity.partition(",")[0], []).append(check)
    parts, words = [], MISSED[language]
    for what, of_what in sorted(barred.items()):
        name = MEMORY[language] if what == "memory" else what
        missed = sum(not check.holds for check in of_what)
        worst = 100 * max((check.error for check in of_what), key=abs)
        parts.append(words.format(what=name, missed=missed, all=len(of_what), worst=worst))
    return CHECK_NOTES[language].format(missed=COMMA[language].join(parts))


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
