# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Own ids to numbers and back, and folders that were made before there were such."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.data.id_map import IdMap, read_item_ids, read_user_ids, user_kind
from paddlerec_milvus.data.migrate import main as migrate
from paddlerec_milvus.data.prepared import open_prepared, read_source_ids
from paddlerec_milvus.errors import DataError

NAMES = ['B"00,1', "B 2", "7", "é\n5", "x'y"]


def write_log(folder: Path, items: list[str], user: str = "u-{}") -> Path:
    """Ten users who clicked all items but the last few of one another: popular ones come first."""
    path = folder / "log.csv"
    lines = ["user,item,time"]
    for number in range(20):
        for place, item in enumerate(items if number < 12 else items[:3]):
            quoted = item.replace('"', '""')
            lines.append(f'{user.format(number)},"{quoted}",{place}')
    path.write_text("\n".join(lines) + "\n")
    return path


def prepared(folder: Path, items: list[str], *options: str, user: str = "u-{}") -> Path:
    log, out = write_log(folder, items, user), folder / "out"
    source = ["--interactions", str(log), "--out", str(out), "--min-count", "2", *options]
    assert prepare(source) == 0
    return out


def test_strings_go_there_and_back(tmp_path):
    out = prepared(tmp_path, NAMES)
    items, users = read_item_ids(out), read_user_ids(out)
    assert (items.kind, users.kind, user_kind(out)) == ("string", "string", "string")
    assert sorted(items.own_ids(range(1, 6))) == sorted(NAMES)
    for number, name in read_source_ids(out).items():
        assert (items.number(name), items.own(number)) == (number, name)
    assert items.number("B 3") is items.number(7) is items.own(0) is items.own(6) is None
    assert users.own(0) == "u-0"
    assert users.number("u-10") == 2
    assert json.loads((out / "meta.json").read_text())["ids"] == {
        "items": "string",
        "users": "string",
    }


def test_ints_are_the_logs_own(tmp_path):
    huge = str(2**63 - 1)
    out = prepared(tmp_path, ["700", huge, "1", "9007199254740993", "5"], user="{}")
    items, users = read_item_ids(out), read_user_ids(out)
    assert (items.kind, users.kind) == ("int", "int")
    assert not items.is_identity
    assert users.is_identity
    assert set(items.own_ids(range(1, 6))) == {700, 2**63 - 1, 1, 9007199254740993, 5}
    assert items.own(items.number(2**63 - 1)) == 2**63 - 1
    assert items.number("700") is items.number(2) is None
    assert users.number(10**12) == 10**12


def test_int_like_strings_stay_strings(tmp_path):
    out = prepared(tmp_path, ["5", "6", "7", "8", "9"], "--string-ids", user="{}")
    assert (read_item_ids(out).kind, read_user_ids(out).kind) == ("string", "string")
    assert read_item_ids(out).number("5") is not None
    assert read_item_ids(out).number(5) is None


def test_without_a_map_ids_are_the_numbers(tmp_path):
    for ids in (IdMap(), read_item_ids(None), read_item_ids(tmp_path), IdMap("int", [1, 2, 3])):
        assert (ids.kind, ids.is_identity, ids.number(3), ids.own(3)) == ("int", True, 3, 3)
        assert ids.number("3") is None
    with pytest.raises(DataError, match="1 ids stand twice"):
        IdMap("string", ["a", "b", "a"])


def test_a_damaged_map_is_said(tmp_path):
    out = prepared(tmp_path, NAMES)
    for content in ("item,name\n1,x\n", "item,source_id\none,x\n", "item,source_id\n2,x\n"):
        (out / "items.csv").write_text(content)
        with pytest.raises(DataError, match=r"items\.csv: .*source_id"):
            read_item_ids(out)


@pytest.mark.parametrize(
    ("items", "options", "user", "kinds"),
    [
        (NAMES, [], "u-{}", {"items": "string", "users": "string"}),
        (["5", "6", "7", "8", "9"], [], "{}", {"items": "int", "users": "int"}),
        (["5", "6", "7", "8", "9"], ["--string-ids"], "{}", {"items": "string", "users": "string"}),
        (["05", "6", "7", "8", "x"], [], "{}", {"items": "string", "users": "int"}),
    ],
)
def test_a_folder_of_format_1_is_refused_then_migrated(
    tmp_path, capsys, items, options, user, kinds
):
    out = prepared(tmp_path, items, *options, user=user)
    today = (out / "meta.json").read_text()
    old = json.loads(today)
    assert old.pop("ids") == kinds
    (out / "meta.json").write_text(json.dumps(old | {"format": 1}))
    for read in (open_prepared, read_item_ids, read_user_ids):
        with pytest.raises(DataError, match=r"format is 1.*paddlerec_milvus\.data\.migrate .*out"):
            read(out)
    assert migrate([str(out)]) == 0
    assert json.loads((out / "meta.json").read_text()) == json.loads(today)
    assert migrate([str(out)]) == 0
    assert "already" in capsys.readouterr().out


def test_what_cannot_be_migrated_stays_as_it_is(tmp_path, capsys):
    out = prepared(tmp_path, NAMES)
    old = json.dumps({"format": 1, "item_count": 6})
    (out / "meta.json").write_text(old)
    (out / "items.csv").write_text("nothing")
    assert migrate([str(out)]) == 2
    assert "items.csv: cannot be read" in capsys.readouterr().err
    assert (out / "meta.json").read_text() == old
    assert migrate([str(tmp_path)]) == 2
    (out / "meta.json").write_text('{"format": 3}')
    assert migrate([str(out)]) == 2
    assert "format is 3" in capsys.readouterr().err
