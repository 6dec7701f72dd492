# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``python -m paddlerec_milvus.serving.load_histories --data DIR``: a log's histories into Milvus.

Each user of the log then gets a list at the first call. The train log is read as a stream, users
are written some hundreds at a time, and a run that was cut short is simply started again: a user
who is there already is passed over, and clicks that came through the service stay behind the log's.
The service may run meanwhile, but should not take clicks: it would not see what is written here.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from paddlerec_milvus.command import run
from paddlerec_milvus.data.files import data_files, open_bytes
from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.id_map import IdMap, OwnId, read_item_ids, read_user_ids
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.data.prepared import Prepared, open_prepared
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.retrieval.base import IntArray
from paddlerec_milvus.retrieval.connection import OWN_ID_BYTES
from paddlerec_milvus.retrieval.user_store import (
    USERS_PER_CALL,
    UserState,
    UserStore,
    last_clicks,
)
from paddlerec_milvus.serving.async_user_store import milvus_users
from paddlerec_milvus.serving.settings import ServiceSettings, settings_from_environment
from paddlerec_milvus.serving.tower import CheckpointTower, UserTower

logger = logging.getLogger(__name__)

CALL_SECONDS = 60.0  # a call of some hundred users takes longer than a request may


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


class HistoryLoader:
    """Writes histories to ``store``, with the interests that ``tower`` makes of them."""

    def __init__(self, store: UserStore, tower: UserTower, users: IdMap, items: IdMap) -> None:
        self._store, self._tower = store, tower
        self._users, self._items = users, items

    def load(self, histories: Sequence[History]) -> LoadCounts:
        """Write those of ``histories`` that are not there, in one call."""
        own = self._users.own_ids(one.user for one in histories)
        usable = [
            (user, one) for user, one in zip(own, histories, strict=True) if _is_storable(user)
        ]
        stored = self._store.read_all([user for user, _ in usable])
        fresh = []
        for user, one in usable:
            items, before = self._items.own_ids(one.items), stored.get(user)
            if before is None or not _holds(before, items):
                fresh.append((user, items, before))
        if fresh:
            self._write(fresh)
        return LoadCounts(len(fresh), len(usable) - len(fresh), len(histories) - len(usable))

    def _write(self, fresh: Sequence[tuple[OwnId, list[OwnId], UserState | None]]) -> None:
        whole = [[*items, *(before.history if before else [])] for _, items, before in fresh]
        numbers = [[self._items.number(item) or 0 for item in one] for one in whole]
        known = [[n for n in one if 1 <= n <= self._tower.items] for one in numbers]
        padded, lengths = pad_histories(known, self._tower.maxlen)
        interests = self._tower.interests(padded, np.maximum(lengths, 1))
        new = []
        for place, (user, items, before) in enumerate(fresh):
            clicks = len(items) + (before.clicks if before else 0)
            state = UserState(
                *(user, last_clicks(whole[place]), clicks),
                self._tower.fingerprint,
                interests[place],
            )
            if before is None:
                new.append(state)
            else:
                self._store.write(state, before)
        if new:
            self._store.write_new(new)


def _is_storable(user: OwnId) -> bool:
    return isinstance(user, int) or 0 < len(user.encode()) <= OWN_ID_BYTES


def _holds(state: UserState, items: list[OwnId]) -> bool:
    """Whether the log's ``items`` are in a stored history, before what has been clicked since."""
    since = state.clicks - len(items)
    if since < 0:
        return False
    of_log = state.history[: max(0, len(state.history) - since)]
    return of_log == items[len(items) - len(of_log) :]


def load_histories(settings: ServiceSettings, folder: Path) -> LoadCounts:
    """Load the histories of ``folder`` for the service of ``settings``.

    Raises:
        DataError: the folder is not that of the settings' model, or cannot be read.
        RetrievalError: Milvus is away or refuses. What was written stays.
    """
    trained = settings.newest()
    if trained.data is None or trained.data.resolve() != folder.resolve():
        raise DataError(
            f"{folder}: the service's model belongs to {trained.data}; set SERVING_DATA to the "
            "folder whose histories you load"
        )
    trained.require_fit()
    tower = CheckpointTower(trained, threading.Lock())
    total = LoadCounts(0, 0, 0)
    patient = settings.model_copy(update={"timeout": max(CALL_SECONDS, settings.timeout)})
    with closing(milvus_users(patient)) as store:
        loader = HistoryLoader(store, tower, read_user_ids(folder), read_item_ids(folder))
        histories = histories_of(folder)
        with tqdm(desc="histories", unit="user", disable=None) as bar:
            while part := list(islice(histories, USERS_PER_CALL)):
                counts = loader.load(part)
                total = LoadCounts(*(a + b for a, b in zip(total, counts, strict=True)))
                bar.update(len(part))
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 2 for a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m paddlerec_milvus.serving.load_histories",
        description="Load the histories of a prepared log into the user store of the service that "
        "the SERVING_… variables and MILVUS_URI describe. May be run again: it goes on.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a prepared folder")
    folder: Path = parser.parse_args(argv).data

    def work() -> None:
        environment = {**os.environ, "SERVING_DATA": str(folder)}
        counts = load_histories(settings_from_environment(environment), folder)
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
