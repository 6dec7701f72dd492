# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``tools/rank.py``."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence

from paddlerec_milvus.command import model_parser, read_settings, run
from paddlerec_milvus.errors import redacted
from paddlerec_milvus.ranking.features import ALL_GROUPS
from paddlerec_milvus.ranking.files import RANKER_FILES
from paddlerec_milvus.ranking.samples import LISTS, ROUNDS
from paddlerec_milvus.subcommands import CommandParser, as_typed
from paddlerec_milvus.trained_model import TrainedModel, checkpoint_of

THREADS = 0  # as many as OpenMP takes by itself: OMP_NUM_THREADS, and the cores of this process
EXAMPLES = """\
examples:
  python -u tools/rank.py -m mind/config.yaml
  python -u tools/rank.py -m mind_unseen/config.yaml --data datasets/mine --show 3
  python -u tools/rank.py -m mind/config.yaml --without popularity category   # what do they give?
  python -u tools/rank.py -m mind_unseen/config.yaml --data datasets/mine --ranker trees
  python -u tools/rank.py -m mind/config.yaml -o ranking.quotas.popular=100 ranking.quotas.new=0
  python -u tools/infer.py -m mind_unseen/config.yaml --data datasets/mine --best --rank   # then

Candidates come from several channels: the interests of the vector model, what followed the last
clicks in the log (transitions), what the same users clicked (neighbours), popular items, and of a
log that was split by time rising and new ones. ranking.quotas.CHANNEL says how many a channel gives
at most, 0: none; the ranker keeps these numbers. DIN orders the candidates, a network that weighs a
user's clicks for each of them (models/rank/din/config_ranker.yaml), or boosted trees. They learn
from the valid users, whom the vector model has not seen, and start from the vector model's own
order. What is written, the folder ranking/ beside rec.pdparams, serves
that checkpoint alone.
"""


def _parser() -> CommandParser:
    parser = model_parser(
        "Train channels and a ranker for a trained vector model.",
        EXAMPLES,
    )
    parser.add_argument(
        "--epoch", default="", metavar="N", help="of the checkpoint (the best, else the last)"
    )
    parser.add_argument(
        "--ranker",
        choices=tuple(RANKER_FILES),
        default="din",
        help="what orders them: the network DIN, or boosted trees (din)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of lists and ranker (1)")
    parser.add_argument(
        "--lists",
        type=int,
        default=LISTS,
        metavar="N",
        help=f"learn from at most so many lists of valid users ({LISTS:,}); fewer take less time",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=ROUNDS,
        metavar="N",
        help="at most so many rounds of boosting, a tree each in every forest, or epochs of DIN "
        f"({ROUNDS})",
    )
    parser.add_argument(
        "--without",
        nargs="+",
        choices=tuple(ALL_GROUPS),
        default=[],
        metavar="GROUP",
        help=f"train without these features, to see what they give: {', '.join(ALL_GROUPS)}",
    )
    parser.add_argument(
        "--show",
        type=int,
        default=0,
        metavar="N",
        help="of so many test users show both orders side by side, and why (0)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and train; returns the exit code."""
    arguments = _parser().parse_args(argv)

    def work() -> None:
        settings = read_settings(arguments)
        folder = settings.path("infer_load_path")
        trained = TrainedModel(settings, checkpoint_of(folder, arguments.epoch, "--epoch "))
        # paddle: not for --help
        from paddlerec_milvus.ranking.ranker import described
        from paddlerec_milvus.ranking.training import train_ranking

        began = time.perf_counter()
        features = [
            name
            for group, names in ALL_GROUPS.items()
            for name in names
            if group not in arguments.without
        ]
        model = train_ranking(
            *(trained, arguments.seed, THREADS, features, arguments.ranker),
            most_lists=arguments.lists,
            rounds=arguments.rounds,
        )
        print(
            f"{described(model.ranker)} from {model.manifest.lists:,} lists in "
            f"{time.perf_counter() - began:.0f} s: {trained.checkpoint / 'ranking'}"
        )
        if arguments.show > 0:
            from paddlerec_milvus.ranking.shown_lists import shown_lists

            print(f"\n{shown_lists(model, trained, arguments.show)}\n")
        print(as_typed(f"next: python -u tools/infer.py {_same(arguments)} --rank"))

    return run(work)


def _same(arguments: argparse.Namespace) -> str:
    """The arguments by which tools/infer.py measures the same checkpoint."""
    words, options = ["-m", arguments.config_yaml], list(arguments.opt)
    if arguments.data is not None:
        words += ["--data", str(arguments.data)]
    if arguments.epoch.isdecimal():
        first = int(arguments.epoch)
        options += [f"runner.infer_start_epoch={first}", f"runner.infer_end_epoch={first + 1}"]
    else:
        words.append("--best")
    return redacted(shlex.join([*words, *(["-o", *options] if options else [])]))
