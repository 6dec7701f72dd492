# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``make demo``: the commands of README's first steps, one after the other."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paddlerec_milvus.command import run, settings_for
from paddlerec_milvus.data.catalogue import read_item_details
from paddlerec_milvus.data.cli import report as prepared_report
from paddlerec_milvus.data.prepare import prepare
from paddlerec_milvus.demo.books import BOOKS, CLICKS, SOURCE
from paddlerec_milvus.demo.example_users import MARK, USERS, in_words, varied_users
from paddlerec_milvus.errors import CheckpointError, redacted
from paddlerec_milvus.evaluation.report import check_place
from paddlerec_milvus.ranking.cli import THREADS
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.subcommands import CommandParser, as_typed

if TYPE_CHECKING:  # it needs paddle
    from paddlerec_milvus.evaluation.evaluator import Evaluation

YAML, OWN_YAML = "mind_unseen/config_demo.yaml", "mind_unseen/config.yaml"
BASELINES = ("most_popular", "item_knn", "transitions")
TOP_N = 50
RANKED_LISTS, ROUNDS = 300, 15  # of the ranker: seconds instead of minutes, and most of the gain
STEPS = (
    "the books and their readers, split",
    "training",
    "a ranker beside it, from the clicks of the valid users, and what it gives the test users",
    "item vectors into Milvus, lists of the test users, and of baselines",
    f"the {USERS} test users whose interests differ most ({MARK}: later read)",
)

ABOUT = """\
Real books from their click log to recommendations: prepare the log that comes with the package,
train a model and a ranker, put the item vectors into Milvus Lite, measure the lists of test users
beside baselines, and show what two of these users read and what they would be shown. All on this
machine."""

EXAMPLES = """\
examples:
  paddlerec-milvus demo                          # all in demo/
  paddlerec-milvus demo --out elsewhere -o runner.seed=7

A second run goes on where the first one stopped, and ends soon where it was done.
The log is a cut of goodbooks-10k, CC BY-SA 4.0: see NOTICE.
"""


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo"),
        metavar="DIR",
        help="where the prepared books, the report and its picture go (default: demo)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="prepare the books anew, where DIR has others"
    )
    parser.add_argument(
        *("-o", "--opt"),
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help=f"override settings of {YAML}, as for training",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare, train, measure, show; returns the exit code (2: a user's mistake, 130: Ctrl-C)."""
    arguments = _parser().parse_args(argv)
    return run(lambda: _demo(arguments.out, arguments.opt, overwrite=arguments.overwrite))


def _demo(out: Path, options: Sequence[str], *, overwrite: bool) -> None:
    began, data, report = time.perf_counter(), out / "books", out / "report.json"
    check_place(report, "--out")
    same = f"-m {YAML} --data {shlex.quote(str(data))}"
    if options:
        same += f" -o {redacted(shlex.join(options))}"
    try:
        log = f"--interactions {_near(CLICKS)} --items {_near(BOOKS)}"
        _head(1, f"datasets/amazonbook/prepare.py {log} --out {shlex.quote(str(data))}")
        print(prepared_report(prepare(SOURCE, data, overwrite=overwrite)).rpartition("\n")[0])
        _head(2, f"-u tools/trainer.py {same} --resume")
        settings = settings_for(YAML, options, data)
        _train(settings)
        learned = f"-u tools/rank.py {same} --lists {RANKED_LISTS} --rounds {ROUNDS}"
        _head(3, learned, f"-u tools/infer.py {same} --best --exact --rank")
        _rank(settings)
        measured = f"--best -top_n {TOP_N} --baselines {' '.join(BASELINES)}"
        _head(4, f"-u tools/infer.py {same} {measured} --report {shlex.quote(str(report))}")
        evaluation = _evaluate(settings, report)
        _head(5)
        print(in_words(varied_users(evaluation), read_item_details(data)), flush=True)
    except KeyboardInterrupt as stopped:
        words = str(stopped).partition(";")[0] or "interrupted, and what was done is there"
        raise KeyboardInterrupt(f"{words}; the same command goes on") from None
    print(_next(data, report, time.perf_counter() - began))


def _head(number: int, *scripts: str) -> None:
    """Say which step begins, and the commands that do the same."""
    print(f"\n{number} of {len(STEPS)}: {STEPS[number - 1]}", flush=True)
    for script in scripts:
        print(as_typed(f"    python {script}"), flush=True)


def _near(file: Path) -> str:
    """A path from the working directory, where it lies below that."""
    below = file.is_relative_to(Path.cwd())
    return shlex.quote(str(file.relative_to(Path.cwd()) if below else file))


def _train(settings: Settings) -> None:
    """Train, or go on with the very run that the checkpoints there are of."""
    from paddlerec_milvus.checkpoint_record import read_record
    from paddlerec_milvus.training.checkpoint import newest
    from paddlerec_milvus.training.trainer import Trainer
    from paddlerec_milvus.zoo import ModelFolder

    trainer = Trainer(settings, ModelFolder(settings.model_dir))
    checkpoint = newest(trainer.save_path)
    before = None if checkpoint is None else read_record(checkpoint)
    trainer.resume = before is not None and before.run == trainer.run_folder.record.run
    trainer.run()


def _rank(settings: Settings) -> None:
    """Train a ranker for the best epoch, unless one that fits is there, and measure it."""
    from paddlerec_milvus.encoder import loaded_encoder
    from paddlerec_milvus.evaluation.evaluator import Evaluation
    from paddlerec_milvus.evaluation.ranking_report import short_ranking_table
    from paddlerec_milvus.ranking.ranker import described
    from paddlerec_milvus.ranking.training import ranking_beside, train_ranking
    from paddlerec_milvus.trained_model import TrainedModel, checkpoint_of

    trained = TrainedModel(settings, checkpoint_of(settings.path("infer_load_path"), "", ""))
    try:
        model = ranking_beside(trained, loaded_encoder(*trained).item_vectors())
    except CheckpointError:
        model = train_ranking(
            trained, threads=THREADS, kind="trees", most_lists=RANKED_LISTS, rounds=ROUNDS
        )
    ranker = described(model.ranker).splitlines()[-1]
    print(f"{ranker} from {model.manifest.lists} lists: {trained.checkpoint}")
    (epoch,) = Evaluation(settings, TOP_N, exact=True, best=True, rank=True).epochs().values()
    if epoch.ranking is not None:
        print(f"\n{short_ranking_table(epoch.ranking)}")


def _evaluate(settings: Settings, file: Path) -> Evaluation:
    """Measure the best epoch and the baselines, print the table, write report and picture."""
    from paddlerec_milvus.evaluation.evaluator import Evaluation
    from paddlerec_milvus.evaluation.plots_png import draw
    from paddlerec_milvus.evaluation.report import make_report, table, write_json

    evaluation = Evaluation(settings, TOP_N, best=True)
    epochs, baselines = evaluation.epochs(), evaluation.baselines(BASELINES)
    report = make_report(settings, TOP_N, epochs, baselines, evaluation.held_out, exact=False)
    print(table(report))
    write_json(report.model_dump(), file)
    draw(report, file.with_suffix(".png"))
    print(f"report: {file}, picture: {file.with_suffix('.png')}", flush=True)
    return evaluation


def _next(data: Path, report: Path, seconds: float) -> str:
    """The last words: how long it took, and commands to go on with."""
    minutes, rest = divmod(round(seconds), 60)
    programs = Path(sys.executable).parent
    on_path = Path(shutil.which("python") or "").parent == programs
    where = "" if on_path else f", with the programs in {_near(programs)}"
    return as_typed(f"""
done in {minutes} min {rest} s. Next{where}:
  look at {report.with_suffix(".png")}, and at {report} for every number and setting
  candidates over HTTP, and a page with these books (in a checkout: make serve):
    python -m paddlerec_milvus.serving -m {YAML} --data {shlex.quote(str(data))}
  your own clicks:
    python datasets/amazonbook/prepare.py --interactions clicks.csv --out datasets/mine
    python -u tools/trainer.py -m {OWN_YAML} --data datasets/mine
    python -u tools/infer.py -m {OWN_YAML} --data datasets/mine --best --baselines
  a real Milvus, in a second terminal; then export MILVUS_URI as it says:
    python -m paddlerec_milvus.retrieval.server""")
