# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Results between two marks: the recommended model in the READMEs, every row in docs/."""

from __future__ import annotations

from pathlib import Path

from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import DataError
from quality_table.render import value_of
from quality_table.results import NAMES, Comparison, LogQuality, QualityReport

BEGIN, END = "<!-- quality -->", "<!-- /quality -->"
README_HEADS = {
    name: f"| {log} | recall@50 | {best} | {gain} | ndcg@50 | {best} | {gain} |"
    for name, log, best, gain in (
        ("README.md", "log", "best baseline", "difference"),
        ("README_CN.md", "日志", "最好的基线", "差"),
    )
}
README_ROWS = 5
HEADS = {
    "docs/results/quality.md": (
        "| log (items, users) | model | recall@50 | ndcg@50 | ndcg@10 | hitrate@50 | training |",
        "| log, metric | against | points | 95 % interval | relative |",
        "| log, metric | ours - theirs | points | 95 % interval | relative |",
    ),
    "docs/results/quality.zh.md": (
        "| 日志（物品数，测试用户数） | 模型 | recall@50 | ndcg@50 | ndcg@10 | hitrate@50 | 训练 |",
        "| 日志，指标 | 相对于 | 百分点 | 95 % 区间 | 相对差 |",
        "| 日志，指标 | 本项目 - 公开实现 | 百分点 | 95 % 区间 | 相对差 |",
    ),
}
SHOWN = ("recall", "ndcg", "ndcg_short", "hitrate")


def write_readmes(report: QualityReport, root: Path) -> None:
    """Put the tables of ``report`` where they are shown, in ``root``; DataError: no marks there."""
    texts = {name: _with_tables(root / name, text) for name, text in all_tables(report).items()}
    for name, text in texts.items():
        with replacing(root / name) as fresh:
            fresh.write_text(text, encoding="utf-8")


def all_tables(report: QualityReport) -> dict[str, str]:
    """What stands between the marks, by the file's path from the repository's root."""
    leads = {name: lead_table(report, head) for name, head in README_HEADS.items()}
    return leads | {name: tables(report, *heads) for name, heads in HEADS.items()}


def _with_tables(file: Path, table: str) -> str:
    text = file.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"{file}: has no {BEGIN} with {END} after it, where the results go")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def lead_table(report: QualityReport, head: str) -> str:
    """A row for each of the first logs: the recommended model and what is best against it."""
    lines = [head, "| --- |" + 2 * " ---: | --- | ---: |"]
    for name, log in list(report.data.items())[:README_ROWS]:
        ours = log.methods[report.recommended.method]
        cells = [name]
        for field in ("recall", "ndcg"):
            cells += [f"{ours.title} {value_of(getattr(ours, field))}", *_best_baseline(log, field)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _best_baseline(log: LogQuality, field: str) -> tuple[str, str]:
    """The baseline that is best by that metric, and by how much the recommended model is better."""
    for comparison in log.comparisons:
        if (comparison.metric, comparison.role) == (NAMES[field], "best baseline"):
            row = log.methods[comparison.against]
            gain, interval = _points(comparison)
            return f"{row.title} {value_of(getattr(row, field))}", f"{gain} ({interval})"
    return "", ""


def tables(report: QualityReport, head: str, comparisons_head: str, counterparts_head: str) -> str:
    """Every row of each log by falling recall, the comparisons of the recommended model, and those
    of each model with its public implementation.
    """
    lines = [head, "| --- | --- |" + " ---: |" * (len(SHOWN) + 1)]
    for name, log in report.data.items():
        place = f"{name} ({log.items:,}, {log.test_users:,})"
        rows = log.methods.items()
        for method, row in sorted(rows, key=lambda item: -item[1].recall.mean):
            title = f"**{row.title}**" if method == report.recommended.method else row.title
            values = [value_of(getattr(row, field)) for field in SHOWN]
            lines.append(f"| {' | '.join([place, title, *values, f'{row.seconds:.0f} s'])} |")
            place = ""
    for of_head, counterparts in ((comparisons_head, False), (counterparts_head, True)):
        rows_of = [
            _comparison(name, log, comparison)
            for name, log in report.data.items()
            for comparison in log.comparisons
            if (comparison.role == "counterpart") == counterparts
        ]
        if rows_of:
            lines += ["", of_head, "| --- | --- | ---: | ---: | ---: |", *rows_of]
    return "\n".join(lines)


def _comparison(name: str, log: LogQuality, comparison: Comparison) -> str:
    ours, theirs = log.methods[comparison.model].title, log.methods[comparison.against].title
    title = f"{ours} - {theirs}" if comparison.role == "counterpart" else theirs
    relative = f"{100 * comparison.difference.relative:+.1f} %"
    cells = [f"{name}, {comparison.metric}", title, *_points(comparison), relative]
    return f"| {' | '.join(cells)} |"


def _points(comparison: Comparison) -> tuple[str, str]:
    """The difference in points, and its interval; an asterisk where it is not paired."""
    gain = comparison.difference
    interval = f"{100 * gain.low:+.2f} … {100 * gain.high:+.2f}"
    return f"{100 * gain.mean:+.2f}", interval if comparison.paired else f"{interval} *"
