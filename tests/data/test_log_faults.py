# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Ids, quotes, encodings and options of logs: read right, or refused with place and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from log_shapes import EXPECTED, cells, clicks, rows, said, text, write

from paddlerec_milvus.data.cli import main
from paddlerec_milvus.data.log_options import LogOptions, parse_columns
from paddlerec_milvus.data.read_log import read_interactions
from paddlerec_milvus.errors import DataError, SettingsError, UserError


def test_ids_that_are_floats_or_huge_or_alike(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pl.DataFrame(rows(), ["user", "item", "rating", "time"], orient="row")
    path = tmp_path / "floats"
    frame.with_columns(pl.col("user", "item").cast(pl.Float64)).write_parquet(path)
    assert "warning: floats: user ids are floating point" in said(path, caplog)
    log = read_interactions(path)
    assert (log.user_ids.dtype, clicks(log)) == (pl.Int64, EXPECTED)
    frame.with_columns(item=pl.col("item") + 0.5).write_parquet(path)
    with pytest.raises(DataError, match=r"row 1: item ids of type Float64, and .* is no whole"):
        read_interactions(path)
    assert "item ids are floating point" in said(text(tmp_path, "1,7.0,1\n1,8.0,2\n"), caplog)
    with pytest.raises(DataError, match=r"line 2: item ids .* 8\.5 is no whole"):
        read_interactions(text(tmp_path, "1,7.0,1\n1,8.5,2\n"))
    huge = [2**64 - 1, 2**63, 5]
    unsigned = pl.DataFrame({"user": [1, 1, 2], "item": pl.Series(huge, dtype=pl.UInt64)})
    unsigned.with_columns(time=pl.lit(1)).write_parquet(path)
    assert "2 item ids are integers beyond 2^63" in said(path, caplog)
    assert clicks(read_interactions(path)) == sorted(zip("112", map(str, huge), strict=True))
    csv = text(tmp_path, "".join(f"1,{item},{place}\n" for place, item in enumerate(huge)))
    assert read_interactions(csv).item_ids.to_list() == sorted(map(str, huge))
    alike = text(tmp_path, "a,Tv,1\nA,tv,1\na,t v,2\nb,x,3\n")
    words = said(alike, caplog)
    assert words.count("3 item ids differ only in blanks or upper and lower case") == 1
    assert read_interactions(alike).item_ids.to_list() == ["Tv", "t v", "tv", "x"]
    long = "u" * 10_000
    assert read_interactions(text(tmp_path, f"{long},x,1\nb,y,2\n")).user_ids[1] == long
    with pytest.raises(DataError, match="item id 0; integer item ids start at 1"):
        read_interactions(text(tmp_path, "1,7,1\n1,0,2\n"))


def test_line_ends_quotes_blanks_and_encodings(tmp_path: Path) -> None:
    plain = write(tmp_path, "csv", "plain").read_text()
    for content in (
        plain.replace("\n", "\r"),
        plain.replace("\n", "\r\n"),
        plain.replace(",", ", "),
        plain.encode("utf-16"),
        "\n".join(",".join(f'"{cell}"' for cell in line) for line in cells("csv")),
    ):
        encoding = "utf-16" if isinstance(content, bytes) else None
        path = text(tmp_path, content)
        assert clicks(read_interactions(path, options=LogOptions(encoding=encoding))) == EXPECTED
    inch = text(tmp_path, 'user,item,time\n1,tv 7" wide,3\n1,"a, ""b""",4\n2,"c\nd",5\n')
    assert read_interactions(inch).item_ids.to_list() == ['a, "b"', "c\nd", 'tv 7" wide']
    cafe = text(tmp_path, "user,item,time\n1,café 21,3\n2,thé,3\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2: not UTF-8 text \(byte 6 is 0xe9\).*--encoding"):
        read_interactions(cafe)
    log = read_interactions(cafe, options=LogOptions(encoding="latin-1"))
    assert log.item_ids.to_list() == ["café 21", "thé"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("user,item,time\n" + "1,2,3\n" * 99 + "8,7,\n", {}, "line 101: time is empty"),
        (
            'user,item,time\n1,2,3\n1,"2,3\n' + "1,2,3\n" * 30_000,
            {},
            r"line 3: a quote \(\"\) opens",
        ),
        ('user,item,time\n1,"2,3\n1,2,3\n', {}, r"line 2: a quote \(\"\) opens"),
        (
            "a,b\n1,2\n",
            {"columns": {"user": "aa", "item": "b"}},
            r"no column 'aa' for user among a",
        ),
        (
            "visitorid,itemid,ts\n1,2,3\n",
            {"columns": {"user": "visitor_id"}},
            r"did you mean 'visitorid'\?",
        ),
        ("1,2,3\n", {"columns": {"user": "1", "item": "4"}}, "no column '4' for item"),
        ("1,2,3\n", {"columns": {"user": "1"}}, "--columns lacks item"),
        ('[{"user": 1}]', {}, "one JSON array; expected JSON lines"),
        ('{"user": 1, "item": 2, "time": 3}\n{"user": 1,\n', {}, "line 2: found '{\"user\": 1,'"),
        ("user,item,rating\n1,2,x\n", {"min_rating": 3.0}, "line 2: found rating 'x'"),
        ("1 2 3\n", {}, "1 columns and no header"),
        ("1,1700000000,501,4\n" * 5, {}, "4 columns and no header; name them: --columns"),
        ("1,4,501,1700000000\n" * 5, {}, "4 columns and no header; name them: --columns"),
        (
            '{"user": 1, "item": 2, "time": null}\n{"user": 1, "item": 3, "time": 5}\n',
            {},
            "line 1: time is null or not there, and line 2 has it as time",
        ),
        (
            '{"user": 1, "item": 2}\n' * 2 + '{"user": 1, "item": 3, "when": 5}\n',
            {"columns": {"user": "user", "item": "item", "time": "when"}},
            "line 1: when is null or not there, and line 3 has it as time",
        ),
        (
            '{"user": 1, "item": 2, "event": null}\n{"user": 1, "item": 3, "event": "buy"}\n',
            {},
            "line 1: event is null or not there, and line 2 has it as kind",
        ),
        (
            '{"user": 1, "item": 2, "stars": null}\n{"user": 1, "item": 3, "stars": 5}\n',
            {"min_rating": 3.0},
            "line 1: stars is null or not there, and line 2 has it as rating",
        ),
        ("user,item,time\n1,a\rb,3\n", {}, "line 2: a carriage return inside a line"),
        ("user,item,time\n1,2,3\n1,2\0,3\n", {}, "line 3: a zero byte"),
        ("user,item,item,time\n1,2,3,4\n", {}, "the column 'item' is there twice"),
        ("person,thing\n1,2\n1,3\n", {}, "looks like a header with unknown names"),
    ],
)
def test_a_fault_is_named_with_its_place_and_remedy(
    tmp_path: Path, content: str, options: dict[str, object], message: str
) -> None:
    path = text(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        read_interactions(path, options=LogOptions(**options))  # type: ignore[arg-type]
    assert "log.csv" in str(caught.value)


def test_a_rating_that_is_not_used_may_be_null_in_line_1(tmp_path: Path) -> None:
    lines = '{"user": 1, "item": 2, "stars": null}\n{"user": 1, "item": 3, "stars": 5}'
    path = text(tmp_path, lines)
    assert clicks(read_interactions(path)) == [("1", "2"), ("1", "3")]


def test_four_columns_as_documented_with_few_users_and_items(tmp_path: Path) -> None:
    log = read_interactions(text(tmp_path, "1,2,5,1700000000\n1,3,4,1700000001\n"))
    assert clicks(log) == [("1", "2"), ("1", "3")]


def test_separators_of_ones_own(tmp_path: Path) -> None:
    path = text(tmp_path, "".join(f"{u} {t} {i}\n" for u, i, _, t in rows()))
    options = LogOptions(separator=" ", columns=parse_columns("user=1,item=3,time=2"))
    assert clicks(read_interactions(path, options=options)) == EXPECTED


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("user", "'user' is not role=column"),
        ("user=,item=2", "'user=' is not role=column"),
        ("", "'' is not role=column"),
        ("usr=1", r"'usr' is none of user, .*, rating \(did you mean 'user'\?\)"),
        ("user=1,user=2", "user is there twice"),
        ("user=1,item=1", "'1' is both user and item"),
    ],
)
def test_a_false_columns_option(spec: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^--columns {spec}: {message}"):
        parse_columns(spec)


def test_options_are_part_of_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path, "retailrocket", "events")
    base = ["--interactions", str(log), "--min-count", "2", "--out", str(tmp_path / "out")]
    assert main(base) == 0
    assert main(base) == 0
    assert "warning: kinds of event are mixed" in capsys.readouterr().err  # once more
    for more in (["--kinds", "view"], ["--drop-repeats"], ["--columns", "user=2,item=4,time=1"]):
        assert main([*base, *more]) == 2
        assert "was prepared otherwise" in capsys.readouterr().err
    assert main([*base, "--k-core", "3"]) == 2
    assert "--min-count 2 does not go with --k-core 3" in capsys.readouterr().err
    other = ["--interactions", str(log), "--k-core", "2", "--out", str(tmp_path / "core")]
    assert main(other) == 0
    recipe = json.loads((tmp_path / "core" / "meta.json").read_text())["recipe"]
    assert (recipe["source"]["k_core"], recipe["min_count"]) == (2, 2)


def test_chunks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddlerec_milvus.data.log_bytes.BLOCK_BYTES", 100)
    monkeypatch.setattr("paddlerec_milvus.data.text_rows._CAREFUL_ROWS", 3)
    for shape in ("csv", "movielens", "recbole", "gowalla"):
        assert clicks(read_interactions(write(tmp_path, shape, "log"))) == EXPECTED
    with pytest.raises(DataError, match="line 60: found time 'x'"):
        read_interactions(text(tmp_path, "1,2,3\n" * 59 + "1,2,x\n"))
    with pytest.raises(DataError, match="line 60: found item id '2x', expected an integer"):
        read_interactions(text(tmp_path, "1,2,3\n" * 59 + "1,2x,3\n"))
    mixed = text(tmp_path, "".join(f"1,{i},{i}\n" for i in range(1, 40)) + "1,b,1\n" * 30)
    assert read_interactions(mixed).item_ids.dtype == pl.String
    quoted = text(tmp_path, "user,item,time\n" + "1,a,3\n" * 40 + '2,"b\nc",3\n' + "3,b,x\n")
    with pytest.raises(DataError, match="line 44: found time 'x'"):
        read_interactions(quoted)


@pytest.mark.parametrize(
    ("first", "place"),
    [("7.0", "line 1: found user id '7.0'"), ("7 ", "line 1: found user id '7 '")],
)
def test_ids_rewritten_in_one_chunk_and_text_in_another_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, place: str
) -> None:
    monkeypatch.setattr("paddlerec_milvus.data.log_bytes.BLOCK_BYTES", 100)
    path = text(tmp_path, f"{first},b,1\n8,b,2\n" * 20 + f"{first},b,3\nx,b,4\n" * 20)
    message = rf"{place}, read as an integer, and .*, line 42: found user id 'x'.*--string-ids"
    with pytest.raises(DataError, match=message):
        read_interactions(path)
    log = read_interactions(path, string_ids=True)
    assert log.user_ids.to_list() == [first, "8", "x"]
    assert read_interactions(text(tmp_path, f"{first},b,1\n8,b,2\n" * 40)).user_ids[0] == 7


@pytest.mark.parametrize("padded", [" a", "a ", " a "])
def test_blanks_around_all_ids_of_a_column_are_stripped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, padded: str
) -> None:
    every = f"{padded},x,1\n{padded.replace('a', 'b')},x,2\n"
    assert read_interactions(text(tmp_path, every)).user_ids.to_list() == ["a", "b"]
    some = read_interactions(text(tmp_path, every + "a,x,3\n"))
    assert some.user_ids.to_list() == sorted({padded, padded.replace("a", "b"), "a"})
    monkeypatch.setattr("paddlerec_milvus.data.log_bytes.BLOCK_BYTES", 50)
    with pytest.raises(DataError, match="line 41: found user id 'a' without blanks around it"):
        read_interactions(text(tmp_path, every * 20 + "a,x,3\n"))
    numbers = every.replace("a", "7").replace("b", "8")
    assert read_interactions(text(tmp_path, numbers * 20 + "7,x,3\n")).user_ids.to_list() == [7, 8]


def test_a_cell_that_is_too_long_is_refused_and_a_long_line_is_not(tmp_path: Path) -> None:
    cell = "x" * 140_000
    with pytest.raises(DataError, match=r"log\.csv, line 2: a cell that is too long .*--sep"):
        read_interactions(text(tmp_path, f'user,item,time\n1,"{cell}",3\n2,7,4\n'))
    assert read_interactions(text(tmp_path, f"user,item,time\n1,{cell},3\n")).item_ids[0] == cell
