# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of ``tools/batch.py``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlerec_milvus.batch.shares import Share
from paddlerec_milvus.command import model_parser, read_settings, run
from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.data.fingerprint import fingerprint_of
from paddlerec_milvus.data.id_map import read_item_ids, user_kind
from paddlerec_milvus.errors import DataError, SettingsError
from paddlerec_milvus.export.exported_model import ExportedModel, read_export
from paddlerec_milvus.export.manifest import USERS
from paddlerec_milvus.ranking.files import FOLDER as RANKING
from paddlerec_milvus.ranking.files import read_manifest as read_ranking
from paddlerec_milvus.retrieval.base import checked_k
from paddlerec_milvus.retrieval.indexes import index_of_settings
from paddlerec_milvus.trained_model import TrainedModel, checkpoint_of

if TYPE_CHECKING:
    from paddlerec_milvus.batch.histories import UserClicks
    from paddlerec_milvus.batch.lists import ListOptions

PART_USERS = 10_000
EXAMPLES = """\
examples:
  python -u tools/batch.py -m mind/config.yaml --data datasets/mine --out lists
  python -u tools/batch.py -m mind/config.yaml --data datasets/mine --rank --out lists --share 3/8
  python -u tools/batch.py --export exports/mine --histories users.parquet --exact --out lists
  MILVUS_URI=http://127.0.0.1:19530 python -u tools/batch.py --export exports/mine \\
    --data datasets/mine --to-milvus lists_20260131

Without --histories the users are all of the prepared folder, with all of their clicks. A FILE has a
click a row (columns for user and item, and time or their order), or a user a row (user, and items:
lists, or ids between spaces); who has two rows of the second kind is refused. Items that the model
does not know are left out of histories.

A job that was stopped, however that was, goes on with the same command, and what it leaves is what
it would have left at once. Shares are of users, by their ids: 1/8 to 8/8 have each of them once,
may have one --out, and run at the same time, on several machines.
"""


def _parser() -> argparse.ArgumentParser:
    parser = model_parser(
        "The lists of all users: to parquet, or into Milvus, where they can be had by user id.",
        EXAMPLES,
        data="the prepared folder: its users are those whose lists are made",
        required=False,
    )
    parser.add_argument(
        "--export", type=Path, metavar="DIR", help="in place of -m: needs no paddle"
    )
    parser.add_argument(
        "--epoch", default="", metavar="N", help="of the checkpoint (the best, else the last)"
    )
    parser.add_argument("--best", action="store_true", help="the best epoch, and no other")
    parser.add_argument("--histories", type=Path, metavar="FILE", help="a .parquet or .csv")
    parser.add_argument(
        "-top_k", "--top_k", type=int, default=50, metavar="N", help="length of a list (50)"
    )
    parser.add_argument("--rank", action="store_true", help="by the ranker beside the model")
    parser.add_argument("--exact", action="store_true", help="search in numpy, without Milvus")
    parser.add_argument(
        "--exclude-history",
        action="store_true",
        help="leave out what the user has clicked (retrieval.exclude_history); ranked lists do",
    )
    parser.add_argument(
        "--without-popular",
        action="store_true",
        help="no row for users without a known click, who otherwise get popular items",
    )
    parser.add_argument(
        "--details", action="store_true", help="also the columns interests and channels"
    )
    parser.add_argument(
        "--share", default="1/1", metavar="I/N", help="of the users, by their ids (1/1)"
    )
    parser.add_argument(
        "--part-users",
        type=int,
        default=PART_USERS,
        metavar="N",
        help=f"users of a part, which is made whole or again ({PART_USERS:,})",
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="DIR", help="a folder of parquet parts (zstd)")
    place.add_argument("--to-milvus", metavar="NAME", help="a collection with a row a user")
    return parser


def _trained(arguments: argparse.Namespace) -> TrainedModel:
    if (arguments.export is None) == (arguments.config_yaml is None):
        raise SettingsError("name the model, with -m YAML or with --export DIR")
    if arguments.export is not None:
        if arguments.epoch or arguments.best:
            raise SettingsError("--export: holds one epoch: leave out --epoch and --best")
        return read_export(arguments.export.resolve(), arguments.opt)
    if arguments.epoch and arguments.best:
        raise SettingsError("--best: and --epoch: give one of them")
    settings = read_settings(arguments)
    epoch = "best" if arguments.best else arguments.epoch
    option = "--best: " if arguments.best else "--epoch "
    return TrainedModel(settings, checkpoint_of(settings.path("infer_load_path"), epoch, option))


def _parameters(
    trained: TrainedModel, options: ListOptions, share: Share, arguments: argparse.Namespace
) -> dict[str, Any]:
    """All that the lists depend on."""
    settings, data = trained.settings, trained.data_identity()
    ranker = read_ranking(trained.checkpoint / RANKING).digest if options.rank else ""
    search = "exact" if options.exact else repr(index_of_settings(settings))
    return {
        "model": trained.name,
        "digest": trained.fingerprint(),
        "tower": _tower_digest(trained),
        "ranker": ranker,
        "data": "" if data is None else data.fingerprint,
        "histories": _histories_digest(trained, arguments),
        "search": f"{search}, {settings.retrieval.metric}",
        **{
            name: value
            for name, value in options._asdict().items()
            if name not in ("rank", "exact")
        },
        "shares": share.total,
        "part_users": arguments.part_users,
    }


def _tower_digest(trained: TrainedModel) -> str:
    """What parameters alone do not tell, such as how many clicks the tower looks at."""
    if isinstance(trained, ExportedModel):
        return f"{USERS}.onnx {trained.manifest.files[f'{USERS}.onnx'][:16]}"
    values = json.dumps(dict(trained.settings.hyper_parameters), sort_keys=True)
    return f"hyper_parameters {sha256(values.encode()).hexdigest()[:16]}"


def _histories_digest(trained: TrainedModel, arguments: argparse.Namespace) -> str:
    """What tells the histories from all others. DataError: a folder is not the model's data."""
    if arguments.histories is not None:
        return f"sha256 {sha256_of(arguments.histories)}"
    folder, known = _prepared(trained, arguments), trained.data_identity()
    own = fingerprint_of(folder)
    if known is not None and known.fingerprint != own:
        raise DataError(
            f"--data {folder}: is other data (fingerprint {own}) than the model's, {known}: its "
            "numbers of items are others. Give that folder, or own ids in --histories FILE"
        )
    return f"fingerprint {own}"


def _prepared(trained: TrainedModel, arguments: argparse.Namespace) -> Path:
    if arguments.export is None and trained.data is not None:
        return trained.data
    if arguments.data is None:
        raise SettingsError("an export has no histories: give --histories FILE or --data DIR")
    folder: Path = arguments.data.resolve()
    return folder


def _clicks(
    trained: TrainedModel, share: Share, arguments: argparse.Namespace, total: int
) -> UserClicks:
    from paddlerec_milvus.batch.histories import file_clicks, prepared_clicks

    if arguments.histories is None:
        clicks = prepared_clicks(_prepared(trained, arguments), total, share)
    else:
        ids, users = read_item_ids(trained.data), user_kind(trained.data)
        clicks = file_clicks(arguments.histories, ids, users, total, share)
    return clicks.with_clicks() if arguments.without_popular else clicks


def _work(arguments: argparse.Namespace) -> None:
    from paddlerec_milvus.batch.job import make_lists  # onnxruntime: not for --help
    from paddlerec_milvus.batch.lists import ListOptions, UserLists
    from paddlerec_milvus.batch.part_files import PartFolder
    from paddlerec_milvus.batch.stored_lists import StoredLists

    if arguments.part_users < 1:
        raise SettingsError(f"--part-users {arguments.part_users}: at least 1")
    if arguments.details and arguments.to_milvus:
        raise SettingsError("--details: are columns of parquet: leave it out with --to-milvus")
    share, trained = Share.parse(arguments.share), _trained(arguments)
    options = ListOptions(
        checked_k(arguments.top_k),
        arguments.rank,
        arguments.exact,
        arguments.exclude_history or arguments.rank or trained.settings.retrieval.exclude_history,
        not arguments.without_popular,
        arguments.details,
    )
    parameters = _parameters(trained, options, share, arguments)
    with ExitStack() as stack:
        folder = None
        if arguments.out is not None:
            folder = stack.enter_context(PartFolder(arguments.out.resolve(), parameters, share))
            if (manifest := folder.finished) is not None:
                print(f"finished already, nothing to do: {manifest.words()}: {folder}")
                return
        lists = stack.enter_context(UserLists.open(trained, options, insert=True))
        trained.require_still(parameters["digest"])
        clicks = _clicks(trained, share, arguments, lists.model.total)
        if folder is not None:
            make_lists(lists, clicks, folder, arguments.part_users)
            print(f"{folder.finish(clicks.unknown).words()}: {folder}")
            return
        kinds = clicks.kind, lists.model.ids.kind
        stored = StoredLists(trained.settings, arguments.to_milvus, parameters, *kinds)
        stack.enter_context(stored)
        written = make_lists(lists, clicks, stored, arguments.part_users)
        said = f"{written:,} lists written" if written else "finished already, nothing to do"
        print(f"{said}; share {arguments.share} has {len(clicks.users):,} users: {stored}")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and make lists; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return run(lambda: _work(arguments))
