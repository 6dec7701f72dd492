# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The reader of click logs: what it accepts, in which order, and how it refuses."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlerec_milvus.data.files import HashedFile, data_files
from paddlerec_milvus.data.log import group_clicks, parse_clicks, read_click_log, write_clicks
from paddlerec_milvus.errors import DataError

CLEAN = b"7,3,10\n2,5,1\n7,4,9\n2,6,1\n7,1,10\n"
INT64 = st.integers(-(2**63), 2**63 - 1)


def write(folder: Path, content: bytes, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read_click_log([write(folder, content)])
    return str(caught.value)


def test_users_ascend_and_clicks_follow_time_with_ties_in_file_order(tmp_path: Path) -> None:
    log = read_click_log([write(tmp_path, CLEAN)])
    assert log.user_ids.tolist() == [2, 7]
    assert log.indptr.tolist() == [0, 2, 5]
    # user 2: both at time 1, file order 5, 6; user 7: 4 at time 9, then 3 and 1 at time 10
    assert log.items.tolist() == [5, 6, 4, 3, 1]
    assert {log.user_ids.dtype, log.indptr.dtype, log.items.dtype} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    "content",
    [
        CLEAN.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + CLEAN,
        gzip.compress(CLEAN),
        gzip.compress(b"\xef\xbb\xbf" + CLEAN.replace(b"\n", b"\r\n")),
        CLEAN.rstrip(b"\n"),
        CLEAN + b"\n\r\n\n",
        CLEAN.replace(b"7,3,10", b" 7, 3 ,+10 "),
    ],
    ids=["crlf", "bom", "gz", "gz+bom+crlf", "no-last-newline", "blank-end", "spaces"],
)
def test_the_same_log_in_other_clothes(tmp_path: Path, content: bytes) -> None:
    plain = read_click_log([write(tmp_path, CLEAN)])
    other = read_click_log([write(tmp_path, content, "other")])
    assert other.items.tolist() == plain.items.tolist()
    assert other.indptr.tolist() == plain.indptr.tolist()


def test_several_files_are_one_log_and_an_empty_part_is_no_harm(tmp_path: Path) -> None:
    for name, content in (("part-0", b"1,9,5\n"), ("part-1", b""), ("part-2", b"1,8,4\n")):
        write(tmp_path, content, name)
    assert read_click_log([tmp_path]).items.tolist() == [8, 9]
    assert read_click_log(tmp_path).items.tolist() == [8, 9]


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        (b"uid,item,time\n1,2,3\n", 1, "'uid,item,time'"),
        (b"1,2,3\n\n1,2,3\n", 2, "a blank line"),
        (b"\n1,2,3\n", 1, "a blank line"),
        (b"1,2,3\n   \n1,2,3\n", 2, "a blank line"),
        (b"1,2,3\n1,2,3\n1,2x,3\n", 3, "'1,2x,3'"),
        (b"1,2,3\n1,2\n", 2, "'1,2'"),
        (b"1,2,3\n1,2,3,4\n", 2, "'1,2,3,4'"),
        (b"1,2,3\n1,,3\n", 2, "'1,,3'"),
        (b"1,2,3\n1,2.5,3\n", 2, "'1,2.5,3'"),
        (b"1,2,3\n1,99999999999999999999,3\n", 2, "'1,99999999999999999999,3'"),
        (b"1,2,3\n\xff\xfe,2,3\n", 2, "expected uid,item,time"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, line: int, found: str) -> None:
    message = refusal(tmp_path, content)
    assert f"log.csv, line {line}:" in message
    assert found in message
    assert "expected uid,item,time as integers" in message


def test_a_header_gets_the_hint(tmp_path: Path) -> None:
    assert "prepare.py --interactions" in refusal(tmp_path, b"uid,item,time\n1,2,3\n")


@pytest.mark.parametrize("item", [0, -4])
def test_item_ids_below_one_are_refused(tmp_path: Path, item: int) -> None:
    message = refusal(tmp_path, f"1,2,3\n1,{item},4\n".encode())
    assert f"line 2: item id {item}; item ids start at 1 (0 is padding)" in message


def test_nothing_to_read(tmp_path: Path) -> None:
    assert "no clicks (empty)" in refusal(tmp_path, b"")
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        read_click_log([tmp_path / "absent.csv"])


def test_damaged_gzip_is_said(tmp_path: Path) -> None:
    assert "damaged gzip" in refusal(tmp_path, gzip.compress(CLEAN * 50)[:-12])


def test_folders_without_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        data_files(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no data files; "):
        data_files(tmp_path)
    write(tmp_path, CLEAN, ".hidden")
    with pytest.raises(DataError, match=r"only hidden files: \.hidden"):
        data_files(tmp_path)
    visible = write(tmp_path, CLEAN)
    assert data_files(tmp_path) == [visible]


@given(st.lists(st.tuples(INT64, st.integers(1, 2**63 - 1), INT64), max_size=30))
def test_parsing_equals_python(rows: list[tuple[int, int, int]]) -> None:
    content = "".join(f"{u},{i},{t}\n" for u, i, t in rows).encode()
    columns = parse_clicks(content, "log")
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == rows


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(0, 3)), min_size=1))
def test_grouping_equals_a_stable_sort_and_survives_writing(
    rows: list[tuple[int, int, int]],
) -> None:
    users, items, times = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    log = group_clicks(users, items, times)
    expected: dict[int, list[int]] = {}
    for user, item, _ in sorted(rows, key=lambda row: (row[0], row[2])):
        expected.setdefault(user, []).append(item)
    found = np.split(log.items, log.indptr[1:-1])
    assert dict(zip(log.user_ids.tolist(), map(list, found), strict=True)) == expected
    stream = io.BytesIO()
    write_clicks(HashedFile(stream), log)
    again = group_clicks(*parse_clicks(stream.getvalue(), "written"))
    assert again.items.tolist() == log.items.tolist()
    assert again.user_ids.tolist() == log.user_ids.tolist()
