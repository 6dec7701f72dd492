# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Logs in the shapes that people have them: recognised by content, whatever name and order."""

from __future__ import annotations

import gzip
import json
import logging
import zipfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

from paddlerec_milvus.data.cli import main
from paddlerec_milvus.data.log_options import LogOptions, parse_columns
from paddlerec_milvus.data.raw_log import RawLog
from paddlerec_milvus.data.read_log import read_interactions
from paddlerec_milvus.errors import DataError, SettingsError, UserError

USERS, ITEMS, CLICKS = 12, 9, 6
START = 1_600_000_000

Row = tuple[int, int, int, int]  # user, item, rating, time


def rows() -> list[Row]:
    """12 users with 6 clicks each, an hour apart, of items 21 to 29, with 1 to 5 stars."""
    return [
        (user, 21 + (user * 5 + place * 2) % ITEMS, 1 + (user + place) % 5, START + 3600 * place)
        for user in range(1, USERS + 1)
        for place in range(CLICKS)
    ]


def iso(time: int, suffix: str = "Z") -> str:
    return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + suffix


KINDS = ("view", "view", "addtocart")

# What a file holds: header or None, separator, and the cells of a click.
SHAPES: dict[str, tuple[list[str] | None, str, list[str]]] = {
    "csv": (["user", "item", "time"], ",", ["{user}", "{item}", "{time}"]),
    "tsv": (["uid", "item_id", "timestamp"], "\t", ["{user}", "{item}", "{time}"]),
    "semicolon": (["userId", "itemId", "timestamp"], ";", ["{user}", "{item}", "{time}"]),
    "movielens": (None, "::", ["{user}", "{item}", "{rating}", "{time}"]),
    "u.data": (None, "\t", ["{user}", "{item}", "{rating}", "{time}"]),
    "recbole": (
        ["user_id:token", "item_id:token", "rating:float", "timestamp:float"],
        "\t",
        ["{user}", "{item}", "{rating}.0", "{time}.0"],
    ),
    "retailrocket": (
        ["timestamp", "visitorid", "event", "itemid", "transactionid"],
        ",",
        ["{time}000", "{user}", "{kind}", "{item}", ""],
    ),
    "iso": (["user", "item", "time"], ",", ["{user}", "{item}", "{iso}"]),
    "rees46": (
        ["event_time", "event_type", "product_id", "user_id"],
        ",",
        ["{iso}", "{kind}", "{item}", "{user}"],
    ),
    "amazon2023": (
        ["user_id", "asin", "parent_asin", "rating", "timestamp"],
        ",",
        ["{user}", "V{item}{rating}", "{item}", "{rating}.0", "{time}000"],
    ),
    "gowalla": (None, "\t", ["{user}", "{iso}", "30.21{rating}", "-97.2{rating}", "{item}"]),
}


def cells(shape: str, order: Sequence[int] | None = None) -> list[list[str]]:
    header, _, patterns = SHAPES[shape]
    lines = [header] if header else []
    for place, (user, item, rating, time) in enumerate(rows()):
        values = {"user": user, "item": item, "rating": rating, "time": time}
        values |= {"iso": iso(time), "kind": KINDS[place % 3]}
        lines.append([pattern.format(**values) for pattern in patterns])
    order = order or range(len(patterns))
    return [[line[at] for at in order] for line in lines]


def write(folder: Path, shape: str, name: str, order: Sequence[int] | None = None) -> Path:
    path = folder / name
    path.write_text("\n".join(SHAPES[shape][1].join(line) for line in cells(shape, order)) + "\n")
    return path


def text(folder: Path, content: str | bytes, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def clicks(log: RawLog) -> list[tuple[str, str]]:
    pairs = zip(log.user_ids[log.users], log.item_ids[log.items], strict=True)
    return sorted((str(user), str(item)) for user, item in pairs)


EXPECTED = sorted((str(user), str(item)) for user, item, _, _ in rows())


def in_time_order(log: RawLog) -> list[str]:
    return [str(item) for item in log.item_ids[log.items[log.users == log.users[0]]]]


@pytest.mark.parametrize("name", ["log.csv", "renamed", "renamed.parquet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_recognised_whatever_its_name(tmp_path: Path, shape: str, name: str) -> None:
    log = read_interactions(write(tmp_path, shape, name))
    assert clicks(log) == EXPECTED
    assert log.times is not None
    assert (log.user_ids.dtype == pl.String) == (shape == "recbole")  # tokens are strings
    first_user = str(log.user_ids[0])
    assert in_time_order(log) == [
        str(item) for user, item, _, _ in rows() if str(user) == first_user
    ]


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if SHAPES[shape][0]])
def test_columns_of_a_header_stand_in_any_order(tmp_path: Path, shape: str) -> None:
    width = len(SHAPES[shape][2])
    for order in (range(width)[::-1], [*range(1, width), 0]):
        assert clicks(read_interactions(write(tmp_path, shape, "log", order))) == EXPECTED


@pytest.mark.parametrize(
    ("shape", "order", "columns"),
    [
        ("movielens", [3, 0, 2, 1], None),  # by content as long as the user stands before the item
        ("u.data", [2, 0, 1, 3], None),
        ("gowalla", [0, 4, 2, 3, 1], None),
        ("movielens", [1, 0, 2, 3], "user=2,item=1,rating=3,time=4"),
        ("gowalla", [4, 3, 2, 1, 0], "user=5,item=1,time=4"),
    ],
)
def test_columns_without_a_header(
    tmp_path: Path, shape: str, order: list[int], columns: str | None
) -> None:
    options = LogOptions(columns=parse_columns(columns) if columns else {})
    log = read_interactions(write(tmp_path, shape, "log", order), options=options)
    assert clicks(log) == EXPECTED


def test_amazons_ratings_of_2014_and_2018(tmp_path: Path) -> None:
    user, item = "A{:013d}", "B{:09d}"
    lines = [(user.format(u), item.format(i), f"{r}.0", str(t)) for u, i, r, t in rows()]
    old = text(tmp_path, "".join(",".join(line) + "\n" for line in lines), "ratings")
    new = text(tmp_path, "".join(f"{i},{u},{r},{t}\n" for u, i, r, t in lines), "new")
    expected = sorted((line[0], line[1]) for line in lines)
    assert clicks(read_interactions(old)) == clicks(read_interactions(new)) == expected


@pytest.mark.parametrize("source", ["--reviews", "--interactions"])
def test_amazons_reviews_of_2023(
    tmp_path: Path,
    source: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    lines = [
        json.dumps(
            {"rating": float(r), "title": "", "asin": f"V{i}{r}", "parent_asin": f"B{i}"}
            | {"user_id": f"AE{u}", "timestamp": t * 1000, "images": []}
        )
        for u, i, r, t in rows()
    ]
    path = text(tmp_path, "\n".join(lines), "meta.txt")
    out = tmp_path / "out"
    assert main([source, str(path), "--min-count", "2", "--out", str(out)]) == 0
    assert "parent_asin is the product" in caplog.text
    meta = json.loads((out / "meta.json").read_text())
    assert meta["items"] == ITEMS
    assert meta["log"]["columns"]["item"] == "parent_asin"
    assert "item = parent_asin" in capsys.readouterr().out


def test_packed_logs_and_parts(tmp_path: Path) -> None:
    plain = write(tmp_path, "u.data", "plain")
    packed = text(tmp_path, gzip.compress(plain.read_bytes()), "packed")
    archive = tmp_path / "archive"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(plain, "ml/u.data")
    assert clicks(read_interactions(packed)) == clicks(read_interactions(archive)) == EXPECTED
    with zipfile.ZipFile(archive, "a") as file:
        file.write(plain, "ml/u.item")
    with pytest.raises(DataError, match=r"holds ml/u\.data, ml/u\.item; expected one log in a zip"):
        read_interactions(archive)
    text(tmp_path, archive.read_bytes()[:200], "half.zip")
    with pytest.raises(DataError, match="damaged zip file"):
        read_interactions(tmp_path / "half.zip")
    frame = pl.DataFrame(rows(), ["user", "item", "rating", "time"], orient="row")
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "_SUCCESS").touch()
    frame[:30].write_parquet(parts / "part-0")
    frame[30:].write_parquet(parts / "part-1")
    assert clicks(read_interactions(parts)) == EXPECTED
    text(parts, "user,item,time\n1,2,3\n", "part-2")
    with pytest.raises(DataError, match=r"part-2: text.* but part-0 in the same folder: parquet"):
        read_interactions(parts)


def said(path: Path, caplog: pytest.LogCaptureFixture, **options: object) -> str:
    caplog.clear()
    caplog.set_level(logging.INFO)
    read_interactions(path, options=LogOptions(**options))  # type: ignore[arg-type]
    return caplog.text


def lines_of(*columns: int, suffix: str = "") -> str:
    return "".join(",".join(str(row[at]) for at in columns) + suffix + "\n" for row in rows())


def test_what_was_taken_as_time_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stars = text(tmp_path, lines_of(0, 1, 2))
    words = said(stars, caplog)
    assert "warning: log.csv: what was taken as time has only 5 distinct values" in words
    assert "looks like a rating" in words
    words = said(stars, caplog, columns=parse_columns("user=1,item=2,rating=3"))
    assert "the order of lines is used" in words
    assert "warning" not in words
    assert "all 72 times are equal (5): the order of lines is used" in said(
        text(tmp_path, lines_of(0, 1, suffix=",5")), caplog
    )
    no_time = text(tmp_path, "user,item\n" + lines_of(0, 1))
    assert "time: no column: the order of lines is used" in said(no_time, caplog)
    assert in_time_order(read_interactions(no_time)) == [str(row[1]) for row in rows()[:CLICKS]]
    assert "seconds since 1970" in said(text(tmp_path, lines_of(0, 1, 3)), caplog)
    doubtful = text(tmp_path, "".join(f"{time},{user},{item}\n" for user, item, _, time in rows()))
    assert "warning: log.csv: column 1 looks like a time" in said(doubtful, caplog)


@pytest.mark.parametrize("suffix", ["", "Z", "+02:00", " UTC", ".250", "+0000"])
def test_iso_dates(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    lines = "".join(f"{user},{item},{iso(time, suffix)}\n" for user, item, _, time in rows())
    path = text(tmp_path, lines.replace("T", " ").replace("U C", "UTC") if suffix == " UTC" else lines)
    words = said(path, caplog)
    assert ("without a zone, taken as UTC" in words) == (suffix in ("", ".250"))
    log = read_interactions(path)
    fraction = {"+02:00": -7200, ".250": 0.25}.get(suffix, 0)
    assert log.times is not None
    assert log.times[0] == (START + fraction) * 10**6


def test_days_and_a_bad_date(tmp_path: Path) -> None:
    log = read_interactions(text(tmp_path, "1,2,2024-05-17\n1,3,2024/05/16\n"))
    assert in_time_order(log) == ["3", "2"]
    with pytest.raises(DataError, match="line 2: found time '2024-13-01', expected a date"):
        read_interactions(text(tmp_path, "1,2,2024-05-17\n1,3,2024-13-01\n"))


def test_kinds_ratings_repeats_and_cores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = write(tmp_path, "retailrocket", "events")
    words = said(events, caplog)
    assert "warning: events: kinds of event are mixed (view 48, addtocart 24)" in words
    words = said(events, caplog, kinds=("addtocart",))
    assert "dropped 48 clicks of other kinds" in words
    assert "warning" not in words
    with pytest.raises(SettingsError, match=r"no event of kind 'veiw' in the log \(did you mean"):
        read_interactions(events, options=LogOptions(kinds=("veiw",)))
    stars = write(tmp_path, "movielens", "ratings")
    log = read_interactions(stars, options=LogOptions(min_rating=4))
    assert clicks(log) == sorted((str(u), str(i)) for u, i, r, _ in rows() if r >= 4)
    with pytest.raises(SettingsError, match="--min-rating: no column"):
        read_interactions(write(tmp_path, "csv", "plain"), options=LogOptions(min_rating=4))
    path = text(tmp_path, "1,7,3\n1,8,2\n1,7,1\n2,7,1\n")
    log = read_interactions(path, options=LogOptions(drop_repeats=True))
    assert clicks(log) == [("1", "7"), ("1", "8"), ("2", "7")]
    assert in_time_order(log) == ["7", "8"]
    # item 9 has one click; without it user 3 has one, and without that item 8 has one, and so on
    chain = text(tmp_path, "1,5,1\n1,6,2\n2,5,1\n2,6,2\n3,8,1\n3,9,2\n4,8,1\n4,5,2\n")
    log = read_interactions(chain, options=LogOptions(k_core=2))
    assert clicks(log) == [("1", "5"), ("1", "6"), ("2", "5"), ("2", "6")]


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
    ],
)
def test_a_fault_is_named_with_its_place_and_remedy(
    tmp_path: Path, content: str, options: dict[str, object], message: str
) -> None:
    path = text(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        read_interactions(path, options=LogOptions(**options))  # type: ignore[arg-type]
    assert "log.csv" in str(caught.value)


def test_separators_of_ones_own(tmp_path: Path) -> None:
    path = text(tmp_path, "".join(f"{u} {t} {i}\n" for u, i, _, t in rows()))
    options = LogOptions(separator=" ", columns=parse_columns("user=1,item=3,time=2"))
    assert clicks(read_interactions(path, options=options)) == EXPECTED


@pytest.mark.parametrize(
    "spec", ["user", "usr=1", "user=1,user=2", "user=1,item=1", "user=,item=2", ""]
)
def test_a_false_columns_option(spec: str) -> None:
    with pytest.raises(SettingsError, match="--columns"):
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
