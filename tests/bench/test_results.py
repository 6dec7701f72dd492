# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The results that are kept, and what docs/ says of them, are those that were measured."""

import json
from datetime import datetime
from typing import Any

import pytest

from paddlerec_milvus.bench.report.document import as_markdown, report_of
from paddlerec_milvus.bench.report.view import view_of
from paddlerec_milvus.bench.results_file import read_rows
from tests.support import ROOT

KEPT = ("demo", "goodbooks_mix", "amazon_size")
RESULTS = ROOT / "benchmarks" / "results"


def kept(name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((RESULTS / f"index_{name}" / "report.json").read_text())
    return report


def line_of(row: dict[str, Any]) -> str:
    """A line of the documentation's table."""
    low, high = (100 * row[f"recall_lost_relative_{end}"] for end in ("low", "high"))
    cells = [
        row["setting"],
        f"{100 * row['index_recall_list']:.2f}",
        f"{100 * row['recall']:.2f}",
        f"{100 * row['recall_lost_relative']:.2f} ({low:.2f} to {high:.2f})",
        f"{row['latency_p99']:.1f}",
        f"{row['users_per_second']:,.0f}",
        f"{row['times_flat']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", KEPT)
def test_the_page_is_that_of_the_rows(name):
    rows = read_rows(RESULTS / f"index_{name}")
    text = (RESULTS / f"index_{name}" / "report.md").read_text()
    assert text.strip() == as_markdown(report_of(view_of(rows))).strip()


@pytest.mark.parametrize("page", ["index-cost.md", "index-cost.zh.md"])
@pytest.mark.parametrize("name", ["goodbooks_mix", "amazon_size"])
def test_the_table_is_that_of_the_json(page, name):
    measured = {row["setting"]: line_of(row) for row in kept(name)["table"]}
    text = (
        (ROOT / "docs" / "results" / page)
        .read_text(encoding="utf-8")
        .partition(f"<!-- index_{name} -->")[2]
    )
    lines = text.partition("<!-- end -->")[0].strip().splitlines()[2:]
    assert len(lines) >= 5
    for line in lines:
        assert line == measured[line.split("|")[1].strip()]


def test_the_amazon_sweep_took_less_than_an_hour():
    rows = [row for row in kept("amazon_size")["rows"] if row["kind"] != "study"]
    times = sorted(datetime.fromisoformat(row["provenance"]["time"]) for row in rows)
    assert (times[-1] - times[0]).total_seconds() < 3_600
    assert sum(row["kind"] == "point" for row in rows) == 31
