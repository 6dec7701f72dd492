# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists in a collection of Milvus: by the user's id, each once, of one job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from batch_model import SmallModel

from paddlerec_milvus.batch.stored_lists import StoredLists
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import DataError, ForeignError, SettingsError
from paddlerec_milvus.retrieval.connection import Connection

PARAMETERS = {"digest": "d", "top_k": 3}
NAMES = ["ann", 'o"neil\\', "用户", "a'b"]


@pytest.fixture(
    params=["lite", pytest.param("server", marks=[pytest.mark.server, pytest.mark.slow])]
)
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    uri = str(tmp_path / "milvus.db")
    if request.param == "server":
        uri = request.getfixturevalue("server").uri
    connection = Connection(uri)
    yield connection
    for name in ("lists", "others"):
        if connection.call("has_collection", name):
            connection.call("drop_collection", name)
    connection.close()


def stored(connection: Connection, name: str = "lists", **changed: Any) -> StoredLists:
    settings = load_settings("mind/config.yaml", [f"milvus.uri={connection.uri}"])
    return StoredLists(settings, name, {**PARAMETERS, **changed}, "string", "int")


def rows(users: Sequence[str], first: int) -> pl.DataFrame:
    lists = [([first, 2, 3], [0.5, 0.25, -1.0], "model"), ([1, 2], [], "popular")]
    columns = zip(*(lists[at % 2] for at in range(len(users))), strict=True)
    return pl.DataFrame(
        dict(zip(("user", "items", "scores", "source"), [users, *columns], strict=True))
    )


def test_rows_are_there_by_user_id(connection: Connection) -> None:
    users = pl.Series(NAMES)
    with stored(connection) as lists:
        assert lists.missing([users[:2], users[2:]]) == [0, 1]
        lists.write(0, users[:2], rows(NAMES[:2], 9))
        lists.write(0, users[:2], rows(NAMES[:2], 8))  # again, as after a kill
    with stored(connection) as lists:
        assert lists.missing([users[:2], users[2:]]) == [1]
        assert lists.missing([users[1:3]]) == [0]  # of a part that was cut off
        with pytest.raises(SettingsError, match="no such id"):
            lists.missing([pl.Series(["x" * 513])])
    kept = connection.call("query", "lists", filter='user == "ann"', output_fields=["*"])
    assert len(kept) == 1
    assert kept[0]["items"] == [8, 2, 3]
    assert kept[0]["scores"] == [0.5, 0.25, -1.0]
    assert kept[0]["source"] == "model"


def test_what_is_something_else_is_left_alone(connection: Connection) -> None:
    with stored(connection):
        pass
    with pytest.raises(
        SettingsError, match=r"holds lists of other parameters: digest 'd' there, 'e'"
    ):
        stored(connection, digest="e").__enter__()
    connection.create_collection("others", 2, {})
    with pytest.raises(ForeignError, match="is there and holds no lists: give another name"):
        stored(connection, "others").__enter__()
    with pytest.raises(SettingsError, match="letters, digits and _"):
        stored(connection, "my-lists")
    with pytest.raises(SettingsError, match="Milvus holds 4,096 items"):
        stored(connection, top_k=5_000)


def test_a_job_into_milvus_goes_on(
    small: SmallModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lite = f"milvus.uri={tmp_path / 'milvus.db'}"
    usual = ("--exact", "--top_k", "20", "--part-users", "100")

    def run(name: str, *flags: str) -> int:
        return small.run(*usual, *flags, "--to-milvus", name, options=(lite,))

    write, calls = Connection.call, list[str]()

    def away(self: Connection, name: str, *arguments: Any, **options: Any) -> Any:
        if name == "upsert":
            calls.append(name)
            if len(calls) == 3:
                raise DataError("Milvus is away")
        return write(self, name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "call", away)
        assert run("lists") == 2
    assert "2 of 6 parts are written and stay: the same command" in capsys.readouterr().err
    assert run("lists") == 0
    assert "400 lists written; share 1/1 has 600 users" in capsys.readouterr().out
    assert run("lists") == 0
    assert "finished already, nothing to do; share 1/1 has 600 users" in capsys.readouterr().out
    assert run("others", "--share", "1/2") == 0
    assert run("others", "--share", "2/2") == 0
    expected = small.lists(tmp_path / "out")
    connection = Connection(str(tmp_path / "milvus.db"))
    fields = ["user", "items", "source"]
    for name in ("lists", "others"):
        connection.call("load_collection", name)
        there = connection.call(
            "query", name, filter="user >= 0", output_fields=fields, limit=1_000
        )
        by_user = sorted(map(dict, there), key=lambda row: row["user"])
        assert [{key: row[key] for key in fields} for row in by_user] == expected.select(
            fields
        ).to_dicts()
    connection.close()
