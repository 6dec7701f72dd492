# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``--runs DIR``: a page that lists the runs of a folder, with two of them side by side.

A file beside the runs and no server: it stays when the program has ended, can be sent or published
with them, and nothing listens on the machine.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from paddlerec_milvus.bench.report.compare_document import RunComparison, comparison_of
from paddlerec_milvus.bench.report.compare_page import write_comparison
from paddlerec_milvus.bench.report.document import IndexReport, report_of
from paddlerec_milvus.bench.report.html import as_html, render_page
from paddlerec_milvus.bench.report.view import View, view_of
from paddlerec_milvus.bench.results_file import FILE, REPORT, read_rows
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import UserError

MOST_COMPARISONS = 20  # pages that are written unasked
FOLDER = "comparisons"


class RunSummary(NamedTuple):
    """A run that could be read."""

    folder: Path
    view: View
    report: IndexReport

    @property
    def name(self) -> str:
        """Of its folder, as the list and the comparisons show it."""
        return self.folder.name

    @property
    def command_path(self) -> str:
        """Its folder as a shell takes it."""
        return shlex.quote(str(self.folder))

    @property
    def link(self) -> str:
        """Of its report, from the list."""
        return f"{quote(self.name)}/report.html"

    @property
    def times(self) -> list[str]:
        """When the first and the last of its results were measured, UTC."""
        times = sorted(self.view.provenances(lambda row: row.time))
        return list(dict.fromkeys([times[0], times[-1]]))


class ComparedRuns(NamedTuple):
    """Two runs with a setting in common, the older one first."""

    first: RunSummary
    second: RunSummary
    comparison: RunComparison

    @property
    def folder(self) -> Path:
        """Where its page lies, in the folder of the runs."""
        return Path(FOLDER, self.first.name, self.second.name)

    @property
    def link(self) -> str:
        """Of its page, from the list."""
        return f"{quote(self.folder.as_posix())}/compare.html"


def write_runs(folder: Path) -> list[Path]:
    """Write index.html of the runs in ``folder``, newest first; returns it and what it links to.

    Runs that lack a page, or whose results are newer than it, get one, and up to 20 pairs of runs
    with a setting in common theirs, those of the same data first. A run that cannot be read is
    listed with the reason. UserError: no run, or a place that cannot be written.
    """
    runs, problems = _runs_of(folder)
    files = [file for run in runs for file in _report_page(run)]
    pairs = sorted(_compared(runs), key=lambda pair: bool(pair.comparison.other_data))
    for pair in pairs[:MOST_COMPARISONS]:
        names = pair.first.name, pair.second.name
        files += write_comparison(pair.comparison, names, folder / pair.folder)
    page = render_page(
        "runs.html.j2",
        title=f"Index benchmark: runs in {folder.resolve().name}",
        runs=runs,
        problems=problems,
        pairs=pairs[:MOST_COMPARISONS],
        left_out=len(pairs) - MOST_COMPARISONS,
    )
    with replacing(folder / "index.html") as fresh:
        fresh.write_text(page, encoding="utf-8")
    return [folder / "index.html", *files]


def _runs_of(folder: Path) -> tuple[list[RunSummary], dict[str, str]]:
    """The runs of ``folder`` by time, newest first; and name → why it cannot be read."""
    if _is_run(folder):
        raise UserError(f"--runs {folder}: is itself a run; give the folder that it lies in")
    places = sorted(filter(_is_run, folder.iterdir())) if folder.is_dir() else []
    if not places:
        raise UserError(f"--runs {folder}: holds no run (a folder with {FILE} or {REPORT})")
    runs, problems = [], {}
    for place in places:
        try:
            view = view_of(read_rows(place))
        except UserError as error:
            problems[place.name] = str(error)
        else:
            runs.append(RunSummary(place, view, report_of(view)))
    return sorted(runs, key=lambda run: run.times[-1], reverse=True), problems


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (FILE, REPORT))


def _report_page(run: RunSummary) -> Iterator[Path]:
    page = run.folder / "report.html"
    results = next(filter(Path.is_file, (run.folder / name for name in (FILE, REPORT))))
    if page.exists() and page.stat().st_mtime >= results.stat().st_mtime:
        return
    with replacing(page) as fresh:
        fresh.write_text(as_html(run.view, run.report), encoding="utf-8")
    yield page


def _compared(runs: Sequence[RunSummary]) -> Iterator[ComparedRuns]:
    for newer, older in combinations(runs, 2):
        try:
            comparison = comparison_of(older.view.rows, newer.view.rows)
        except UserError:  # no setting in common
            continue
        yield ComparedRuns(older, newer, comparison)
