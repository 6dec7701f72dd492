# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``tools/infer.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paddlerec_milvus.command import model_parser, read_settings, run
from paddlerec_milvus.config import OWN_SECTIONS
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.evaluation.plots_png import draw
from paddlerec_milvus.evaluation.report import (
    TITLES,
    OwnIds,
    check_place,
    make_report,
    table,
    write_json,
    write_lists,
)
from paddlerec_milvus.settings import Settings

EXAMPLES = """\
examples:
  python -u tools/infer.py -m mind/config.yaml -top_n 50
  python -u tools/infer.py -m mind/config.yaml --best     # the best epoch on the valid users
  python -u tools/infer.py -m mind/config.yaml -top_n 50 --baselines --report out/report.json
  python -u tools/infer.py -m mind/config.yaml -o index.type=IVF_FLAT index.nlist=128 index.nprobe=8
  python -u tools/infer.py -m mind/config.yaml --best --rank   # after tools/rank.py
  MILVUS_URI=http://127.0.0.1:19530 python -u tools/infer.py -m mind/config.yaml
  python -u tools/infer.py -m /path/to/PaddleRec/models/rank/deepfm/config.yaml

recall, ndcg and hitrate say how good the lists are, against held-out clicks. index_recall says how
much of the exact list the index returned, and nothing of relevance.

The second table says what a user's interests do. cosine: how alike they are; dead: how many bring
nothing to the list or repeat an earlier one; share: what each brings, a user's largest first. For
lists and held-out clicks: coverage of the catalogue, gini of exposure (0: all items alike), mean
popularity rank (0 %: the most popular), and, with categories in items.csv, category_diversity: the
share of pairs of a list's items that differ in category.

A ranking, match or multitask folder is evaluated by its own metrics (AUC and the like) and by the
mean over rows of what its infer_forward prints. PaddleRec's infer.py drops the last part of a batch
and, without runner.use_auc, adds up the rows of all epochs; here all rows count, and each epoch
starts anew. With one epoch and an infer_batch_size that divides the rows the metrics are the same.
"""

_CHOSE_EPOCH = """\
warning: --best: the epoch was chosen on the very users that are measured, since the folder has no
warning: test/ (runner.test_data_dir is runner.valid_data_dir): its figures are too good. For a fair
warning: test give the folder a test/ of other users"""


def _parser() -> argparse.ArgumentParser:
    parser = model_parser(
        "Put a checkpoint's item vectors into Milvus, search with all interests of every test "
        "user, merge, and measure the lists. A folder without item vectors: by its own metrics.",
        EXAMPLES,
    )
    parser.add_argument("-top_n", "--top_n", type=int, metavar="N", help="length of a list (50)")
    add_search_options(parser)
    parser.add_argument(
        "--baselines",
        nargs="*",
        choices=tuple(TITLES),
        metavar="NAME",
        help="also measure these, from the clicks of runner.train_data_dir: "
        f"{', '.join(TITLES)}; without names all but transitions, which know order",
    )
    parser.add_argument(
        "--rank",
        action="store_true",
        help="also measure the ranker that tools/rank.py trained for the checkpoint: lists of 10 "
        "and 50 before and after, what each channel brought",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.json",
        help="write all numbers, settings and versions there, and of lists a picture beside it "
        "(.png)",
    )
    parser.add_argument(
        "--lists",
        type=Path,
        metavar="FILE.jsonl",
        help="write the last epoch's list of every test user there, in the log's own ids: "
        '{"user": 7, "items": [43, …]}',
    )
    return parser


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """How lists are searched for, and of which epoch: ``--exact`` and ``--best``."""
    parser.add_argument(
        "--exact", action="store_true", help="search exactly in numpy, without Milvus"
    )
    parser.add_argument(
        "--best",
        action="store_true",
        help="evaluate the epoch that did best on the valid users (runner.valid_data_dir) instead "
        "of runner.infer_start_epoch to infer_end_epoch",
    )


def _refuse_list_options(arguments: argparse.Namespace, model_dir: Path) -> None:
    """UserError where an option of lists, or a setting of their search, is set by hand."""
    options = [] if arguments.top_n is None else ["-top_n"]
    names = ("exact", "best", "baselines", "rank", "lists")
    options += [f"--{name}" for name in names if getattr(arguments, name) not in (None, False)]
    keys = [text.strip().partition("=")[0] for text in arguments.opt]
    options += [key for key in keys if key.partition(".")[0] in OWN_SECTIONS]
    if options:
        raise UserError(
            f"{model_dir}: has no item vectors to make lists of and is evaluated by its own "
            f"metrics: leave out {', '.join(options)}"
        )


def _own_metrics(settings: Settings, arguments: argparse.Namespace) -> bool:
    """Evaluate a folder by its own metrics; False, and nothing done: it is one to be searched."""
    from paddlerec_milvus.device import use_device  # paddle: not for --help
    from paddlerec_milvus.evaluation import forward_metrics
    from paddlerec_milvus.forward import ForwardModel

    use_device(settings)
    model = ForwardModel(settings)
    if model.searched:
        return False
    _refuse_list_options(arguments, settings.model_dir)
    report = forward_metrics.measure(model)
    print(forward_metrics.table(report))
    if arguments.report is not None:
        write_json(report.model_dump(), arguments.report)
        print(f"report: {arguments.report}")
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and evaluate; returns the exit code."""
    arguments = _parser().parse_args(argv)

    def work() -> None:
        settings = read_settings(arguments)
        if arguments.report is not None:
            check_place(arguments.report)
        if _own_metrics(settings, arguments):
            return
        if arguments.lists is not None:
            check_place(arguments.lists, "--lists", ".jsonl")
            ids = OwnIds.beside(settings.path("test_data_dir"))
        # paddle: not for --help
        from paddlerec_milvus.evaluation.evaluator import ORDER_BLIND, Evaluation

        top_n = 50 if arguments.top_n is None else arguments.top_n
        evaluation = Evaluation(
            settings, top_n, arguments.exact, arguments.best, rank=arguments.rank
        )
        if evaluation.held_out.chose_epoch:
            print(_CHOSE_EPOCH, file=sys.stderr)
        epochs = evaluation.epochs()
        names = arguments.baselines
        baselines = {} if names is None else evaluation.baselines(names or ORDER_BLIND)
        report = make_report(
            *(settings, top_n, epochs, baselines, evaluation.held_out),
            exact=arguments.exact,
        )
        print(table(report))
        if report.last.ranking is not None:
            from paddlerec_milvus.evaluation.ranking_report import ranking_table

            print(f"\n{ranking_table(report.last.ranking)}")
        if arguments.lists is not None:
            write_lists(evaluation.users.user_ids, evaluation.lists, arguments.lists, ids)
            print(f"lists: {arguments.lists}")
        if arguments.report is not None:
            picture = arguments.report.with_suffix(".png")
            write_json(report.model_dump(), arguments.report)
            draw(report, picture)
            print(f"report: {arguments.report}, picture: {picture}")

    return run(work)
