# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Shares are disjoint and complete, and a user's is the same whatever the order of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paddlerec_milvus.batch.histories import UserClicks, file_clicks
from paddlerec_milvus.batch.shares import Share, share_of
from paddlerec_milvus.data.id_map import IdMap
from paddlerec_milvus.errors import DataError, SettingsError


def test_each_user_is_in_one_share() -> None:
    users = [*range(2_000), *map(str, range(2_000))]
    holds = np.stack([Share(number, 8).holds(users) for number in range(1, 9)])
    assert (holds.sum(axis=0) == 1).all()
    assert holds.sum(axis=1).min() > 400  # of 500


def test_a_share_is_for_ever() -> None:
    # another hash would give users of a job that goes on to two shares, or to none
    assert [share_of(user, 8) for user in (0, 7, "7", "用户")] == [4, 6, 2, 6]


@pytest.mark.parametrize("text", ["0/8", "9/8", "8", "a/b", "1/0", "-1/8"])
def test_no_such_share(text: str) -> None:
    with pytest.raises(SettingsError, match=f"--share {text}: no such share"):
        Share.parse(text)


def read(file: Path, share: str = "1/1", ids: IdMap | None = None) -> UserClicks:
    return file_clicks(file, ids or IdMap(), "int", 100, Share.parse(share))


def as_dict(clicks: UserClicks) -> dict[object, list[int]]:
    rows = range(len(clicks.users))
    return {clicks.users[row]: clicks.history(row).tolist() for row in rows}


def test_shares_of_a_file_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = pl.DataFrame({"user": np.arange(300), "items": rng.integers(1, 101, (300, 4)).tolist()})
    table.write_parquet(tmp_path / "a.parquet")
    table.reverse().write_parquet(tmp_path / "b.parquet")
    whole = as_dict(read(tmp_path / "a.parquet"))
    parts = [
        [as_dict(read(tmp_path / name, f"{n}/3")) for n in (1, 2, 3)]
        for name in ("a.parquet", "b.parquet")
    ]
    assert parts[0] == parts[1]
    assert sum(map(len, parts[0])) == 300
    assert parts[0][0] | parts[0][1] | parts[0][2] == whole
    assert whole == dict(table.iter_rows())


def test_rows_of_clicks_are_histories_in_the_order_of_time(tmp_path: Path) -> None:
    file = tmp_path / "clicks.csv"
    file.write_text("uid,item,time\n5,1,30\n6,2,10\n5,3,20\n05,999,25\n")
    clicks = read(file)
    assert as_dict(clicks) == {5: [3, 1], 6: [2]}
    assert clicks.unknown == 1
    table = pl.DataFrame({"user": ["a", "b", "a"], "item": ["y", "x", "z"]})
    table.write_parquet(tmp_path / "c.parquet")
    named = IdMap("string", ["x", "y"])
    clicks = read(tmp_path / "c.parquet", ids=named)
    assert as_dict(clicks) == {"a": [2], "b": [1]}
    assert (clicks.kind, clicks.unknown) == ("string", 1)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("user,items\n7,1 2\n8,3\n07,4\n", r"user 7 stands in two rows.*\(1 such users\)"),
        ("who,items\n7,1\n", "has a column items and none for users"),
        ("user,items\n,1\n", "an empty user id in row 0"),
        ("user,items\nann,1\n", "the model's data have ints for users"),
        ("user\n7\n", "no column for item"),
        ("", "cannot be read"),
    ],
)
def test_what_cannot_be_used(content: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_text(content)
    with pytest.raises(DataError, match=problem):
        read(file)
    pl.DataFrame({"user": [7.0], "items": [[1]]}).write_parquet(tmp_path / "floats.parquet")
    with pytest.raises(DataError, match="ids of users are Float64"):
        read(tmp_path / "floats.parquet")
    with pytest.raises(DataError, match="expected a file that ends in"):
        read(tmp_path / "users.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "users.parquet")
