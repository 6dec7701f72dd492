# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of benchmarks/quality.py."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from paddlerec_milvus.command import run
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import SettingsError, nearest
from paddlerec_milvus.evaluation.report import machine, versions
from quality_table import mind
from quality_table.baselines import METHODS
from quality_table.data import open_data
from quality_table.expected import FILE, differences, read_expected
from quality_table.merge import merged, read_report, with_provenance
from quality_table.pieces import say
from quality_table.plan import BOOTSTRAP_SEED, RESAMPLES, Plan, run_plan
from quality_table.render import draw, markdown
from quality_table.results import TOP_N, Bootstrap, LogQuality, Provenance, QualityReport

ROOT = Path(__file__).resolve().parents[2]
NAMES = [*METHODS, *mind.TITLES]
EXAMPLES = """\
examples:
  python benchmarks/quality.py --data books=datasets/books --data sports=datasets/sports
  python benchmarks/quality.py --data books=datasets/books --paddlerec ../PaddleRec --check
  python benchmarks/quality.py --data mine=datasets/mine --methods mind ease -o runner.epochs=8

DIR is a folder made by datasets/amazonbook/prepare.py, or one with a raw interactions.csv, which is
then prepared. An interrupted run goes on where it stopped: finished trainings stay in --work."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"recall, ndcg and hitrate at {TOP_N} of MIND and of baselines tuned on valid, "
        "on the test users of click logs: a table, JSON and a picture.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", action="append", required=True, metavar="NAME=DIR", help="again for each log")
    add("--methods", nargs="+", default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)} (all)")
    add("--seeds", type=int, default=3, metavar="N", help="trainings of MIND, ALS and BPR (3)")
    add("--jobs", type=int, default=2, metavar="N", help="trainings at a time, a thread each (2)")
    add("--paddlerec", type=Path, metavar="DIR", help="a checkout: its MIND is trained, too")
    add("--paddlerec_batches", type=int, default=3_000, metavar="N", help="its budget (3,000)")
    add("--retune", action="store_true", help=f"do not take parameters from {FILE.name}")
    add("--keep", type=Path, metavar="JSON",
        help="earlier results on the same clicks: their other rows and logs stay")  # fmt: skip
    add("--check", action="store_true", help=f"compare with {FILE.name}: exit code 1 if it is off")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "quality", metavar="PATH")
    add("--work", type=Path, default=Path("output_quality"), metavar="DIR", help="kept for reruns")
    add(*("-o", "--opt"), nargs="*", action="extend", default=[], metavar="KEY=VALUE",
        help="settings of our MIND")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; exit code 1 when --check finds something off, 2 for a user's mistake."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv, argparse.Namespace(argv=argv))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    off: list[str] = []

    def work() -> None:
        plan = _plan(arguments)
        _check_place(arguments.out)
        earlier = read_report(arguments.keep) if arguments.keep else None
        results = run_plan(plan, arguments.work.resolve(), arguments.jobs)
        report = _report(arguments, plan, results)
        _write(merged(earlier, report) if earlier else report, arguments.out)
        if arguments.check:
            for data in plan.data:
                off.extend(differences(plan.expected, data, results[data.name].methods))
            say("\n".join(f"off: {line}" for line in off) or f"all as {FILE.name} has it")

    return run(work) or int(bool(off))


def _plan(arguments: argparse.Namespace) -> Plan:
    for name in arguments.methods:
        if name not in NAMES:
            hint = nearest(name, NAMES)
            raise SettingsError(f"--methods {name}: no such method{hint}; of {', '.join(NAMES)}")
    for name in ("seeds", "jobs", "paddlerec_batches"):
        if getattr(arguments, name) < 1:
            raise SettingsError(f"--{name} {getattr(arguments, name)}: expected 1 or more")
    checkout = arguments.paddlerec
    if checkout and not (checkout / "models/recall/mind/config.yaml").exists():
        raise SettingsError(f"--paddlerec {checkout}: no checkout of PaddleRec")
    settings = load_settings(mind.OURS, arguments.opt)  # a misspelt -o ends here, before any work
    data = [open_data(pair, arguments.work.resolve()) for pair in arguments.data]
    if len({log.name for log in data}) < len(data):
        raise SettingsError(f"--data {' '.join(arguments.data)}: each needs a name of its own")
    return Plan(
        data=data,
        methods=arguments.methods,
        seeds=arguments.seeds,
        maxlen=settings.hyper_parameters["maxlen"],
        options=arguments.opt,
        paddlerec=checkout and checkout.resolve(),
        paddlerec_batches=arguments.paddlerec_batches,
        retune=arguments.retune,
        expected=read_expected(),
    )


def _files(out: Path) -> dict[str, Path]:
    return {kind: out.with_name(f"{out.name}.{kind}") for kind in ("md", "json", "png")}


def _check_place(out: Path) -> None:
    """An output that cannot be written ends the run before it begins."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for file in _files(out).values():
            with file.open("ab"):
                pass
            if not file.stat().st_size:
                file.unlink()
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written: {error.strerror}") from error


def _report(
    arguments: argparse.Namespace, plan: Plan, results: dict[str, LogQuality]
) -> QualityReport:
    origin = Provenance(
        command=shlex.join(["python", "benchmarks/quality.py", *arguments.argv]),
        machine=machine(),
        versions=versions() | {name: version(name) for name in ("scipy", "implicit")},
    )
    data = {
        name: log.model_copy(update={"methods": with_provenance(log.methods, origin)})
        for name, log in results.items()
    }
    return QualityReport(
        format=1,
        command=origin.command,
        top_n=TOP_N,
        maxlen=plan.maxlen,
        seeds=list(range(1, plan.seeds + 1)),
        jobs=arguments.jobs,
        bootstrap=Bootstrap(resamples=RESAMPLES, seed=BOOTSTRAP_SEED, level=0.95),
        grids={
            method.title: {key: list(at) for key, at in (method.grid | method.after).items()}
            for name, method in METHODS.items()
            if name in plan.methods
        },
        data=data,
        machine=origin.machine,
        versions=origin.versions,
    )


def _write(report: QualityReport, out: Path) -> None:
    files, text = _files(out), markdown(report)
    as_json = json.dumps(report.model_dump(by_alias=True), indent=1) + "\n"
    for kind, content in (("md", text), ("json", as_json)):
        with replacing(files[kind]) as fresh:
            fresh.write_text(content, encoding="utf-8")
    draw(report, files["png"])
    print(text)
    say(f"written: {', '.join(map(str, files.values()))}")
