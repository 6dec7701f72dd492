# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``python -m paddlerec_milvus.serving.load_histories --data DIR``: the histories of a log, stored.

Each user of the log then gets a list at the first call. The train log is read as a stream, users
are written some hundreds at a time, and a run that was cut short is simply started again: a user
who is there already is passed over, and clicks that came through the service stay behind the log's.
A log that is not the one which the service serves is refused.
The service may run meanwhile. With histories in Redis it takes clicks as ever; with histories in
Milvus only one of both writes: this refuses where the service has taken clicks, and the other way.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from paddlerec_milvus.command import run
from paddlerec_milvus.data.files import data_files, open_bytes
from paddlerec_milvus.data.fingerprint import fingerprint_of
from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out
from paddlerec_milvus.data.id_map import IdMap, OwnId, read_item_ids, read_user_ids
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.data.prepared import Prepared, open_prepared
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.retrieval.base import IntArray
from paddlerec_milvus.retrieval.connection import OWN_ID_BYTES
from paddlerec_milvus.retrieval.redis_store import NO_INTERESTS
from paddlerec_milvus.retrieval.user_history import UserState, holds, is_storable, joined, trimmed
from paddlerec_milvus.retrieval.user_store import USERS_PER_CALL
from paddlerec_milvus.serving.history_archive import Change, HistoryArchive, Place, archive_of
from paddlerec_milvus.serving.item_index import ItemIndex
from paddlerec_milvus.serving.settings import ServiceSettings, settings_from_environment
from paddlerec_milvus.subcommands import CommandParser
from paddlerec_milvus.trained_model import identity_of_model

EXAMPLES = """\
examples:
  python -m paddlerec_milvus.serving.load_histories --data datasets/mine
  SERVING_HISTORIES=redis://127.0.0.1:6379/0 \\
    python -m paddlerec_milvus.serving.load_histories --data datasets/mine
"""

logger = logging.getLogger(__name__)


class History(NamedTuple):
    """All clicks of a user of the log."""

    user: int
    """Number in the folder's files."""
    items: list[int]
    """Numbers, oldest first."""


class LoadCounts(NamedTuple):
    """What became of the users of a log."""

    written: int
    present: int
    """Who were there already."""
    unusable: int
    """Whose ids are longer than Milvus takes here."""


def histories_of(folder: Path) -> Iterator[History]:
    """Every user of a prepared folder once, with all clicks: history and truths together.

    A user of several parts has them from the last one, which holds those of the others.
    DataError: the folder, or a file of it, cannot be read.
    """
    prepared = open_prepared(folder)
    done = np.empty(0, np.int64)
    for part in dict.fromkeys((prepared.test_dir, prepared.valid_dir)):
        users = read_held_out(part)
        yield from _held_out(users, done)
        done = np.union1d(done, users.user_ids)
        del users
    known = frozenset(done.tolist())
    yield from (one for one in _trained(prepared) if one.user not in known)


def _trained(prepared: Prepared) -> Iterator[History]:
    """The users of train/; the files that prepare.py writes hold one after the other."""
    if not prepared.meta:
        log = read_click_log(prepared.train_dir)
        for row, user in enumerate(log.user_ids.tolist()):
            yield History(user, log.items[log.indptr[row] : log.indptr[row + 1]].tolist())
        return
    for file in data_files(prepared.train_dir):
        with open_bytes(file) as lines:
            for user, clicks in groupby(map(_click, lines), itemgetter(0)):
                yield History(user, [item for _, item in clicks])


def _click(line: bytes) -> tuple[int, int]:
    try:
        user, item, _ = map(int, line.split(b","))
    except ValueError:
        raise DataError(f"train/: found {line[:60]!r}, expected uid,item,time") from None
    return user, item


def _held_out(users: HeldOutUsers, done: IntArray) -> Iterator[History]:
    new = ~np.isin(users.user_ids, done)
    for row in np.flatnonzero(new).tolist():
        past = users.history[users.history_indptr[row] : users.history_indptr[row + 1]]
        later = users.truths[users.truth_indptr[row] : users.truth_indptr[row + 1]]
        yield History(int(users.user_ids[row]), [*past.tolist(), *later.tolist()])


class WrittenUsers(NamedTuple):
    """Of a call."""

    written: int
    busy: list[OwnId]
    """Who clicked meanwhile: not written."""


class HistoryLoader:
    """Writes the histories of a log to ``archive``; its numbers are ``users`` and ``items``."""

    def __init__(self, archive: HistoryArchive, users: IdMap, items: IdMap) -> None:
        self._archive, self._users, self._items = archive, users, items

    def load(self, histories: Sequence[History]) -> LoadCounts:
        """Write those of ``histories`` that are not there."""
        own = self._users.own_ids(one.user for one in histories)
        usable = {
            user: UserState(
                *(user, self._items.own_ids(one.items), len(one.items), ""), NO_INTERESTS
            )
            for user, one in zip(own, histories, strict=True)
            if is_storable(user)
        }
        fresh = self._write(usable)
        while fresh.busy:  # who clicked meanwhile
            again = self._write({user: usable[user] for user in fresh.busy})
            fresh = WrittenUsers(fresh.written + again.written, again.busy)
        return LoadCounts(fresh.written, len(usable) - fresh.written, len(histories) - len(usable))

    def _write(self, states: Mapping[OwnId, UserState]) -> WrittenUsers:
        stored = self._archive.read_all(list(states))
        changes: list[Change] = []
        for user, state in states.items():
            before = stored.get(user)
            if before is None or not holds(before, state.history, state.clicks):
                changes.append((trimmed(joined(state, before)), before))
        busy = self._archive.write_all(changes) if changes else []
        return WrittenUsers(len(changes) - len(busy), busy)


def load_histories(settings: ServiceSettings, folder: Path, *, force: bool = False) -> LoadCounts:
    """Load the histories of ``folder`` for the service of ``settings``.

    ``force``: whatever log the item vectors in Milvus are of.

    Raises:
        DataError: the folder is not that of the settings' model, or of another log than the one
            that the service serves, or cannot be read.
        RetrievalError: Milvus is away or refuses. What was written stays.
    """
    trained = settings.newest()
    own = fingerprint_of(folder)
    data = trained.data_identity()
    if data is None or data.fingerprint != own:
        raise DataError(_other_log(folder, own, str(identity_of_model(trained, ""))))
    if not force:
        _require_served(settings, folder, own)
    trained.require_fit()
    total = LoadCounts(0, 0, 0)
    place: Place = "redis" if settings.histories.get_secret_value() else "milvus"
    with archive_of(settings, place) as archive:
        loader = HistoryLoader(archive, read_user_ids(folder), read_item_ids(folder))
        histories = histories_of(folder)
        with tqdm(desc="histories", unit="user", disable=None) as bar:
            while part := list(islice(histories, USERS_PER_CALL)):
                counts = loader.load(part)
                total = LoadCounts(*(a + b for a, b in zip(total, counts, strict=True)))
                bar.update(len(part))
    return total


def _require_served(settings: ServiceSettings, folder: Path, own: str) -> None:
    """DataError: the item vectors that a service finds in Milvus are of another log."""
    index = ItemIndex(settings.model, settings.model.milvus.timeout)
    try:
        version = index.serving()
    finally:
        index.disconnect()
    if version is not None and version.identity.data_fingerprint not in ("", own):
        raise DataError(_other_log(folder, own, str(version.identity)))


def _other_log(folder: Path, own: str, served: str) -> str:
    return (
        f"{folder}: is the log '{folder.resolve().name}' (fingerprint {own}), and the service "
        f"serves another: {served}. Nothing was written. Give --data and SERVING_DATA of that log; "
        "or, if you know that these users and items are the same, --force"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 2 for a user's mistake."""
    parser = CommandParser(
        prog="python -m paddlerec_milvus.serving.load_histories",
        description="Load the histories of a prepared log into the user store of the service that "
        "the SERVING_… variables and MILVUS_URI describe. May be run again: it goes on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a prepared folder")
    parser.add_argument("--force", action="store_true", help="though the service serves other data")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.data

    def work() -> None:
        own = {"SERVING_DATA": str(folder)}
        environment = {**os.environ, **own} if arguments.force else {**own, **os.environ}
        settings = settings_from_environment(environment)
        counts = load_histories(settings, folder, force=arguments.force)
        print(
            f"{counts.written:,} users written, {counts.present:,} were there, "
            f"{counts.written + counts.present + counts.unusable:,} in the log"
        )
        if counts.unusable:
            print(
                f"warning: {counts.unusable:,} users have ids above {OWN_ID_BYTES} bytes and were "
                "left out",
                file=sys.stderr,
            )

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
