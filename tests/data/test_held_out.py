# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Test lines: every user and every truth is kept, and padding is where it belongs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out, write_held_out
from paddlerec_milvus.errors import DataError, SettingsError

LINES = """\
user_id:7 target_item:0 hist_item:11 hist_item:12 hist_item:13 eval_item:14 eval_item:15
user_id:3 target_item:0 hist_item:21 eval_item:22
"""
CLICKS = st.lists(st.integers(1, 2**40), min_size=1, max_size=30)


def write(folder: Path, text: str, name: str = "part-0") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def users_of(rows: list[tuple[int, list[int], list[int]]]) -> HeldOutUsers:
    def flat(part: int) -> tuple[np.ndarray, np.ndarray]:
        lists = [row[part] for row in rows]
        return np.cumsum([0, *map(len, lists)]), np.concatenate(lists).astype(np.int64)

    return HeldOutUsers(np.array([row[0] for row in rows]), *flat(1), *flat(2))


def test_reads_users_in_file_order(tmp_path: Path) -> None:
    users = read_held_out([write(tmp_path, LINES)])
    assert users.user_ids.tolist() == [7, 3]
    assert [h.tolist() for h in users.history_list()] == [[11, 12, 13], [21]]
    assert [t.tolist() for t in users.truth_list()] == [[14, 15], [22]]
    assert (len(users), users.skipped, users.largest_item()) == (2, 0, 22)


def test_histories_are_the_last_clicks_padded_on_the_right(tmp_path: Path) -> None:
    users = read_held_out(write(tmp_path, LINES))
    padded, lengths = users.histories(2)
    assert padded.tolist() == [[12, 13], [21, 0]]
    assert lengths.tolist() == [2, 1]
    assert padded.dtype == lengths.dtype == np.int64
    assert users.histories(5)[0].tolist() == [[11, 12, 13, 0, 0], [21, 0, 0, 0, 0]]
    with pytest.raises(SettingsError, match="maxlen is 0"):
        users.histories(0)


@given(st.lists(st.tuples(st.integers(0, 2**40), CLICKS, CLICKS), min_size=1), st.integers(1, 12))
def test_round_trip_and_histories_against_python(
    rows: list[tuple[int, list[int], list[int]]], maxlen: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part-0"
        record = write_held_out(path, users_of(rows))
        assert record["bytes"] == path.stat().st_size
        users = read_held_out(path)
    assert users.user_ids.tolist() == [row[0] for row in rows]
    assert [h.tolist() for h in users.history_list()] == [row[1] for row in rows]
    assert [t.tolist() for t in users.truth_list()] == [row[2] for row in rows]
    padded, lengths = users.histories(maxlen)
    for row, length, (_, history, _truths) in zip(padded, lengths, rows, strict=True):
        assert row[:length].tolist() == history[-maxlen:]
        assert not row[length:].any()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "a blank line"),
        ("user_id:x target_item:0 hist_item:1 eval_item:2", "'user_id:x', expected user_id:INT"),
        ("user_id:1 hist_item:1 eval_item:2.5", "'eval_item:2.5', expected eval_item:INTEGER"),
        ("user_id:1 hist_itm:1 eval_item:2", "did you mean 'hist_item'?"),
        ("user_id:1 hist_item eval_item:2", "'hist_item', expected hist_item:INTEGER"),
        ("hist_item:1 eval_item:2", "exactly one user_id, found 0"),
        ("user_id:1 user_id:2 hist_item:1 eval_item:2", "exactly one user_id, found 2"),
        ("user_id:1 hist_item:0 eval_item:2", "an item id below 1"),
        ("user_id:1 hist_item:4 eval_item:-2", "an item id below 1"),
        ("user_id:1 eval_item:2", "no hist_item"),
        ("user_id:1 hist_item:99999999999999999999 eval_item:2", "does not fit 64 bits"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path, f"{LINES}{line}\n{LINES}")
    with pytest.raises(DataError) as caught:
        read_held_out([path])
    assert f"{path}, line 3:" in str(caught.value)
    assert said in str(caught.value)


def test_users_without_a_truth_are_counted_not_lost_in_silence(tmp_path: Path) -> None:
    users = read_held_out([write(tmp_path, LINES + "user_id:9 target_item:0 hist_item:5\n")])
    assert (len(users), users.skipped) == (2, 1)


def test_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no data files"):
        read_held_out(tmp_path)
    write(tmp_path, "user_id:9 hist_item:5\n")
    with pytest.raises(DataError, match="no user with an eval_item"):
        read_held_out(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_held_out([tmp_path / "absent"])


def test_crlf_and_no_target_item(tmp_path: Path) -> None:
    path = tmp_path / "part-0"
    path.write_bytes(b"user_id:1 hist_item:4 eval_item:5\r\nuser_id:2 hist_item:6 eval_item:7\r\n")
    assert read_held_out(path).truths.tolist() == [5, 7]
