# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The pages of runs as files: their charts, colours and links; ``--open`` and ``--runs``."""

from __future__ import annotations

import os
import re
import sys
import webbrowser
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from rows_for_report import FLAT, HNSW, IVF, Row, build, point, results, view

from paddlerec_milvus.bench.cli import main
from paddlerec_milvus.bench.report import compare_page, html, opening
from paddlerec_milvus.bench.report.compare_document import comparison_of
from paddlerec_milvus.bench.report.compare_page import comparison_html
from paddlerec_milvus.bench.report.document import report_of
from paddlerec_milvus.bench.report.html import as_html
from paddlerec_milvus.bench.report.plots_svg import legend_of
from paddlerec_milvus.bench.report.svg import VARIABLES
from paddlerec_milvus.bench.results_file import FILE, line_of

pytest.importorskip("jinja2")

STYLE = (Path(html.__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
ROWS = [
    build(FLAT, 190.0),
    point(FLAT, {}, found=1.0, rate=240.0, p99=9.0),
    build(IVF, 195.0),
    point(IVF, {"nprobe": 8}, found=0.93, rate=800.0, lost=0.01, width=0.004),
    point(IVF, {"nprobe": 32}, found=0.99, rate=500.0, lost=0.0005, width=0.004),
    build(HNSW, 210.0),
    point(HNSW, {"ef": 96}, found=0.995, rate=1100.0, p99=2.0),
]


def page_of(rows: list[Row]) -> str:
    shown = view(rows)
    return as_html(shown, report_of(shown))


def charts_in(page: str) -> dict[str, str]:
    """Title → drawing."""
    found = re.findall(r'<svg class="chart" role="img" aria-label="([^"]+)".*?</svg>', page, re.S)
    drawings = re.findall(r'<svg class="chart" role="img" .*?</svg>', page, re.DOTALL)
    return dict(zip(found, drawings, strict=True))


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(ROWS)


def saved(folder: Path, rows: list[Row], day: int = 1) -> Path:
    """A results folder as a run leaves it."""
    folder.mkdir(parents=True)
    for row in rows:
        row["provenance"]["time"] = f"2026-11-{day:02}T08:00:00Z"
    lines = [line_of(result) for result in results(rows)]
    (folder / FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture
def _without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes the most of a page's time."""
    for module in (html, compare_page):
        monkeypatch.setattr(module, "legend_of", lambda view: [])
    monkeypatch.setattr(html, "charts", lambda view: [])
    monkeypatch.setattr(compare_page, "comparison_charts", lambda comparison: [])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were shown in a browser."""
    addresses: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", lambda url: addresses.append(url) or True)
    return addresses


def test_every_setting_stands_in_every_chart_that_has_numbers_of_it(page: str) -> None:
    charts = charts_in(page)
    for title in ("Relevance lost against p99", "index_recall against throughput"):
        points = re.findall(r'class="point" data-setting="(\d+)"', charts[title])
        assert sorted(points) == ["0", "1", "2", "3"]  # as in the table, by its rows
        assert "<title>IVF_FLAT nlist 256, nprobe 32\nindex_recall@50: 0.9900\n" in charts[title]
    rows = re.findall(r'<tr[^>]* data-setting="(\d+)"><th scope="row">([^<]+)<', page)
    assert len({name for number, name in rows if number == "2"}) == 1
    assert Counter(number for number, _ in rows)["2"] > 2  # in several tables


def test_one_legend_names_every_build_once(page: str) -> None:
    assert page.count('class="legend"') == 1
    names = re.findall(r'<li data-build="(\d)"><svg.*?</svg> ([^<]+)</li>', page, re.DOTALL)
    expected = ["FLAT", "IVF_FLAT nlist 256", "HNSW M 16, efConstruction 200"]
    assert names == [(str(number), name) for number, name in enumerate(expected)]
    assert [entry.name for entry in legend_of(view(ROWS))] == expected


def test_colours_are_the_styles_own_and_ids_are_nobodys_else(page: str) -> None:
    for title, chart in charts_in(page).items():
        assert not re.findall(r"#[0-9a-f]{6}\b", chart), title
        assert "var(--" in chart
    ids = Counter(re.findall(r' id="([^"]+)"', page))
    assert {name: times for name, times in ids.items() if times > 1} == {}
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert used <= set(ids)


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` or ``#rgb``; WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themes() -> dict[str, dict[str, str]]:
    """Light, dark, print → the style's variables."""
    roots = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    found = [dict(re.findall(r"--(\w+): (#[0-9a-f]+)", root)) for root in roots]
    return dict(zip(("light", "dark", "print"), found, strict=True))


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_text_and_lines_stand_out_from_the_paper(theme: str) -> None:
    colours = themes()["light"] | themes()[theme]
    assert {name.removeprefix("--") for name in VARIABLES.values()} <= set(colours)
    for name in ("ink", "quiet"):
        for under in ("paper", "marked"):
            assert contrast(colours[name], colours[under]) >= 4.5, (name, under)
    for name in ("edge", "focus", *(f"c{number}" for number in range(7)), "s0", "s1", "s2"):
        assert contrast(colours[name], colours["paper"]) >= 3, name


def test_a_comparison_has_pictures_of_what_moved() -> None:
    after = [
        build(IVF, 230.0),
        point(IVF, {"nprobe": 8}, found=0.93, rate=1000.0, lost=0.01, width=0.004),
        point(IVF, {"nprobe": 32}, found=0.99, rate=505.0, lost=0.0005, width=0.004),
    ]
    text = comparison_html(comparison_of(results(ROWS), results(after)), ("before", "a&b"))
    assert "<h1>Two runs side by side: before and a&amp;b</h1>" in text
    charts = charts_in(text)
    measures = ("users/s", "p50, ms", "p99, ms", "index_recall", "recall@k", "RSS, MiB")
    assert {f"{name}: second against first" for name in measures} <= set(charts)
    speeds = charts["users/s: second against first"]
    words = re.findall("<title>(.*?)</title>", speeds, re.DOTALL)
    assert words == [
        "IVF_FLAT nlist 256, nprobe 8\nusers/s: 800 → 1,000 (+25.0 %), beyond noise",
        "IVF_FLAT nlist 256, nprobe 32\nusers/s: 500 → 505 (+1.0 %), noise",
    ]
    assert charts["index_recall against throughput"].count('class="point"') == 4  # two of each


@pytest.mark.usefixtures("_without_charts")
def test_runs_are_listed_with_their_reports_and_comparisons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], opened: list[str]
) -> None:
    first = saved(tmp_path / "first, & <oldest>", ROWS[:2], day=3)
    saved(tmp_path / "second", ROWS[:2], day=4)
    saved(tmp_path / "alone", ROWS[5:], day=5)
    saved(tmp_path / "damaged", ROWS[:1])
    (tmp_path / "damaged" / FILE).write_text("no result\n")
    (tmp_path / "notes").mkdir()
    assert main(["--runs", str(tmp_path), "--open"]) == 0
    assert opened == [(tmp_path / "index.html").as_uri()]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    names = re.findall(r"<h2>(?:<a[^>]*>)?([^<]+)<", page)
    listed = ["alone", "second", "first, &amp; &lt;oldest&gt;", "damaged"]
    assert names == [*listed, "Two runs side by side"]
    assert "is not JSON: no result" in page
    links = [tmp_path / unquote(link) for link in re.findall(r'href="([^"]+)"', page)[1:]]
    assert [link.is_file() for link in links] == [True] * 4  # three reports and a comparison
    compared = links[-1].read_text(encoding="utf-8")
    assert "First: first, &amp; &lt;oldest&gt;." in compared
    assert page.count('class="paste"') == 3

    # a second time a report's page that is as new as its results is left alone
    old = first / "report.html"
    old.write_text("mine")
    assert main(["--runs", str(tmp_path)]) == 0
    assert old.read_text() == "mine"
    os.utime(first / FILE, (old.stat().st_mtime + 10,) * 2)
    assert main(["--runs", str(tmp_path)]) == 0
    assert old.read_text() != "mine"

    assert main(["--runs", str(first)]) == 2
    assert "is itself a run; give the folder that it lies in" in capsys.readouterr().err
    assert main(["--runs", str(tmp_path / "notes")]) == 2
    assert "holds no run" in capsys.readouterr().err


@pytest.mark.usefixtures("_without_charts")
def test_a_comparison_is_written_where_it_is_asked_for(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [str(saved(tmp_path / name, ROWS[:2])) for name in ("before", "after")]
    monkeypatch.chdir(tmp_path)
    assert main(["--compare", *folders]) == 0
    assert not list(tmp_path.rglob("compare.*"))
    assert main(["--compare", *folders, "--out", "here"]) == 0
    assert opened == []
    assert sorted(file.name for file in Path("here").iterdir()) == ["compare.html", "compare.md"]
    assert main(["--compare", *folders, "--open"]) == 0
    page = tmp_path / "output_bench" / "comparisons" / "before" / "after" / "compare.html"
    assert opened == [page.as_uri()]


def test_open_alone_shows_the_newest_report(
    tmp_path: Path,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--open"]) == 2
    assert "output_bench holds no report yet: measure first" in capsys.readouterr().err
    for age, name in enumerate(("new", "old")):
        report = tmp_path / "output_bench" / name / "report.html"
        report.parent.mkdir(parents=True)
        report.touch()
        os.utime(report, (1e9 - age, 1e9 - age))
    assert main(["--open"]) == 0
    assert opened == [(tmp_path / "output_bench" / "new" / "report.html").as_uri()]


@pytest.mark.parametrize("why", ["no display", "no browser"])
def test_without_a_browser_the_place_of_the_page_is_said(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(url: str) -> Any:
        assert why == "no browser"
        return False

    for name in opening.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux" if why == "no display" else "darwin")
    monkeypatch.setattr(webbrowser, "open", refuse)
    opening.open_page(tmp_path / "report.html")
    said = capsys.readouterr().err
    assert f"no browser can be opened on this machine; the page is {tmp_path}/report.html" in said
