# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``python -m paddlerec_milvus.serving.migrate_users``: users stored before there were own ids.

Collections ``{collection}_users_{D}`` held ints for users and the model's numbers for items. Their
users are written to ``{collection}_user_states_{D}`` with the own ids of the settings' prepared
folder, and the old collections are dropped. A run that was cut short is simply started again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np
from tqdm import tqdm

from paddlerec_milvus.command import run
from paddlerec_milvus.data.id_map import IdMap, read_item_ids, user_kind
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.user_history import UserState, trimmed
from paddlerec_milvus.retrieval.user_store import (
    MOST_INTERESTS,
    UserStore,
    old_collections,
)
from paddlerec_milvus.serving.settings import ServiceSettings, settings_from_environment

USERS_PER_CALL = 256


def migrate(settings: ServiceSettings) -> int:
    """Move the users of old collections, and drop these; returns how many users there were.

    A user is deleted there only after it has been written here.

    Raises:
        DataError: the prepared folder has strings for users, or no item of a history's number:
            these users are of other data. They stay where they are.
        RetrievalError: Milvus is away or refuses.
    """
    model, folder = settings.model, settings.trained.data
    if user_kind(folder) != "int":
        raise DataError(
            f"{folder}: its users have strings for ids, and those stored in Milvus ints: start "
            "with SERVING_DATA of the log that they came from, or drop the old collections"
        )
    ids, name, moved = read_item_ids(folder), model.milvus.collection, 0
    options: dict[str, Any] = {
        "token": model.milvus.token.get_secret_value(),
        "db_name": model.milvus.db_name,
        "timeout": model.milvus.timeout,
    }
    with (
        closing(Connection(model.milvus_uri, **options)) as connection,
        closing(
            UserStore(
                model.milvus_uri,
                name,
                metric=model.retrieval.metric,
                beside_old=True,
                **options,
            )
        ) as store,
    ):
        names: list[str] = connection.call("list_collections")
        for old in old_collections(connection, f"{name}_users", names):
            connection.call("load_collection", old)
            with tqdm(desc=old, unit="user", disable=None) as bar:
                while users := _some_users(connection, old):
                    _move(connection, old, users, store, ids)
                    moved += len(users)
                    bar.update(len(users))
            connection.call("drop_collection", old)
    return moved


def _some_users(connection: Connection, collection: str) -> list[int]:
    rows = connection.call(
        "query",
        collection,
        filter="interest == 0",
        limit=USERS_PER_CALL,
        output_fields=["user"],
        consistency_level="Strong",
    )
    return [int(row["user"]) for row in rows]


def _move(
    connection: Connection, collection: str, users: list[int], store: UserStore, ids: IdMap
) -> None:
    keys = [user * MOST_INTERESTS + place for user in users for place in range(MOST_INTERESTS)]
    fields = ["user", "interest", "clicks", "history", "checkpoint", "vector"]
    rows = connection.call(
        "query", collection, ids=keys, output_fields=fields, consistency_level="Strong"
    )
    by_key = {(row["user"], row["interest"]): row for row in rows}
    known = store.read_all(users)
    for user in users:  # one of several old collections may hold an older state
        state, before = _state(user, by_key, ids), known.get(user)
        if before is None or state.clicks > before.clicks:
            store.write(state, before)
    connection.call("delete", collection, ids=keys)


def _state(user: int, rows: Mapping[tuple[int, int], dict[str, Any]], ids: IdMap) -> UserState:
    head = rows[user, 0]
    whole = [
        rows[user, place]["vector"]
        for place in range(MOST_INTERESTS)
        if (user, place) in rows and rows[user, place]["checkpoint"] == head["checkpoint"]
    ]
    history, vectors = ids.own_ids(json.loads(head["history"])), np.array(whole, np.float32)
    state = UserState(user, history, int(head["clicks"]), str(head["checkpoint"]), vectors)
    return trimmed(state)


def main() -> int:
    """Run the command line; exit code 2 for a user's mistake."""
    argparse.ArgumentParser(
        prog="python -m paddlerec_milvus.serving.migrate_users",
        description="Bring users that were stored before there were own ids to where they are "
        "stored now. Settings are those of the service: SERVING_… and MILVUS_URI. Stop it first.",
    ).parse_args()

    def work() -> None:
        print(f"{migrate(settings_from_environment(os.environ)):,} users migrated")

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
