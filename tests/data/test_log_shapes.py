# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Logs in the shapes that people have them: recognised by content, whatever name and order."""

from __future__ import annotations

import gzip
import json
import logging
import zipfile
from pathlib import Path

import polars as pl
import pytest
from log_shapes import (
    CLICKS,
    EXPECTED,
    ITEMS,
    SHAPES,
    START,
    clicks,
    in_time_order,
    iso,
    rows,
    said,
    text,
    write,
)

from paddlerec_milvus.data.cli import main
from paddlerec_milvus.data.log_options import LogOptions, parse_columns
from paddlerec_milvus.data.read_log import read_interactions
from paddlerec_milvus.errors import DataError, SettingsError


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
    if suffix == " UTC":
        lines = lines.replace("T", " ").replace("U C", "UTC")
    path = text(tmp_path, lines)
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


@pytest.mark.parametrize("chosen", [(), ("rare",)])
def test_more_kinds_of_event_than_are_counted_on_their_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    chosen: tuple[str, ...],
) -> None:
    monkeypatch.setattr("paddlerec_milvus.data.log_bytes.BLOCK_BYTES", 200)
    kinds = ["view"] * 70 + [f"k{at}" for at in range(60)] + ["view", "rare"] * 20
    lines = "".join(f"1,{at + 1},{at},{kind}\n" for at, kind in enumerate(kinds))
    words = said(text(tmp_path, "user,item,time,event\n" + lines), caplog, kinds=chosen)
    if chosen:
        assert "dropped 150 clicks of other kinds than --kinds" in words  # 70 + 60 + 20
    else:
        assert "kinds of event are mixed (view 90, " in words
