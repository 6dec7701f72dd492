# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of feature codes go by the values' names: codes go by frequency, another one each day."""

from __future__ import annotations

import logging
from pathlib import Path

import paddle

from paddlerec_milvus.update.warm_start import feature_tables

CATEGORIES, BRANDS = (f"item_features.tables.{number}.weight" for number in (0, 1))


def prepared(folder: Path, columns: str, values: str) -> Path:
    folder.mkdir()
    (folder / "item_features.csv").write_text(f"item,{columns}\n1,1,1\n")
    (folder / "item_feature_values.csv").write_text("column,code,value\n" + values)
    return folder


def table(*rows: float) -> paddle.Tensor:
    """[rows, 2], with equal numbers in a row."""
    return paddle.to_tensor([[row, row] for row in rows])


def rows_of(tensor: paddle.Tensor) -> list[float]:
    rows: list[float] = tensor.numpy()[:, 0].tolist()
    return rows


EARLIER = {CATEGORIES: table(0.0, 1.0, 2.0), BRANDS: table(0.0, 7.0)}


def test_a_value_keeps_its_row_whatever_its_code_and_column(tmp_path):
    words = "category,1,books\ncategory,2,films\nbrand,1,acme\n"
    before = prepared(tmp_path / "before", "category,brand", words)
    words = "brand,1,new\nbrand,2,acme\ncategory,1,films\ncategory,2,books\ncategory,3,maps\n"
    today = prepared(tmp_path / "today", "brand,category", words)
    # of today the first table is the brands': its name is that of the categories' before
    fresh = {CATEGORIES: table(-1.0, -1.0, -1.0), BRANDS: table(-1.0, -1.0, -1.0, -1.0)}
    joined = feature_tables(fresh, EARLIER, before, today)
    assert rows_of(joined[CATEGORIES]) == [-1, -1, 7]
    assert rows_of(joined[BRANDS]) == [-1, 2, 1, -1]


def test_tables_whose_values_have_no_names_start_anew(tmp_path, caplog):
    caplog.set_level(logging.INFO, "paddlerec_milvus.update.warm_start")
    today = prepared(tmp_path / "today", "category,brand", "category,1,films\nbrand,1,acme\n")
    fresh = {CATEGORIES: table(-1.0, -1.0, -1.0), BRANDS: table(-1.0, -1.0), "other": table(3.0)}
    joined = feature_tables(fresh, EARLIER, tmp_path / "nowhere", today)
    assert {name: rows_of(one) for name, one in joined.items()} == {
        CATEGORIES: [-1, -1, -1],
        BRANDS: [-1, -1],
    }
    assert "nowhere names no values of its codes" in caplog.text
