# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Authors and years go with the titles from a user's table into the prepared folder."""

from __future__ import annotations

import polars as pl
import pytest

from paddlerec_milvus.data.catalogue import ItemDetails, read_item_details
from paddlerec_milvus.data.prepare import prepare
from paddlerec_milvus.data.prepared import read_titles
from paddlerec_milvus.data.sources import Interactions
from paddlerec_milvus.errors import DataError


@pytest.fixture
def log(tmp_path):
    """Ten users click on four items, p, q, r, s, of which p is clicked most."""
    rows = [f"{user},{item}" for user in range(10) for item in "ppqrs"]
    (tmp_path / "clicks.csv").write_text("\n".join(["user,item", *rows]) + "\n")
    return tmp_path / "clicks.csv"


def prepared(log, table):
    file = log.with_name("items.csv")
    file.write_text(table)
    return prepare(Interactions(log, file), log.with_name("out")).folder


def test_what_a_table_says_of_an_item_is_read_back(log):
    table = (
        'year,item,authors,title\n1871,p,"Carroll, L., J. Tenniel",Alice\n-700,q,,Ilias\n,r,B,\n'
    )
    folder = prepared(log, table)
    columns = pl.read_csv(folder / "items.csv").columns
    assert columns == ["item", "source_id", "title", "category", "authors", "year"]
    assert read_item_details(folder) == {
        1: ItemDetails("Alice", "Carroll, L., J. Tenniel", "1871"),
        2: ItemDetails("Ilias", "", "-700"),
        3: ItemDetails("", "B", ""),
        4: ItemDetails("", "", ""),
    }
    assert read_titles(folder) == {1: "Alice", 2: "Ilias"}


def test_a_table_without_them_is_prepared_as_before(log):
    folder = prepared(log, "item,title\np,Alice\n")
    assert (folder / "items.csv").read_text().startswith("item,source_id,title,category\n1,p,Alice")
    assert read_item_details(folder)[1] == ItemDetails("Alice", "", "")


def test_without_a_table_nothing_is_known_and_a_damaged_one_is_refused(tmp_path):
    assert read_item_details(tmp_path) == {}
    (tmp_path / "items.csv").write_text("item,title\nA,Alice\n")
    with pytest.raises(DataError, match=r"items\.csv: cannot be read"):
        read_item_details(tmp_path)
