# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Side features: codes against counts by hand and by Counter, what is said, the folder."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddlerec_milvus.data.cli import main
from paddlerec_milvus.data.feature_files import FeatureFiles, read_feature_file
from paddlerec_milvus.data.features import item_features, read_features
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.data.prepare import prepare
from paddlerec_milvus.data.prepared import open_prepared, read_categories, read_source_ids
from paddlerec_milvus.data.sources import Interactions, Sample
from paddlerec_milvus.data.split import split_log
from paddlerec_milvus.data.synthetic import synthetic_log
from paddlerec_milvus.errors import DataError

SMALL = ["--sample", "--users", "60", "--items", "40", "--clicks", "700"]


def write(folder: Path, content: str, name: str = "features.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def translated(folder: Path, kind: str) -> dict[int, list[str]]:
    """Each row's values by the two files alone, "" for code 0."""
    with (folder / f"{kind}_feature_values.csv").open(newline="", encoding="utf-8") as file:
        names = {(row["column"], int(row["code"])): row["value"] for row in csv.DictReader(file)}
    columns, codes, ids = read_features(folder / f"{kind}_features.csv")
    return {
        int(number): [
            names[column, int(code)] if code else ""
            for column, code in zip(columns, row, strict=True)
        ]
        for number, row in zip(ids, codes, strict=True)
    }


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Ten users of five clicks and one more on d: the items are numbered d, a, b, c, e."""
    lines = ["user,item,time"]
    for user in range(10):
        lines += [f"user-{user},{item},{place}" for place, item in enumerate("abcded")]
    return write(tmp_path, "\n".join(lines) + "\n", "log.csv")


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """The same with integers: users 7, 17 … 97, items 1 … 5 of which 4 is the most popular."""
    lines = [
        f"{10 * user + 7},{item},{place}"
        for user in range(10)
        for place, item in enumerate([1, 2, 3, 4, 5, 4])
    ]
    return write(tmp_path, "\n".join(lines) + "\n", "log.csv")


# -- what is written -----------------------------------------------------------------------------


def test_codes_by_hand(log: Path, tmp_path: Path) -> None:
    table = write(
        tmp_path,
        "item,brand,shape\n"
        "zz,Oak,round\n"  # not in the log: Oak has one item less
        'a," Elm, old ",round\nb,Oak,7\nd,"Elm, old",7\nc,Oak,7.0\n',  # e is absent
    )
    out = tmp_path / "out"
    outcome = prepare(Interactions(log), out, features=FeatureFiles(items=table))
    # among the items d a b c e: Elm, old 2, Oak 2 -> equal, so by bytes: E before O;
    # shape: 7 twice, round and 7.0 once, so unknown
    assert (out / "item_features.csv").read_text() == (
        "item,brand,shape\n1,1,1\n2,1,0\n3,2,1\n4,2,0\n5,0,0\n"
    )
    assert (out / "item_feature_values.csv").read_text() == (
        'column,code,value\nbrand,1,"Elm, old"\nbrand,2,Oak\nshape,1,7\n'
    )
    meta = json.loads((out / "meta.json").read_text())
    assert meta["features"] == {
        "item": {"brand": {"values": 2, "unknown": 1}, "shape": {"values": 1, "unknown": 3}}
    }
    assert meta["features"] == outcome.meta["features"]
    for name in ("item_features.csv", "item_feature_values.csv"):
        assert (
            meta["files"][name]["sha256"] == hashlib.sha256((out / name).read_bytes()).hexdigest()
        )
    recorded = meta["recipe"]["features"]
    assert recorded["item_features_sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert recorded["min_feature_count"] == 2


def test_with_a_count_of_one_every_value_has_a_code(log: Path, tmp_path: Path) -> None:
    table = write(tmp_path, "item,shape\na,round\nb,7\nd,7\nc,7.0\n")
    prepare(Interactions(log), tmp_path / "out", features=FeatureFiles(table, min_count=1))
    assert translated(tmp_path / "out", "item") == {
        **{1: ["7"], 2: ["round"], 3: ["7"], 4: ["7.0"], 5: [""]}
    }


def test_users_by_name_and_in_all_three_splits(log: Path, tmp_path: Path) -> None:
    rows = [f"user-{user},{'even' if user % 2 == 0 else 'odd'}" for user in reversed(range(9))]
    table = write(tmp_path, "user,half\n" + "\n".join(rows) + "\n")
    out = tmp_path / "out"
    prepare(Interactions(log), out, features=FeatureFiles(users=table))
    names = dict(csv.reader((out / "users.csv").read_text().splitlines()[1:]))
    values = {names[str(uid)]: value for uid, (value,) in translated(out, "user").items()}
    assert values.pop("user-9") == ""
    assert values == {f"user-{n}": "even" if n % 2 == 0 else "odd" for n in range(9)}
    prepared = open_prepared(out)
    held_out = [read_held_out(part).user_ids for part in (prepared.valid_dir, prepared.test_dir)]
    seen = np.concatenate([read_click_log(prepared.train_dir).user_ids, *held_out])
    assert sorted(seen.tolist()) == read_features(out / "user_features.csv").ids.tolist()
    assert not (out / "item_features.csv").exists()


def test_integer_ids_keep_their_numbers_for_users_and_get_ours_for_items(
    numbered: Path, tmp_path: Path
) -> None:
    items = write(tmp_path, "item,kind\n4,x\n1,x\n5,y\n3,y\n")
    users = write(tmp_path, "user,age\n7,30\n97,30\n", "users.csv")
    out = tmp_path / "out"
    prepare(Interactions(numbered), out, features=FeatureFiles(items, users))
    assert translated(out, "item") == {1: ["x"], 2: ["x"], 3: [""], 4: ["y"], 5: ["y"]}
    ages = translated(out, "user")
    assert list(ages) == list(range(7, 98, 10))  # user ids have gaps
    assert [uid for uid, (age,) in ages.items() if age == "30"] == [7, 97]


# -- property: the codes are those of a plain counter --------------------------------------------

_VALUES = st.sampled_from(["", " ", "a", " a", "B", "ä", 'q"', "x,y", "zz"])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(_VALUES, _VALUES), min_size=12, max_size=12),
    st.permutations(range(12)),
    st.integers(0, 11),
    st.integers(1, 3),
)
def test_codes_are_those_of_a_counter(
    tmp_path: Path,
    cells: list[tuple[str, str]],
    order: list[int],
    absent: int,
    min_count: int,
) -> None:
    dataset = split_log(synthetic_log(10, 12, 400, seed=1), min_count=2)
    assert dataset.items.height == 12
    path = tmp_path / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["item", "one", "two"])
        writer.writerows([row + 1, *cells[row]] for row in order[absent:])
    table = read_feature_file(path, "item")
    given_rows = {str(row + 1): cells[row] for row in order[absent:]}
    ids = dataset.items["source_id"].to_list()
    expected, translation = [], []
    for place, name in enumerate(("one", "two")):
        values = [given_rows.get(number, ("", ""))[place].strip() for number in ids]
        counts = Counter(value for value in values if value)
        frequent = [value for value, count in counts.items() if count >= min_count]
        ranked = sorted(frequent, key=lambda value, c=counts: (-c[value], value.encode()))
        if not ranked:
            with pytest.raises(DataError, match=f"column '{name}' has no value on"):
                item_features(dataset, table, min_count)
            return
        expected.append([ranked.index(v) + 1 if v in ranked else 0 for v in values])
        translation += [(name, code, value) for code, value in enumerate(ranked, 1)]
    features = item_features(dataset, table, min_count)
    assert features is not None
    mine = features.codes.drop("category", strict=False)  # the sample's own
    assert mine.columns == ["item", "one", "two"]
    assert mine["item"].to_list() == list(range(1, len(ids) + 1))
    assert [mine["one"].to_list(), mine["two"].to_list()] == expected
    assert features.values.filter(pl.col("column") != "category").rows() == translation


# -- the category of items.csv, and the sample's -------------------------------------------------


def test_the_sample_brings_its_planted_interests(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*SMALL, "--out", str(out)]) == 0
    planted = synthetic_log(60, 40, 700, seed=1230).titles
    assert planted is not None
    category_of = dict(zip(planted["source_id"], planted["category"], strict=True))
    source_ids = read_source_ids(out)
    singles = {name for name, count in Counter(category_of.values()).items() if count == 1}
    assert translated(out, "item") == {
        item: ["" if category_of[name] in singles else category_of[name]]
        for item, name in source_ids.items()
    }


def test_the_demo_has_no_unknown_category() -> None:
    features = item_features(Sample().dataset(seed=1230, min_count=5), None, 2)
    assert features is not None
    assert features.summary() == {"category": {"values": 40, "unknown": 0}}


def test_category_of_the_titles_unless_the_table_has_its_own(log: Path, tmp_path: Path) -> None:
    titles = write(tmp_path, "item,title,category\na,A,Poems\nb,B,Poems\nc,C,Rare\n", "titles.csv")
    brands = write(tmp_path, "item,brand\na,x\nb,x\n", "brands.csv")
    own = write(tmp_path, "item,category\nd,Novels\ne,Novels\n", "own.csv")
    both, other = tmp_path / "both", tmp_path / "other"
    prepare(Interactions(log, titles), both, features=FeatureFiles(brands))
    assert read_features(both / "item_features.csv").columns == ("category", "brand")
    assert translated(both, "item")[2] == ["Poems", "x"]
    assert translated(both, "item")[4] == ["", ""]
    prepare(Interactions(log, titles), other, features=FeatureFiles(own))
    assert read_features(other / "item_features.csv").columns == ("category",)
    assert translated(other, "item")[1] == ["Novels"]
    assert read_categories(other)[2] == "Poems"  # items.csv keeps the titles' own


# -- what is said --------------------------------------------------------------------------------


def test_one_warning_for_what_is_missing(
    log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = write(tmp_path, "item,brand,shape\na,,x\nb,y,x\ne,y,z\nzz,y,x\ny1,y,x\n")
    with caplog.at_level(logging.INFO):
        prepare(Interactions(log), tmp_path / "out", features=FeatureFiles(items=table))
    said = {
        level: [r.getMessage() for r in caplog.records if r.levelname == level]
        for level in ("WARNING", "INFO")
    }
    assert said["WARNING"] == [
        f"{table}: no value, so unknown (0): brand of 3 items (d, a, c); shape of 2 items (d, c)"
    ]
    assert f"{table}: 2 of its items are not in the log" in said["INFO"]
    assert (
        f"{table}: shape: 1 items have a value of fewer than 2 items, so unknown (0)"
        in said["INFO"]
    )


def test_only_the_first_few_ids_are_named(
    log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = write(tmp_path, "item,brand\ne,x\n")
    prepare(Interactions(log), tmp_path / "out", features=FeatureFiles(table, min_count=1))
    assert "brand of 4 items (d, a, b, …)" in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "item,brand\nzz,x\nyy,x\n",
            "none of its 2 items is in the log (it has 'zz', the log 'd')",
        ),
        ("item,title\na,A\nb,B\n", "column 'title' has no value on 2 or more items of the log"),
        ("item,title\na,\nb,\n", "column 'title' has no value on 2 or more items of the log"),
    ],
)
def test_tables_that_do_not_belong_to_the_log(
    log: Path, tmp_path: Path, content: str, said: str
) -> None:
    table = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        prepare(Interactions(log), tmp_path / "out", features=FeatureFiles(items=table))
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


# -- the folder, and the command line ------------------------------------------------------------


def test_other_features_are_another_recipe(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write(tmp_path, "item,brand\na,x\nb,x\n")
    out = tmp_path / "out"
    plain = ["--interactions", str(log), "--out", str(out)]
    arguments = [*plain, "--item-features", str(table)]
    assert main(arguments) == 0
    assert "item features: brand (1 values, 3 items unknown)" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "already prepared" in capsys.readouterr().out
    moved = table.rename(tmp_path / "moved.csv")
    arguments[-1] = str(moved)
    assert main(arguments) == 0
    moved.write_text("item,brand\na,x\nb,x\nc,x\n")
    changed: list[tuple[list[str], str]] = [
        (arguments, "item_features_sha256: "),
        (plain, "item_features_sha256: "),
        ([*arguments, "--min-feature-count", "1"], "min_feature_count: 2 there, 1 asked"),
        ([*arguments, "--user-features", str(log)], "user_features_sha256: None there"),
    ]
    for given_now, said in changed:
        capsys.readouterr()
        assert main(given_now) == 2
        assert said in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert translated(out, "item")[4] == ["x"]
    assert main([*plain, "--overwrite"]) == 0
    assert not list(out.glob("*feature*"))


def test_a_folder_without_its_feature_file_is_not_whole(log: Path, tmp_path: Path) -> None:
    features = FeatureFiles(items=write(tmp_path, "item,brand\na,x\nb,x\n"))
    prepare(Interactions(log), tmp_path / "out", features=features)
    (tmp_path / "out" / "item_features.csv").unlink()
    with pytest.raises(DataError, match=r"item_features\.csv: missing or changed since"):
        prepare(Interactions(log), tmp_path / "out", features=features)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*SMALL, "--item-features", "x"], "--item-features does not go with --sample"),
        ([*SMALL, "--min-feature-count", "0"], "--min-feature-count is 0; expected 1 or more"),
        (["--interactions", "LOG", "--item-features", "no.csv"], "no.csv: no such file"),
        (["--interactions", "LOG", "--user-features", "."], ".: cannot be read: Is a directory"),
    ],
)
def test_mistakes_on_the_command_line(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    arguments = [str(log) if word == "LOG" else word for word in arguments]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
