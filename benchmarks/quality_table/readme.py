# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The best lines of the results, as the READMEs show them between two marks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import DataError
from quality_table.baselines import METHODS
from quality_table.models import OTHERS
from quality_table.render import value_of
from quality_table.results import LogQuality, MethodQuality, QualityReport

BEGIN, END = "<!-- quality -->", "<!-- /quality -->"
HEADS = {
    "README.md": (
        "| log (items, users) | model | recall@50 | ndcg@50 | ndcg@10 | hitrate@50 | training |",
        "| log, metric | against | points | 95 % interval | relative |",
    ),
    "README_CN.md": (
        "| 日志（物品数，测试用户数） | 模型 | recall@50 | ndcg@50 | ndcg@10 | hitrate@50 | 训练 |",
        "| 日志，指标 | 相对于 | 百分点 | 95 % 区间 | 相对差 |",
    ),
}
SHOWN = ("recall", "ndcg", "ndcg_short", "hitrate")
MODELS = 3  # the best of ours, beside the recommended one


def write_readmes(report: QualityReport, root: Path) -> None:
    """Put the lines of ``report`` into both READMEs in ``root``; DataError: one has no marks."""
    texts = {name: _with_tables((root / name), report) for name in HEADS}
    for name, text in texts.items():
        with replacing(root / name) as fresh:
            fresh.write_text(text, encoding="utf-8")


def _with_tables(file: Path, report: QualityReport) -> str:
    text = file.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"{file}: has no {BEGIN} with {END} after it, where the results go")
    return before + tables(report, *HEADS[file.name]) + after


def tables(report: QualityReport, head: str, comparisons_head: str) -> str:
    """The marks, and between them the best rows of each log and the comparisons of ours."""
    lines = [BEGIN, head, "| --- | --- |" + " ---: |" * (len(SHOWN) + 1)]
    for name, log in report.data.items():
        place = f"{name} ({log.items:,}, {log.test_users:,})"
        for method in best_lines(log, report.recommended.method):
            lines.append(f"| {place} | {_row(method, log.methods[method], report)} |")
            place = ""
    lines += ["", comparisons_head, "| --- | --- | ---: | ---: | ---: |"]
    for name, log in report.data.items():
        for comparison in log.comparisons:
            gain, title = comparison.difference, log.methods[comparison.against].title
            interval = f"{100 * gain.low:+.2f} … {100 * gain.high:+.2f}"
            cells = [
                f"{name}, {comparison.metric}",
                title,
                f"{100 * gain.mean:+.2f}",
                interval if comparison.paired else f"{interval} *",
                f"{100 * gain.relative:+.1f} %",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, END])


def _row(name: str, row: MethodQuality, report: QualityReport) -> str:
    title = f"**{row.title}**" if name == report.recommended.method else row.title
    values = [value_of(getattr(row, field)) for field in SHOWN]
    return " | ".join([title, *values, f"{row.seconds:.0f} s"])


def best_lines(log: LogQuality, recommended: str) -> list[str]:
    """Rows by falling recall: the recommended model, some more of ours, what it is compared with,
    the baseline that is best in each metric, and other people's.
    """
    ours = [name for name in log.methods if name not in METHODS and name not in OTHERS]
    chosen = {recommended, *_best(log.methods, ours, "recall")[:MODELS]}
    baselines = [name for name in log.methods if name in METHODS]
    for field in SHOWN:
        chosen |= set(_best(log.methods, baselines, field)[:1])
    chosen |= set(OTHERS) | {comparison.against for comparison in log.comparisons}
    return _best(log.methods, [name for name in log.methods if name in chosen], "recall")


def _best(methods: Mapping[str, MethodQuality], names: list[str], field: str) -> list[str]:
    """Those of ``names`` that have a ``field``, the best first."""
    values = {name: getattr(methods[name], field) for name in names}
    return sorted((name for name in names if values[name]), key=lambda name: -values[name].mean)
