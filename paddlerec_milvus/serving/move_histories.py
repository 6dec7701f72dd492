# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``python -m paddlerec_milvus.serving.move_histories --to redis``: histories from store to store.

From Milvus to the Redis of ``SERVING_HISTORIES``, or back with ``--to milvus``; some hundred users
at a time, each deleted in the one store after it has been written to the other. A user who is in
both keeps all clicks. A run that was cut short is simply started again. Services that take clicks
into the old store are stopped first: Milvus refuses otherwise, and who clicks in Redis meanwhile
stays there and is counted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from paddlerec_milvus.command import run, warn
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.user_history import (
    UserState,
    is_repeated,
    joined,
    tagged,
    token_of,
    trimmed,
)
from paddlerec_milvus.serving.history_archive import HistoryArchive, Place, archive_of
from paddlerec_milvus.serving.settings import ServiceSettings, settings_from_environment


class MoveCounts(NamedTuple):
    """What became of the users of a store."""

    moved: int
    clicks: int
    """That are stored of them now."""
    cut: int
    """Oldest clicks that were left out, as the other store does not take so many."""
    left: int
    """Who clicked meanwhile, and stay where they were."""


def move_histories(settings: ServiceSettings, to: Place) -> MoveCounts:
    """Move all users of the settings' collection ``to`` the other store.

    Raises:
        SettingsError: the settings name no Redis.
        RetrievalError: a store is away or refuses. Nobody is lost: start it again.
    """
    if not settings.histories.get_secret_value():
        raise SettingsError(
            "SERVING_HISTORIES: names no Redis; set it to the address of the one that histories "
            "are moved to, or from (redis://…)"
        )
    total = MoveCounts(0, 0, 0, 0)
    origin: Place = "milvus" if to == "redis" else "redis"
    with (
        archive_of(settings, origin) as source,
        archive_of(settings, to) as target,
        tqdm(desc=f"histories to {to}", unit="user", disable=None) as bar,
    ):
        for users in source.users():
            counts = _move(source, target, users)
            total = MoveCounts(*(a + b for a, b in zip(total, counts, strict=True)))
            bar.update(len(users))
    return total


def _move(source: HistoryArchive, target: HistoryArchive, users: list[OwnId]) -> MoveCounts:
    states = list(source.read_all(users).values())
    before = target.read_all([state.user for state in states])
    changes: dict[OwnId, tuple[UserState, UserState | None]] = {}
    cut = 0
    for state in states:
        known, mark = before.get(state.user), token_of("moved", [tagged(state.user), state.clicks])
        if known is not None and is_repeated(known.tokens, mark):
            continue  # a run that was cut short had written it
        whole = joined(state, known)
        fitting = trimmed(whole._replace(tokens=whole.tokens + mark))
        changes[state.user] = (fitting, known)
        cut += len(whole.history) - len(fitting.history)
    busy = set(target.write_all(list(changes.values()))) if changes else set()
    written = [state for state in states if state.user not in busy]
    left = set(source.remove_all(written)) if written else set()
    for user in left & changes.keys():  # written there without the last click: undone
        state, known = changes[user]
        if known is None:
            target.remove_all([state])
        else:
            target.write_all([(known, state)])
    moved = [state for state in written if state.user not in left]
    clicks = sum(len(state.history) for state in moved)
    return MoveCounts(len(moved), clicks, cut, len(left) + len(busy))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 2 for a user's mistake, 1 where users were left."""
    parser = argparse.ArgumentParser(
        prog="python -m paddlerec_milvus.serving.move_histories",
        description="Move the histories of a service's users from Milvus to the Redis or Valkey "
        "that SERVING_HISTORIES names, or back. Settings are those of the service: SERVING_… and "
        "MILVUS_URI. Stop the services that write first. May be run again: it goes on.",
    )
    parser.add_argument("--to", required=True, choices=("redis", "milvus"), help="the new store")
    to: Place = parser.parse_args(argv).to
    left: list[int] = []

    def work() -> None:
        counts = move_histories(settings_from_environment(os.environ), to)
        print(f"{counts.moved:,} users moved to {to}, with {counts.clicks:,} clicks")
        if counts.cut:
            warn(f"{counts.cut:,} of their oldest clicks were left out: {to} takes no more")
        if counts.left:
            warn(f"{counts.left:,} users clicked meanwhile and were left: run it again")
        left.append(counts.left)

    return run(work) or int(any(left))


if __name__ == "__main__":
    sys.exit(main())
