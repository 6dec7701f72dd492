# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Spark prepares what one machine prepares, byte for byte, and refuses what that refuses."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from paddlerec_milvus.data.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spark")]

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
START = 1_600_000_000
KINDS = ("view", "cart", "buy")


def rows(users: int = 40, clicks: int = 9, seed: int = 1) -> list[tuple[int, int, int, int]]:
    """User, item, rating and time, in no order; some times and some pairs come twice."""
    draw = random.Random(seed)
    lines = [
        (user * 7, 1 + min(draw.randrange(30), draw.randrange(30)), 1 + draw.randrange(5), moment)
        for user in range(1, users + 1)
        for _ in range(draw.randrange(2, clicks))
        for moment in [START + 3600 * draw.randrange(400)]
    ]
    draw.shuffle(lines)
    return lines


def csv_of(cells: Callable[[int, int, int, int], Sequence[object]], header: str = "") -> str:
    lines = [",".join(map(str, cells(*row))) for row in rows()]
    return "\n".join([header, *lines] if header else lines) + "\n"


def plain() -> str:
    return csv_of(lambda u, i, r, t: (u, i, t), "user,item,time")


def moment(time: int, suffix: str = "Z") -> str:
    return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + suffix


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Both:
    """Both engines on one log."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys

    def run(self, *arguments: str, at: Path | str, source: str = "--interactions") -> list[Any]:
        """Exit code, last line of stderr, and content of the folder, for each engine."""
        outcomes = []
        for engine in ("memory", "spark"):
            out = self._folder / engine / "out"
            code = main([source, str(at), *arguments, "--engine", engine, "--out", str(out)])
            said = self._capsys.readouterr()
            warnings = [line for line in said.err.splitlines() if line.startswith("error:")]
            outcomes.append((code, warnings, content_of(out)))
            left = [path.name for path in out.parent.iterdir()] if out.parent.exists() else []
            assert left == (["out"] if code == 0 else [])
        return outcomes

    def agree(self, *arguments: str, at: Path, source: str = "--interactions") -> int:
        """The exit code, once both engines did the same."""
        memory, spark = self.run(*arguments, at=at, source=source)
        assert memory[:2] == spark[:2]
        assert list(memory[2]) == list(spark[2])
        for name, content in memory[2].items():
            assert spark[2][name] == content, name
        return int(memory[0])


@pytest.fixture
def both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Both:
    return Both(tmp_path, capsys)


def written(tmp_path: Path, content: str | bytes, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


SMALL = ("--min-count", "3")
SHAPES: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "plain": (plain(), SMALL),
    "no header": (csv_of(lambda u, i, r, t: (u, i, t)), SMALL),
    "byte order mark, CRLF, blank lines at the end": (
        "\ufeff" + plain().replace("\n", "\r\n") + "\r\n\r\n",
        SMALL,
    ),
    "CR alone": (plain().replace("\n", "\r"), SMALL),
    "blanks after commas": (plain().replace(",", ", "), SMALL),
    "two characters": (plain().replace(",", "::"), ("--sep", "::", *SMALL)),
    "quoted": (
        csv_of(lambda u, i, r, t: (u, f'"a ""{i}"", b"', t), "user,item,time"),
        SMALL,
    ),
    "quotes inside": (csv_of(lambda u, i, r, t: (u, f'tv {i}" wide', t)), SMALL),
    "names": (csv_of(lambda u, i, r, t: (f"u,{u}"[2:], f"Ü{i}", t), "user,item,time"), SMALL),
    "names in need of quotes": (
        csv_of(lambda u, i, r, t: (f'"u, {u}"', f"007{i}", t), "user,item,time"),
        SMALL,
    ),
    "alike": (csv_of(lambda u, i, r, t: (f"{'Uu'[t % 2]} {u}", f"{'Ii'[r % 2]}{i}", t)), SMALL),
    "whole floats": (csv_of(lambda u, i, r, t: (f"{u}.0", f"{i}.0", f"{t}.0")), SMALL),
    "beyond int64": (csv_of(lambda u, i, r, t: (u, 2**63 + i, t)), SMALL),
    "string ids": (plain(), ("--string-ids", *SMALL)),
    "tokens": (
        csv_of(lambda u, i, r, t: (u, i, f"{t}.5"), "user_id:token,item_id:token,timestamp:float"),
        SMALL,
    ),
    "dates": (csv_of(lambda u, i, r, t: (u, i, moment(t, ("", "Z", "+02:00")[r % 3]))), SMALL),
    "days": (csv_of(lambda u, i, r, t: (u, i, moment(t)[:10])), SMALL),
    "no time": (csv_of(lambda u, i, r, t: (u, i), "user,item"), SMALL),
    "few times": (csv_of(lambda u, i, r, t: (u, i, r)), SMALL),
    "one time": (csv_of(lambda u, i, r, t: (u, i, 5)), SMALL),
    "kinds": (
        csv_of(lambda u, i, r, t: (u, i, t, KINDS[r % 3]), "user,item,time,event"),
        ("--kinds", "view,buy", *SMALL),
    ),
    "mixed kinds, ratings, repeats, core": (
        csv_of(lambda u, i, r, t: (u, i, t, "ab"[r % 2], r), "user,item,time,event,rating"),
        ("--min-rating", "2", "--drop-repeats", "--k-core", "3"),
    ),
    "leave one out": (plain(), ("--split", "leave-one-out", *SMALL)),
    "by time": (plain(), ("--split", "time", "--test-from", "2020-09-25", *SMALL)),
    "by time, from": (
        csv_of(lambda u, i, r, t: (f"u{u}", i, f"{t}.25"), "user,item,time"),
        *[("--split", "time", "--test-from", "2020-09-25", "--valid-from", "2020-09-20", *SMALL)],
    ),
    "by time, dates": (
        csv_of(lambda u, i, r, t: (u, i, moment(t, f".{r}Z"))),
        ("--split", "time", "--test-from", "2020-09-25", *SMALL),
    ),
    "blanks around all names": (csv_of(lambda u, i, r, t: (f"u{u} ", f" i{i} ", t)), SMALL),
    "more kinds than are shown": (
        csv_of(
            lambda u, i, r, t: (u, i, t, "view" if r > 1 else f"k{(u + t) % 97}"),
            "user,item,time,event",
        ),
        ("--kinds", "view", *SMALL),
    ),
    "another seed, nothing dropped": (plain(), ("--seed", "7", "--min-count", "2")),
    # refused
    "too few users": (plain(), ("--min-count", "20")),
    "small min count": (plain(), ("--min-count", "1")),
    "bad time": (plain() + "7,3,soon\n", SMALL),
    "empty time": (plain() + "7,3,\n", SMALL),
    "item 0": (plain() + "7,0,1600000000\n", SMALL),
    "one name among integers": (plain() + "seven,3,1600000000\n", SMALL),
    "blank line inside": (plain() + "\n7,3,1600000000\n", SMALL),
    "another width": (plain() + "7,3\n", SMALL),
    "no UTF-8": (plain().encode() + b"7,3,\xff\n", SMALL),
    "zero byte": (plain() + "7,3,\0\n", SMALL),
    "carriage return inside": (plain() + "7,3\r,1600000000\n", SMALL),
    "open quote": (plain() + '7,"3,1600000000\n', SMALL),
    "a second header": (plain() * 2, SMALL),
    "a header alone": ("user,item,time\n", SMALL),
    "broken float": (csv_of(lambda u, i, r, t: (f"{u}.0", f"{i}.{r % 2 * 5}", t)), SMALL),
    "no such kind": (
        csv_of(lambda u, i, r, t: (u, i, t, "view"), "user,item,time,event"),
        ("--kinds", "veiw"),
    ),
    "no such column": (plain(), ("--columns", "user=usr,item=item")),
    "no kinds": (plain(), ("--kinds", "view")),
    "no rating": (
        csv_of(lambda u, i, r, t: (u, i, t, "x"), "user,item,time,rating"),
        ("--min-rating", "2"),
    ),
    "nothing left": (
        csv_of(lambda u, i, r, t: (u, i, t, r), "user,item,time,rating"),
        ("--min-rating", "9"),
    ),
    "no core": (plain(), ("--k-core", "30")),
    "nobody then": (plain(), ("--split", "time", "--test-from", "2030-01-01", *SMALL)),
    "an order is no time": (
        csv_of(lambda u, i, r, t: (u, i, t - START)),
        ("--split", "time", "--test-from", "2020-09-25", *SMALL),
    ),
    "json": (b'[{"user": 1}]', SMALL),
    "json, a time that line 1 lacks": (
        '{"user": 1, "item": 2, "time": null}\n{"user": 1, "item": 3, "time": 5}\n',
        SMALL,
    ),
    "two columns that may be the rating": ("1,1700000000,501,4\n" * 5, SMALL),
    "empty": (b"", SMALL),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_logs(shape: str, tmp_path: Path, both: Both) -> None:
    content, options = SHAPES[shape]
    refused = list(SHAPES).index(shape) >= list(SHAPES).index("too few users")
    assert both.agree(*options, at=written(tmp_path, content)) == (2 if refused else 0)
    times = tmp_path / "spark" / "out" / "item_times.csv"
    assert times.exists() == ("time" in options and not refused)


def test_json_lines(tmp_path: Path, both: Both) -> None:
    lines = [
        json.dumps({"rating": float(r), "user_id": f"A{u}", "parent_asin": f"B{i}", "timestamp": t})
        for u, i, r, t in rows()
    ]
    log = written(tmp_path, "\n".join(lines), "reviews.jsonl")
    assert both.agree(*SMALL, "--min-rating", "2", at=log, source="--reviews") == 0
    (tmp_path / "memory").rename(tmp_path / "first")
    (tmp_path / "spark").rename(tmp_path / "second")
    log.write_text("\n".join([*lines, '{"user_id": "A1", "parent_asin": 5}']))
    assert both.agree(*SMALL, at=log, source="--reviews") == 2
    plain_log = written(tmp_path, plain())
    assert both.agree(*SMALL, at=plain_log, source="--reviews") == 2


def frame() -> pl.DataFrame:
    return pl.DataFrame(rows(), ["user", "item", "rating", "time"], orient="row")


def test_parquet_in_parts_and_its_types(tmp_path: Path, both: Both) -> None:
    moments = pl.from_epoch("time").dt.cast_time_unit("us")
    frames = {
        "integers": frame(),
        "text": frame().with_columns(pl.col("user").cast(pl.String), item=pl.format("i{}", "item")),
        "floats": frame().with_columns(pl.col("user", "item", "time").cast(pl.Float64)),
        "moments": frame().with_columns(time=moments),
        "zoned": frame().with_columns(time=moments.dt.replace_time_zone("Asia/Shanghai")),
        "days": frame().with_columns(time=moments.dt.date()),
        "unsigned": frame().with_columns(item=pl.col("item").cast(pl.UInt64) + 2**63),
        "half": frame().with_columns(item=pl.col("item") + 0.5),
        "truths": frame().with_columns(user=pl.col("user") > 5),
        "gaps": frame().with_columns(user=pl.when(pl.col("user") > 20).then("user")),
    }
    codes = {}
    for name, table in frames.items():
        parts = tmp_path / name / "parts"
        parts.mkdir(parents=True)
        (parts / "_SUCCESS").touch()
        table[:50].write_parquet(parts / "b [1].parquet", row_group_size=20)
        table[50:].write_parquet(parts / "a-0.parquet")
        pair = Both(tmp_path / name, both._capsys)
        codes[name] = pair.agree(*SMALL, at=parts)
    assert [name for name, code in codes.items() if code] == ["half", "truths", "gaps"]


def test_titles_and_features(tmp_path: Path, both: Both) -> None:
    items = "".join(f"{i},Title {i},c{i % 3},Author\n" for i in range(1, 25))
    titles = written(tmp_path, "item,title,category,authors\n" + items, "titles.csv")
    colours = written(tmp_path, "item,colour\n" + "1,red\n2,red\n3,blue\n4,blue\n", "colours.csv")
    names = written(tmp_path, "user,country\nu7,CN\nu14,CN\nu21,DE\nu28,DE\n", "countries.csv")
    log = written(tmp_path, csv_of(lambda u, i, r, t: (f"u{u}", i, t), "user,item,time"))
    options = ("--items", str(titles), "--item-features", str(colours))
    assert both.agree(*SMALL, *options, "--user-features", str(names), at=log) == 0
    (tmp_path / "memory").rename(tmp_path / "first")
    (tmp_path / "spark").rename(tmp_path / "second")
    other = written(tmp_path, "item,title\nzz,Nothing\n", "others.csv")
    assert both.agree(*SMALL, "--items", str(other), at=log) == 2


def test_a_folder_of_one_engine_is_the_others(tmp_path: Path) -> None:
    log, out = written(tmp_path, plain()), str(tmp_path / "out [1]")
    assert main(["--interactions", str(log), *SMALL, "--engine", "spark", "--out", out]) == 0
    before = (tmp_path / "out [1]" / "meta.json").stat().st_mtime_ns
    assert main(["--interactions", str(log), *SMALL, "--out", out]) == 0
    assert (tmp_path / "out [1]" / "meta.json").stat().st_mtime_ns == before


def test_an_address_is_read_where_it_is(tmp_path: Path, both: Both) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    lines = plain().splitlines(keepends=True)
    (parts / "part-0.csv.gz").write_bytes(gzip.compress("".join(lines[:90]).encode()))
    (parts / "part-1.csv.gz").write_bytes(gzip.compress("".join(lines[:1] + lines[90:]).encode()))
    memory, _ = both.run(*SMALL, at=parts)
    _, spark = Both(tmp_path / "far", both._capsys).run(*SMALL, at=f"file://{parts}")
    for outcome in (memory, spark):
        meta = json.loads(outcome[2].pop("meta.json"))
        assert meta["recipe"]["source"].pop("sha256")
        outcome[2]["meta"] = meta
    assert memory[2] == spark[2]
    bad = written(tmp_path, plain() + "7,3,soon\n", "bad.csv")
    code, said, _ = Both(tmp_path / "bad", both._capsys).run(*SMALL, at=f"file://{bad}")[1]
    place = f"file:{bad}, line {plain().count(chr(10)) + 1}"
    assert (code, said) == (
        2,
        [
            f"error: {place}: found time 'soon', expected a number, or dates "
            "such as 2024-05-17T08:30:00Z in all lines"
        ],
    )


@pytest.mark.parametrize(
    ("content", "name", "options", "message"),
    [
        (plain(), "log.csv", ("--encoding", "latin-1"), "--encoding does not go with --engine"),
        (b"PK\x03\x04", "log.zip", (), "--engine spark reads no zip"),
        (gzip.compress(plain().encode()), "log.csv", (), "by its name alone, which ends with .gz"),
        (plain(), ".log.csv", (), "Spark skips files whose name begins with"),
        ('user,item,time\n1,"a\nb",5\n', "log.csv", (), "cells in quotes that go over several"),
    ],
)
def test_what_spark_does_not_read_is_said(
    content: str | bytes,
    name: str,
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    both: Both,
) -> None:
    code, said, _ = both.run(*options, at=written(tmp_path, content, name))[1]
    assert code == 2
    assert message in said[0]


CASE_OPTIONS = {
    "amazon2023.jsonl": ("--reviews",),
    "checkins.txt": ("--columns", "user=1,time=2,item=5"),
    "headerless_rating.csv": ("--columns", "user=1,item=2,rating=3"),
}
NOT_ON_SPARK = ("ratings.zip",)


@pytest.mark.parametrize("name", sorted(p.name for p in CASES.glob("[!R]*")))
def test_logs_that_people_have(name: str, both: Both) -> None:
    if name in NOT_ON_SPARK:
        pytest.skip("Spark reads no zip; test_what_spark_does_not_read_is_said")
    options = CASE_OPTIONS.get(name, ())
    source = "--interactions"
    if options == ("--reviews",):
        source, options = "--reviews", ()
    both.agree(*options, "--min-count", "2", at=CASES / name, source=source)
