# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the size of a catalogue costs in Milvus: build, memory, disk, latency, throughput.

One size a command, on a Milvus of its own; clustered synthetic vectors, users of four interests
whose lists are merged. ef or nprobe grows with the size: the least that finds --target of the
exact list. A row that benchmarks/results/scale.json has is not measured again, so the same command
goes on after Ctrl-C. Relevance is measured on planted clicks up to 400,000 items.
--fit, --plan and --publish take the rows of the usual case alone: only size, dimension and index
type differ, the rest is as it is by default. They say how many rows they left out, and why.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scale_study.rows import MEASURE, ScaleCase, ScaleResults, exclusion_note, usual_build
from scale_study.settings import PLAN_SETTINGS, PlanSettings

from paddlerec_milvus.command import run
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.indexes import build_keys
from paddlerec_milvus.subcommands import CommandParser

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "scale.json"
INDEXES = ("HNSW", "IVF_SQ8", "IVF_PQ")
EXAMPLES = """\
examples:
  python benchmarks/scale.py --items 100000 --dim 64 --index FLAT HNSW IVF_SQ8 IVF_PQ
  python benchmarks/scale.py --items 1000000 --dim 128 --index HNSW
  python benchmarks/scale.py --items 1000000 --dim 64 --index HNSW --build M=32
  python benchmarks/scale.py --fit                # what the rows follow, and how well
  python benchmarks/scale.py --plan               # 10 M, 100 M and 1 B items
  python benchmarks/scale.py --publish            # docs/results/scale.md and .zh.md
"""


def arguments() -> CommandParser:
    """The parser of this program."""
    parser = CommandParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--items", type=int, metavar="N", help="size of the catalogue to measure")
    add("--dim", type=int, default=64, metavar="D", help="of the vectors (64)")
    add("--index", nargs="+", default=INDEXES, metavar="TYPE", help=f"({' '.join(INDEXES)})")
    add(
        "--build",
        nargs="+",
        default=[],
        metavar="KEY=N",
        help="build parameters (M=16 efConstruction=200; nlist=4 sqrt(N), at most 4,096; m=D/2)",
    )
    add("--target", type=float, default=0.95, metavar="R", help="index_recall@50 to reach (0.95)")
    add("--users", type=int, default=500, metavar="N", help="that search (500)")
    add("--seed", type=int, default=1, metavar="N", help="of the vectors (1)")
    add("--seconds", type=float, default=MEASURE.seconds, help="of a throughput run (5)")
    add("--again", action="store_true", help="measure also what is in the file")
    add(
        "--out",
        type=Path,
        default=OUT,
        metavar="FILE",
        help="the rows (benchmarks/results/scale.json)",
    )
    add(
        "--settings",
        type=Path,
        default=PLAN_SETTINGS,
        metavar="YAML",
        help="node and prices of --plan",
    )
    steps = parser.add_mutually_exclusive_group()
    steps.add_argument("--fit", action="store_true", help="fit the rows; 1 when a bar is missed")
    steps.add_argument("--plan", action="store_true", help="nodes, memory, disk and cost by size")
    steps.add_argument("--publish", action="store_true", help="write the tables of the page")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or show what the rows say; 1 when a bar of --fit is missed."""
    options = arguments().parse_args(argv)
    met: list[bool] = []
    return run(lambda: met.append(_main(options))) or int(not all(met))


def _main(options: argparse.Namespace) -> bool:
    results = ScaleResults.read(options.out)
    note = exclusion_note(results.rows)
    if note and (options.fit or options.plan or options.publish):
        print(note)
    if options.fit:
        from scale_study.checks import checks_of, checks_table

        checks = checks_of(results.rows)
        print(checks_table(checks))
        return all(check.holds for check in checks if check.bar is not None)
    if options.plan:
        from scale_study.plan import ROW_NOTES, plan_of, plan_table

        settings = PlanSettings.read(options.settings)
        print(plan_table(plan_of(results.rows, settings)))
        print("\nm: measured, f: fitted, q: quoted:")
        for quote in settings.quotes:
            print(f"- {quote.figure}: {quote.words!r} ({quote.source})")
        print(f"- {ROW_NOTES['en']}")
    elif options.publish:
        from scale_study.page import publish

        publish(results.rows, PlanSettings.read(options.settings), ROOT / "docs" / "results")
    else:
        measure_all(options, results)
    return True


def measure_all(options: argparse.Namespace, results: ScaleResults) -> None:
    """A row for each index that the file lacks, written as soon as it is measured."""
    from scale_study.measuring import measure, say

    cases = [case_of(options, type_name) for type_name in options.index]
    for case in cases:
        if case.key in results and not options.again:
            say(case, f"is in {options.out} (--again measures it anew)")
            continue
        row = measure(case)
        results = ScaleResults.read(options.out).with_row(row)
        results.write(options.out)
        at, recall = row.measured.latency, row.measured.quality.index_recall.list.mean
        say(
            case,
            f"{row.build.index_seconds:,.1f} s to build, {row.build.rss_mib or 0:,.0f} MiB, "
            f"{row.tuned.params or 'no search parameters'}, index_recall {100 * recall:.1f} %, "
            f"p50 {at.p50:.1f} ms, p99 {at.p99:.1f} ms; the row took {row.seconds / 60:.1f} min",
        )


def case_of(options: argparse.Namespace, type_name: str) -> ScaleCase:
    """What is to be measured; SettingsError for what cannot be."""
    if options.items is None:
        raise SettingsError("give a size, --items N; or one of --fit, --plan and --publish")
    least = 10 * max(options.users, MEASURE.requests)
    if options.items < least:
        raise SettingsError(f"--items {options.items:,}: at least {least:,} to say something")
    index: dict[str, int | float | str] = {
        "type": type_name,
        **usual_build(type_name, options.items, options.dim),
    }
    for pair in options.build:
        key, _, value = pair.partition("=")
        if not value.isdecimal():
            raise SettingsError(f"--build {pair}: expected KEY=N, a whole number")
        if key in build_keys(type_name):  # the others are of other types in the same command
            index[key] = int(value)
    case = ScaleCase(
        items=options.items,
        dimension=options.dim,
        index=index,
        target=options.target,
        users=options.users,
        seed=options.seed,
        measure=MEASURE.model_copy(update={"seconds": options.seconds}),
    )
    if not case.built.build_params() and type_name != "FLAT":
        raise SettingsError(f"--index {type_name}: takes no build parameters, so none can be said")
    return case


if __name__ == "__main__":
    sys.exit(main())
