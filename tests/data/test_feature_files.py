# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Tables of features and files of codes: what is read, and lines that are refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from paddlerec_milvus.data.feature_files import FeatureFiles, read_feature_file
from paddlerec_milvus.data.features import read_features
from paddlerec_milvus.data.prepare import prepare
from paddlerec_milvus.data.sources import Interactions
from paddlerec_milvus.errors import DataError, SettingsError


def write(folder: Path, content: str | bytes, name: str = "features.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_gz_crlf_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    plain = 'item,brand\na,"two\nlines"\nb,Ä\n'
    tables = [
        read_feature_file(write(tmp_path, content, f"{number}.csv"), "item")
        for number, content in enumerate(
            [
                plain,
                "\ufeff item , brand\n" + plain.split("\n", 1)[1] + "\n\n",
                plain.replace("\n", "\r\n").replace("two\r\n", "two\n"),
                gzip.compress(plain.encode()),
            ]
        )
    ]
    for table in tables:
        assert table.ids.to_list() == ["a", "b"]
        assert table.values.to_dict(as_series=False) == {"brand": ["two\nlines", "Ä"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1: a blank line or an empty file; expected a header item,<column>"),
        ("a,Oak\nb,Elm\n", "line 1: found 'a,Oak', whose first column is not 'item'"),
        ("user,age\n1,2\n", "line 1: found 'user,age', whose first column is not 'item'"),
        ("item\na\n", "line 1: no column of features beside 'item'"),
        ("item,the brand\na,Oak\n", "line 1: column 2 is named 'the brand'; expected letters"),
        ("item,2nd\na,Oak\n", "column 2 is named '2nd'"),
        ("item,größe\na,Oak\n", "column 2 is named 'größe'"),
        ("item,\na,Oak\n", "column 2 is named ''"),
        ("item,brand,brand\na,x,y\n", "line 1: column 'brand' appears twice"),
        ("item,item\na,x\n", "line 1: column 'item' appears twice"),
        ("item,brand\na,Oak\nb\n", "line 3: found 'b', 1 cells; the header has 2"),
        ("item,brand\na,Oak,Elm\n", "line 2: found 'a,Oak,Elm', 3 cells; the header has 2"),
        ('item,brand\na,"x\ny"\nb\n', "line 4: found 'b'"),
        ("item,brand\na,Oak\n\nb,Elm\n", "line 3: found a blank line"),
        ("item,brand\n,Oak\n", "line 2: found an empty item id"),
        ("item,brand\na,x\nb,x\na,y\n", "line 4: item 'a' again, first seen in line 2"),
        ("item,brand\n", "a header and no rows"),
        ('item,brand\na,x\nb,"x\n', "line 3: not csv (unexpected end of data)"),
        ("item,brand\na,x\nb,Gr\xfcn\n".encode("latin-1"), "line 3: not UTF-8 text"),
        (b"\x1f\x8bdamaged", "damaged gzip file"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_feature_file(path, "item")
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def test_a_bad_table_is_found_before_the_log_is_read(tmp_path: Path) -> None:
    log = write(tmp_path, "user,item,time\nnonsense\n", "log.csv")
    table = write(tmp_path, "item,brand\na,x,y\n")
    with pytest.raises(DataError, match=r"features\.csv, line 2"):
        prepare(Interactions(log), tmp_path / "out", features=FeatureFiles(items=table))


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(SettingsError, match="--min-feature-count is -1"):
        FeatureFiles(min_count=-1)


def test_reading_codes(tmp_path: Path) -> None:
    read = read_features(write(tmp_path, "user,age,town\n-3,0,2\n9,1,0\n"))
    assert read.columns == ("age", "town")
    assert read.codes.tolist() == [[0, 2], [1, 0]]
    assert read.ids.tolist() == [-3, 9]
    assert read.codes.dtype == read.ids.dtype == np.int64


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1: found '', expected item,<column>"),
        ("item\n1\n", "line 1: found 'item', expected item,<column>"),
        ("uid,age\n1,2\n", "line 1: found 'uid,age', expected"),
        ("item,a,a\n1,2,2\n", "line 1: column 'a' appears twice"),
        ("item,a\n", "a header and no rows"),
        ("item,a\n1,0\n2,x\n", "line 3: found '2,x', expected item,a as integers, codes from 0"),
        ("item,a\n1,0\n2,-1\n", "line 3: found '2,-1'"),
        ("item,a\n1,0\n2,1,3\n", "line 3: found '2,1,3'"),
        ("item,a\n1,0\n\n2,1\n", "line 3: found a blank line"),
        ("item,a\n1,9999999999999999999\n", "line 2: found '1,9999999999999999999'"),
        ("item,a\n2,0\n", "line 2: found item 2, expected item 1"),
        ("item,a\n1,0\n3,0\n", "line 3: found item 3, expected item 2"),
        ("item,a\n1,0\n1,0\n", "line 3: found item 1, expected item 2"),
        ("user,a\n5,0\n5,0\n", "line 3: found user 5, expected a user above 5"),
    ],
)
def test_damaged_codes_are_refused_with_their_line(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_features(write(tmp_path, content))
    assert said in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_features(tmp_path / "item_features.csv")
