# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Logs of other people: formats that must mean the same, and lines that are refused."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

from paddlerec_milvus.data.item_titles import read_titles_file
from paddlerec_milvus.data.raw_log import RawLog
from paddlerec_milvus.data.read_log import read_interactions
from paddlerec_milvus.errors import DataError

INTEGERS = "7,30,5\n2,4,1\n7,100,3\n2,30,1\n"
STRINGS = "bob,x9,5\nal,x10,1\nbob,x10,3\nal,x9,1\n"


def write(folder: Path, content: str | bytes, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def clicks(log: RawLog) -> list[tuple[object, object]]:
    return list(zip(log.user_ids[log.users], log.item_ids[log.items], strict=True))


def refusal(folder: Path, content: str | bytes) -> str:
    with pytest.raises(DataError) as caught:
        read_interactions(write(folder, content))
    return str(caught.value)


def test_integer_ids_sort_as_numbers_and_clicks_by_time(tmp_path: Path) -> None:
    log = read_interactions(write(tmp_path, INTEGERS))
    assert log.item_ids.to_list() == [4, 30, 100]
    assert clicks(log) == [(2, 4), (2, 30), (7, 100), (7, 30)]


def test_string_ids_sort_as_text(tmp_path: Path) -> None:
    log = read_interactions(write(tmp_path, STRINGS))
    assert log.item_ids.to_list() == ["x10", "x9"]
    assert clicks(log) == [("al", "x10"), ("al", "x9"), ("bob", "x10"), ("bob", "x9")]


@pytest.mark.parametrize(
    "content",
    [
        "uid,item,time\n" + STRINGS,
        "\ufeffUser_ID,ItemID,Timestamp\n" + STRINGS,
        STRINGS.replace("\n", "\r\n"),
        STRINGS + "\n\n",
        "rating,item_id,user_id,note,timestamp\n5,x9,bob,,5\n5,x10,al,,1\n1,x10,bob,,3\n1,x9,al,,1",
        STRINGS.replace("bob", '"bob"'),
        STRINGS.replace(",5\n", ",5.5\n").replace(",3\n", ",3.25\n"),
    ],
    ids=["header", "bom+names", "crlf", "blank-end", "more-columns", "quoted", "fractions"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_other_forms_of_the_same_csv(tmp_path: Path, content: str, packed: bool) -> None:
    data = gzip.compress(content.encode()) if packed else content.encode()
    expected = clicks(read_interactions(write(tmp_path, STRINGS, "plain.csv")))
    assert clicks(read_interactions(write(tmp_path, data))) == expected


@pytest.mark.parametrize("names", [("uid", "item", "time"), ("a", "b", "c")])
@pytest.mark.parametrize("text", [INTEGERS, STRINGS], ids=["integers", "strings"])
def test_parquet_means_the_same(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    plain = read_interactions(write(tmp_path, text))
    frame = pl.read_csv(text.encode(), has_header=False, new_columns=list(names))
    frame.write_parquet(tmp_path / "log.parquet")
    assert clicks(read_interactions(tmp_path / "log.parquet")) == clicks(plain)


def test_parquet_with_dates_and_small_integers(tmp_path: Path) -> None:
    days = [datetime(2024, 1, day, tzinfo=timezone.utc) for day in (3, 1, 2)]
    frame = pl.DataFrame({"uid": [1, 1, 1], "item": [3, 1, 2], "time": days})
    frame.with_columns(pl.col("uid", "item").cast(pl.UInt16)).write_parquet(tmp_path / "l.parquet")
    assert clicks(read_interactions(tmp_path / "l.parquet")) == [(1, 1), (1, 2), (1, 3)]


def test_leading_zeros_make_a_name_not_a_number(tmp_path: Path) -> None:
    log = read_interactions(write(tmp_path, "1,007,1\n1,7,2\n2,0012,3\n2,b,4\n"))
    assert log.item_ids.to_list() == ["0012", "007", "7", "b"]
    assert log.user_ids.to_list() == [1, 2]


def test_string_ids_on_request(tmp_path: Path) -> None:
    log = read_interactions(write(tmp_path, "1,10,1\n1,9,2\n1,0,3\n"), string_ids=True)
    assert log.item_ids.to_list() == ["0", "10", "9"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b,c\n1,2,3\n", "line 1: found 'a,b,c': 'c' where a time was expected"),
        ("uid,product,time\n1,2,3\n", "line 1: no column for item among uid, product, time"),
        ("1,2,3,4\n", "line 1: found '1,2,3,4': 4 columns and no header"),
        ("1,2,3\n\n1,2,3\n", "line 2: a blank line"),
        ("uid,item,time\n1,2,3\n\n1,2,3\n", "line 3: a blank line"),
        ("\n1,2,3\n", "line 1: a blank line"),
        ("", "an empty file"),
        ("uid,item,time\n", "no clicks (empty)"),
        ("1,2,3\n1,2\n", "line 2: found '1,2', 2 columns where the first line has 3"),
        ("1,2,3\n1,2,3,4\n", "line 2: found '1,2,3,4', 4 columns"),
        ("1,2,3\n1,,3\n", "line 2: a blank line or an empty item id"),
        ("1,2,3\n1,2,\n", "line 2: time is empty"),
        ("1,2,3\n1,2,noon\n", "line 2: found time 'noon', expected a number"),
        ("1,2,3\n1,2,nan\n", "line 2: found time 'nan', expected a number"),
        ("1,2,3\n" * 9 + "1,2x,3\n", "line 10: found item id '2x', expected an integer"),
        ("1,2,3\n" * 9 + "l,2,3\n", "line 10: found user id 'l', expected an integer"),
        ("uid,item,time\n" + "1,2,3\n" * 9 + "1,-,3\n", "line 11: found item id '-'"),
        ("1,2,3\n1,0,3\n", "line 2: item id 0; integer item ids start at 1"),
        ("1,2,3\n1,5,3\n1,-2,3\n", "line 3: item id -2"),
        (b"\xff\xfe1,2,3\n", "line 1: not UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str | bytes, said: str) -> None:
    message = refusal(tmp_path, content)
    assert said in message
    assert "log.csv" in message


def test_line_numbers_count_lines_inside_quotes(tmp_path: Path) -> None:
    assert "line 4: found time 'x'" in refusal(tmp_path, 'uid,item,time\n"a\nb",i,1\nc,i,x\n')


def test_missing_files_and_false_parquet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        read_interactions(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="not a parquet file"):
        read_interactions(write(tmp_path, b"PAR1" + b"\0" * 100, "log.parquet"))
    plain = clicks(read_interactions(write(tmp_path, INTEGERS)))
    assert clicks(read_interactions(write(tmp_path, INTEGERS, "log.parquet"))) == plain
    frame = pl.DataFrame({"uid": [1, 2], "item": [5, None], "time": [1, 2]})
    frame.write_parquet(tmp_path / "nulls.parquet")
    with pytest.raises(DataError, match=r"nulls\.parquet, row 2: .* empty item id"):
        read_interactions(tmp_path / "nulls.parquet")
    frame.with_columns(item=pl.lit(1.5)).write_parquet(tmp_path / "floats.parquet")
    with pytest.raises(DataError, match="item ids of type Float64"):
        read_interactions(tmp_path / "floats.parquet")


def test_titles_table(tmp_path: Path) -> None:
    path = write(tmp_path, 'item,source_id,title,year\n1,9,"A, B",1999\n2,8,,2000\n')
    assert read_titles_file(path).rows() == [
        ("1", "A, B", "", "1999"),
        ("2", "", "", "2000"),
    ]
    path = write(tmp_path, "\ufeffasin,title,category\nx,T,Poems\n")
    assert read_titles_file(path).rows() == [("x", "T", "Poems")]
    with pytest.raises(DataError, match="expected a header with item and title"):
        read_titles_file(write(tmp_path, "item,name\n1,x\n"))
    with pytest.raises(DataError, match="not a csv table"):
        read_titles_file(write(tmp_path, "item,title\n1,x,y,z\n"))


def review(user: object, item: object, time: object) -> str:
    return json.dumps(
        {"reviewerID": user, "asin": item, "unixReviewTime": time, "reviewText": "good, \n good"}
    )


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_reviews(tmp_path: Path, packed: bool) -> None:
    lines = [review("B", "002", 9), review("A", "2", 5), review("B", "2", 7)]
    data = ("\n".join(lines) + "\n").encode()
    log = read_interactions(
        write(tmp_path, gzip.compress(data) if packed else data, "r.json"), string_ids=True
    )
    assert clicks(log) == [("A", "2"), ("B", "2"), ("B", "002")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{'reviewerID': 'A'}", "found '{'reviewerID': 'A'}', expected a JSON object"),
        ("", "found 'a blank line'"),
        ('{"reviewerID": "A", "asin": "b"}', "no unixReviewTime in the object"),
        ("[1, 2]", "expected a JSON object"),
        (review("A", "", 3), "an empty item id"),
        (review("A", "b", "noon"), "expected a JSON object"),
    ],
)
def test_a_bad_review_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path, f"{review('A', 'b', 1)}\n{line}\n{review('A', 'c', 2)}\n", "r.json")
    with pytest.raises(DataError) as caught:
        read_interactions(path)
    assert f"{path}, line 2:" in str(caught.value)
    assert said in str(caught.value)


def test_no_reviews(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an empty file"):
        read_interactions(write(tmp_path, "", "r.json"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    message = refusal(tmp_path, b"a,x,3\nb,\xff\xfe,3\n")
    assert "log.csv" in message
    assert "\n" not in message
