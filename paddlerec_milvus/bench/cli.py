# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of benchmarks/index_benchmark.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paddlerec_milvus.bench.export import export_ann_benchmarks, export_vectordbbench
from paddlerec_milvus.bench.report import write_report
from paddlerec_milvus.bench.report.compare_document import compared_markdown, comparison_of
from paddlerec_milvus.bench.report.compare_page import write_comparison
from paddlerec_milvus.bench.report.opening import newest_report, open_page
from paddlerec_milvus.bench.report.runs import write_runs
from paddlerec_milvus.bench.results_file import ResultsFile, read_rows
from paddlerec_milvus.bench.studies import run_studies
from paddlerec_milvus.bench.study_checks import check_studies, check_studies_fit
from paddlerec_milvus.bench.sweep_config import (
    SweepConfig,
    builds_of,
    check_fits,
    find_sweep,
    load_workload,
    read_sweep,
)
from paddlerec_milvus.bench.sweep_runner import SweepRunner
from paddlerec_milvus.bench.workload import WorkloadInfo
from paddlerec_milvus.command import run
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.indexes import setting_name
from paddlerec_milvus.retrieval.memory_estimate import estimate_mib
from paddlerec_milvus.subcommands import CommandParser

RESULTS = Path("output_bench")
CHANGED = "# run with: "  # heads a run's copy of its yaml, before the options that changed it
EXAMPLES = """\
examples:
  python benchmarks/index_benchmark.py -s benchmarks/sweeps/demo.yaml --out output_bench/demo
  python benchmarks/index_benchmark.py -s benchmarks/sweeps/demo.yaml --plan
  python benchmarks/index_benchmark.py -s my.yaml --server http://127.0.0.1:19530 --out mine
  python benchmarks/index_benchmark.py -s benchmarks/sweeps/demo.yaml --rate 100 200 --out open_loop
  python benchmarks/index_benchmark.py -s benchmarks/sweeps/demo.yaml --rank   # after tools/rank.py
  python benchmarks/index_benchmark.py --report output_bench/demo
  python benchmarks/index_benchmark.py --compare output_bench/before output_bench/after --open
  python benchmarks/index_benchmark.py --runs output_bench --open
  python benchmarks/index_benchmark.py -s my.yaml --export vectordbbench --out output_bench/vectors

The same command goes on where an interrupted run stopped: what DIR holds is not measured again."""


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        description="What each Milvus index and its parameters cost in latency, throughput, memory "
        "and relevance: a sweep over indexes, and a report (HTML, Markdown, PNG, CSV, JSON).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "-s", "--sweep", metavar="YAML",
        help="what to measure: a path, or a name in benchmarks/sweeps/ (demo.yaml)",
    )  # fmt: skip
    add("--out", type=Path, metavar="DIR", help="rows and report go here (output_bench/NAME)")
    add("--server", metavar="WHERE", help="instead of the yaml's: local, lite, or a uri")
    add("--k", type=int, metavar="N", help="instead of the yaml's: length of a list")
    add("--seed", type=int, metavar="N", help="instead of the yaml's")
    add(
        "--rate",
        type=int,
        nargs="+",
        metavar="R",
        help="instead of the yaml's measure.rates: the open loop at R users a second, requests on "
        "a timetable whatever the answers do",
    )
    add(
        "--rank",
        action="store_true",
        default=None,
        help="as rank: true in the yaml: also rank what each setting finds, with the ranker that "
        "tools/rank.py trained for the checkpoint, and say what is lost in the ten best",
    )
    add("--plan", action="store_true", help="say what would be measured, and its memory")
    add("--report", type=Path, metavar="DIR", help="write the report of a results folder again")
    add(
        "--compare",
        type=Path,
        nargs=2,
        metavar=("A", "B"),
        help="two results folders; with --out DIR or --open a page of them is written, too",
    )
    add("--runs", type=Path, metavar="DIR", help="write DIR/index.html, a list of the runs in DIR")
    add(
        "--open",
        action="store_true",
        help="show the page in the browser: of the run, or of --report, --compare, --runs; without "
        "any of these the newest report in output_bench",
    )
    add("--export", choices=("vectordbbench", "ann-benchmarks"), help="vectors and truths")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 2 for a user's mistake, 130 for Ctrl-C."""
    arguments = _parser().parse_args(argv)
    return run(lambda: _main(arguments))


def _main(arguments: argparse.Namespace) -> None:
    page = _page(arguments)
    if arguments.open and page is not None:
        open_page(page)


def _page(arguments: argparse.Namespace) -> Path | None:
    """Do what the arguments say; the page that it wrote."""
    if arguments.runs:
        return _written(write_runs(arguments.runs))
    if arguments.compare:
        return _compare(arguments)
    if arguments.report:
        return _written(write_report(read_rows(arguments.report), arguments.report))
    if arguments.sweep is None and arguments.open:
        return newest_report(RESULTS)
    if arguments.sweep is None:
        raise SettingsError(
            "give a sweep (-s YAML), --report DIR, --compare A B, --runs DIR or --open; see --help"
        )
    if arguments.open and (arguments.plan or arguments.export):
        raise SettingsError("--open shows a page, and neither --plan nor --export writes one")
    changed = {name: getattr(arguments, name) for name in ("server", "k", "seed", "rank")}
    changed = {name: value for name, value in changed.items() if value is not None}
    arguments.sweep = find_sweep(arguments.sweep)
    sweep = read_sweep(arguments.sweep, rates=arguments.rate, **changed)
    return _sweep(arguments, sweep, arguments.out or RESULTS / sweep.name)


def _compare(arguments: argparse.Namespace) -> Path | None:
    """Print the comparison, and write its page where one was asked for."""
    first, second = map(read_rows, arguments.compare)
    comparison = comparison_of(first, second)
    print(compared_markdown(comparison))
    names = tuple(folder.resolve().name for folder in arguments.compare)
    out = arguments.out or (RESULTS.joinpath("comparisons", *names) if arguments.open else None)
    if out is None:
        return None
    files = write_comparison(comparison, (names[0], names[1]), out)
    print(f"written: {', '.join(map(str, files))}", file=sys.stderr)
    return files[0]


def _sweep(arguments: argparse.Namespace, sweep: SweepConfig, out: Path) -> Path | None:
    """Plan, export or measure; the page of what was measured."""
    builds_of(sweep)  # a misspelt parameter ends here, before any vector is read
    check_studies(sweep)
    workload = load_workload(sweep)
    check_fits(sweep, workload)
    check_studies_fit(sweep, len(workload.ids))
    if arguments.plan:
        print(_plan(sweep, workload.info))
        return None
    if arguments.export == "vectordbbench":
        return _written(export_vectordbbench(workload, sweep.k, out))
    if arguments.export:
        return _written([export_ann_benchmarks(workload, sweep.k, out / f"{sweep.name}.hdf5")])
    try:
        with ResultsFile(out) as rows:
            bench = SweepRunner(sweep, workload, rows)
            with replacing(out / "sweep.yaml") as fresh:  # the run's own may be arguments, too
                fresh.write_text(_sweep_copy(arguments), encoding="utf-8")
            bench()
            run_studies(bench)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; what was measured is in {out}, and the same command goes on from there"
        ) from None
    return _written(write_report(read_rows(out), out))


def _sweep_copy(arguments: argparse.Namespace) -> str:
    """The yaml, and above it the options that changed it, in a comment."""
    words = []
    for name in ("server", "k", "seed", "rate", "rank"):
        value = getattr(arguments, name)
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(str(one) for one in values if one is not True)]
    lines = arguments.sweep.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    if lines and lines[0].startswith(CHANGED):  # of the run that this yaml is a copy of
        del lines[0]
    return "".join([f"{CHANGED}{' '.join(words)}\n" if words else "", *lines])


def _plan(sweep: SweepConfig, data: WorkloadInfo) -> str:
    """What would be measured."""
    builds = builds_of(sweep)
    points = sum(len(build.searches) for build in builds)
    lines = [
        f"{data.name}: {data.items:,} items x {data.dimension}, {data.users:,} users "
        f"with {data.interests} interests, {data.metric}; longest over median vector "
        f"{data.norm_skew:.2f}" + (f"; {data.split}" if data.split else ""),
        f"{len(builds)} builds, {points} search settings, k {sweep.k}, server {sweep.server}",
    ]
    for build in builds:
        size = estimate_mib(build.index, data.items, data.dimension)
        searches = f"{len(build.searches)} settings"
        lines.append(f"  {setting_name(build.index.label)}: {searches}, about {size:,.0f} MiB")
    return "\n".join(lines)


def _written(files: Sequence[Path]) -> Path:
    """Say which files were written, and a report's text; the first of them is its page."""
    text = next((file for file in files if file.name == "report.md"), None)
    if text is not None:
        print(text.read_text(encoding="utf-8"))
    print(f"written: {', '.join(map(str, files))}", file=sys.stderr)
    return files[0]
