# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page of two runs side by side: pictures, then every number with its verdict."""

from __future__ import annotations

from pathlib import Path

from paddlerec_milvus.bench.report.compare_document import (
    DISTURBED,
    NOISE,
    TITLE,
    RunComparison,
    compared_markdown,
)
from paddlerec_milvus.bench.report.compare_plots import comparison_charts
from paddlerec_milvus.bench.report.document import measured
from paddlerec_milvus.bench.report.html import render_page
from paddlerec_milvus.bench.report.plot_style import styles_of
from paddlerec_milvus.bench.report.plots_svg import legend_of
from paddlerec_milvus.data.files import replacing


def comparison_html(comparison: RunComparison, names: tuple[str, str]) -> str:
    """The whole page; ``names`` are those of the runs. UserError where jinja2 is not installed."""
    builds = {name: number for number, name in enumerate(styles_of(comparison.first.points))}
    numbers: dict[str, int] = {}
    for number, pair in enumerate(comparison.pairs):
        numbers.setdefault(pair.name, number)  # FLAT is a setting and a build
    return render_page(
        "compare.html.j2",
        title=f"{TITLE}: {names[0]} and {names[1]}",
        runs=[
            (order, name, measured(view))
            for order, name, view in zip(
                ("First", "Second"), names, (comparison.first, comparison.second), strict=True
            )
        ],
        comparison=comparison,
        charts=comparison_charts(comparison),
        legend=legend_of(comparison.first),
        settings=[{"build": builds.get(pair.build_name)} for pair in comparison.pairs],
        numbers=numbers,
        builds=builds,
        notes=(NOISE, DISTURBED),
    )


def write_comparison(comparison: RunComparison, names: tuple[str, str], folder: Path) -> list[Path]:
    """Write compare.html and compare.md into ``folder``; returns them. UserError: it cannot be."""
    contents = {
        "compare.html": comparison_html(comparison, names),
        "compare.md": compared_markdown(comparison),
    }
    for name, content in contents.items():
        with replacing(folder / name) as fresh:
            fresh.write_text(content, encoding="utf-8")
    return [folder / name for name in contents]
