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
from quality_table import fusion, peer
from quality_table.baselines import METHODS
from quality_table.by_user import UserValues, file_beside, matching, read_values, write_values
from quality_table.comparisons import BOOTSTRAP_SEED, LEVEL, RESAMPLES, compared
from quality_table.data import open_data
from quality_table.expected import FILE, differences, read_expected, write_expected
from quality_table.measuring import run_plan
from quality_table.merge import merged, read_report, with_provenance
from quality_table.models import FILE as MODELS
from quality_table.models import OTHERS, ModelRows, read_models
from quality_table.picture import draw
from quality_table.pieces import say
from quality_table.plan import BASELINE_SEEDS, PEER_MINUTES, Plan
from quality_table.readme import write_readmes
from quality_table.render import markdown
from quality_table.results import (
    FORMAT,
    SHORT,
    TOP_N,
    Bootstrap,
    LogQuality,
    Provenance,
    QualityReport,
    Recommended,
)

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = """\
examples:
  python benchmarks/quality.py --data books=datasets/books --data sports=datasets/sports
  python benchmarks/quality.py --data books=datasets/books --paddlerec ../PaddleRec --check
  python benchmarks/quality.py --data mine=datasets/mine --methods mind sasrec ease --minutes 10

DIR is a folder made by datasets/amazonbook/prepare.py, or one with a raw interactions.csv, which is
then prepared. An interrupted run goes on where it stopped: finished trainings stay in --work."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"recall, ndcg and hitrate at {SHORT} and {TOP_N} of all models of the zoo, of "
        "other people's, and of baselines tuned on valid, on the test users of click logs: tables, "
        "JSON and a picture.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", action="append", required=True, metavar="NAME=DIR", help="again for each log")
    add("--methods", nargs="+", metavar="NAME",
        help=f"{', '.join([*METHODS, *OTHERS])}, folders of models/recall (all)")  # fmt: skip
    add("--seeds", type=int, metavar="N",
        help=f"trainings of ALS, BPR (3) and models (as {MODELS.name} says)")  # fmt: skip
    add("--minutes", type=float, default=5.0, metavar="M",
        help="that a training of a model may take, its start and its looks at the valid users "
        "included: epochs beyond are left out beforehand; 0: no limit (5)")  # fmt: skip
    add("--jobs", type=int, default=2, metavar="N", help="trainings at a time, a thread each (2)")
    add("--paddlerec", type=Path, metavar="DIR", help="a checkout: its MIND is trained, too")
    add("--paddlerec_batches", type=int, default=3_000, metavar="N", help="its budget (3,000)")
    add("--peer_python", default=sys.executable, metavar="FILE",
        help="that has RecTools and PyTorch, for other people's models (this one)")  # fmt: skip
    add("--peer_minutes", type=float, metavar="M", help="of other people's models (as --minutes)")
    add("--remi", type=Path, metavar="DIR",
        help="a checkout of REMI's authors: its ComiRec and REMI are trained, too")  # fmt: skip
    add("--retune", action="store_true", help=f"do not take parameters from {FILE.name}")
    add("--keep", type=Path, metavar="JSON",
        help="earlier results on the same clicks: their other rows and logs stay")  # fmt: skip
    add("--check", action="store_true", help=f"compare with {FILE.name}: exit code 1 if it is off")
    add("--publish", action="store_true",
        help=f"write what was measured into {FILE.name}, the best rows into READMEs")  # fmt: skip
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "quality", metavar="PATH")
    add("--work", type=Path, default=Path("output_quality"), metavar="DIR", help="kept for reruns")
    add(*("-o", "--opt"), nargs="*", action="extend", default=[], metavar="KEY=VALUE",
        help="settings of every model of the zoo, after those of its row")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; exit code 1 when --check finds something off, 2 for a user's mistake."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv, argparse.Namespace(argv=argv))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    off: list[str] = []

    def work() -> None:
        models = read_models()
        plan = _plan(arguments, models)
        _check_place(arguments.out)
        earlier = read_report(arguments.keep) if arguments.keep else None
        values = read_values(arguments.keep) if arguments.keep else {}
        results, fresh_values = run_plan(plan, arguments.work.resolve(), arguments.jobs)
        report = _report(arguments, plan, models, results)
        if earlier is not None:
            report, values = merged(earlier, report), matching(values, earlier)
        values |= fresh_values
        report = compared(report, values)
        _write(report, values, arguments.out)
        if arguments.check:
            for data in plan.data:
                off.extend(differences(plan.expected, data, results[data.name].methods))
            say("\n".join(f"off: {line}" for line in off) or f"all as {FILE.name} has it")
        if arguments.publish:
            write_expected(results)
            write_readmes(report, ROOT)

    return run(work) or int(bool(off))


def _plan(arguments: argparse.Namespace, models: ModelRows) -> Plan:
    names = [*METHODS, *OTHERS, *models.models]
    for name in arguments.methods or ():
        if name not in names:
            hint = nearest(name, names)
            raise SettingsError(f"--methods {name}: no such method{hint}; of {', '.join(names)}")
    for name in ("seeds", "jobs", "paddlerec_batches"):
        if (count := getattr(arguments, name)) is not None and count < 1:
            raise SettingsError(f"--{name} {count}: expected 1 or more")
    if not 0 <= arguments.minutes < float("inf"):
        raise SettingsError(f"--minutes {arguments.minutes}: expected 0 or more")
    peer_minutes = arguments.peer_minutes
    if peer_minutes is None:
        peer_minutes = arguments.minutes or PEER_MINUTES
    if not 0 < peer_minutes < float("inf"):
        raise SettingsError(f"--peer_minutes {peer_minutes}: expected more than 0")
    checkout = arguments.paddlerec
    if checkout and not (checkout / "models/recall/mind/config.yaml").exists():
        raise SettingsError(f"--paddlerec {checkout}: no checkout of PaddleRec")
    if arguments.remi and not (arguments.remi / "src/REMI.py").exists():
        raise SettingsError(f"--remi {arguments.remi}: no checkout of REMI")
    python = peer.absolute_python(arguments.peer_python)
    for name in peer.TRAINED.keys() & (arguments.methods or ()):
        without_checkout = peer.TRAINED[name].needs_checkout and not arguments.remi
        if not without_checkout and (lacks := peer.missing(name, python)):
            raise SettingsError(lacks)
    methods = arguments.methods or names
    maxlen = _history(arguments, models, methods)  # a misspelt -o ends here, before any work
    data = [open_data(pair, arguments.work.resolve()) for pair in arguments.data]
    if len({log.name for log in data}) < len(data):
        raise SettingsError(f"--data {' '.join(arguments.data)}: each needs a name of its own")
    return Plan(
        data=data,
        methods=methods,
        models=models.models,
        seeds=arguments.seeds,
        maxlen=maxlen,
        options=arguments.opt,
        minutes=arguments.minutes or None,
        paddlerec=checkout and checkout.resolve(),
        paddlerec_batches=arguments.paddlerec_batches,
        peer_python=python,
        remi=arguments.remi and arguments.remi.resolve(),
        peer_minutes=peer_minutes,
        retune=arguments.retune,
        expected=read_expected(),
    )


def _history(arguments: argparse.Namespace, models: ModelRows, methods: Sequence[str]) -> int:
    """How many clicks of a history all rows see, which is that of the models' settings."""
    rows = {name: models.models[name] for name in methods if name in models.models}
    rows = rows or {models.recommended: models.models[models.recommended]}
    lengths = {
        name: load_settings(row.yaml, [*row.options, *arguments.opt]).hyper_parameters["maxlen"]
        for name, row in rows.items()
    }
    if len(set(lengths.values())) > 1:
        words = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise SettingsError(f"hyper_parameters.maxlen: rows differ ({words}): no fair comparison")
    return int(next(iter(lengths.values())))


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
    arguments: argparse.Namespace,
    plan: Plan,
    models: ModelRows,
    results: dict[str, LogQuality],
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
    row = models.models[models.recommended]
    return QualityReport(
        format=FORMAT,
        command=origin.command,
        recommended=Recommended(
            method=models.recommended,
            folder=str(row.yaml.parent.relative_to(ROOT)),
            options=row.options,
        ),
        minutes=plan.minutes,
        top_n=TOP_N,
        maxlen=plan.maxlen,
        seeds=list(range(1, (plan.seeds or BASELINE_SEEDS) + 1)),
        jobs=arguments.jobs,
        bootstrap=Bootstrap(resamples=RESAMPLES, seed=BOOTSTRAP_SEED, level=LEVEL),
        grids={
            method.title: {key: list(at) for key, at in (method.grid | method.after).items()}
            for name, method in METHODS.items()
            if name in plan.methods
        }
        | fusion.grid_of(plan.methods),
        data=data,
        machine=origin.machine,
        versions=origin.versions,
    )


def _write(report: QualityReport, values: UserValues, out: Path) -> None:
    files, text = _files(out), markdown(report)
    as_json = json.dumps(report.model_dump(by_alias=True), indent=1) + "\n"
    for kind, content in (("md", text), ("json", as_json)):
        with replacing(files[kind]) as fresh:
            fresh.write_text(content, encoding="utf-8")
    write_values(matching(values, report), files["json"])
    draw(report, files["png"])
    print(text)
    say(f"written: {', '.join(map(str, [*files.values(), file_beside(files['json'])]))}")
