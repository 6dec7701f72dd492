# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The log that comes with the package: what it holds, its terms, and that it can be remade."""

from __future__ import annotations

import hashlib
import runpy
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from support import ROOT

from paddlerec_milvus.data.catalogue import read_item_details
from paddlerec_milvus.data.files import read_bytes
from paddlerec_milvus.data.prepare import prepare
from paddlerec_milvus.demo.books import BOOKS, CLICKS, FOLDER, SOURCE

CUT = SimpleNamespace(**runpy.run_path(str(ROOT / "datasets" / "goodbooks" / "make_cut.py")))
DIGESTS = {  # of what is packed
    CLICKS: "a346b6a0960a1d10257f839292398bbcdeb1da69b5bed7ef2c508e83da121bc6",
    BOOKS: "f5aac18a447dfbda7aeefe247a148a0e099cfbbae40ddf23863806885a210390",
}
WHOLE_LOG = Path(__file__).parents[3] / "shared" / "data" / "goodbooks_mix"


def digest_of(file):
    return hashlib.sha256(read_bytes(file)).hexdigest()


@pytest.mark.parametrize("file", DIGESTS, ids=lambda file: file.name)
def test_the_cut_is_the_one_that_figures_are_of(file):
    assert digest_of(file) == DIGESTS[file]


def test_its_size_its_ids_and_its_terms():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 3_000_000
    assert {file.name for file in FOLDER.iterdir()} == {CLICKS.name, BOOKS.name}
    books = pl.read_csv(BOOKS)
    assert books["item"].to_list() == list(range(1, books.height + 1))
    assert books.height >= 3_456  # all ids in the documented calls
    assert not any("http" in "".join(map(str, row)) for row in books.iter_rows())
    notice = (ROOT / "NOTICE").read_text()
    for words in ("Zygmunt Zajac", "CC BY-SA 4.0", "Changes made", CLICKS.name, BOOKS.name):
        assert words in notice


def test_it_is_prepared_with_its_own_numbers_titles_authors_and_years(tmp_path):
    meta = prepare(SOURCE, tmp_path / "books").meta
    assert meta["already_filtered"]
    assert (meta["items"], meta["titles"]) == (3_500, 3_500)
    details = read_item_details(tmp_path / "books")
    assert details[1].authors.startswith("J.K. Rowling")
    assert details[1].year == "1997"
    assert sum(one.year == "" for one in details.values()) < 10


def test_few_readers_few_books_and_what_depends_on_them_are_dropped():
    whole = pl.DataFrame(
        [
            (user, item, place)
            for user in range(9)
            for place, item in enumerate(range(2 * user, 20))
        ],
        schema=["uid", "item", "time"],
        orient="row",
    )
    cut = CUT.cut_of(whole, users=9, items=12)
    assert cut["item"].n_unique() == 12
    assert 8 not in cut["uid"].to_list()  # has four books
    assert cut.group_by("uid").len()["len"].min() >= CUT.LEAST_CLICKS
    assert cut.group_by("item").len()["len"].min() >= CUT.LEAST_CLICKS
    items = pl.DataFrame({"item": range(20), "source_id": range(100, 120)}).with_columns(
        title=pl.format("T{}", "item"), authors=pl.lit("A"), year=pl.lit("1999")
    )
    clicks, books = CUT.numbered(cut, items)
    popularity = clicks.group_by("item").len().sort("item")
    assert popularity["item"].to_list() == books["item"].to_list()
    assert popularity["len"].is_sorted(descending=True)
    titles = dict(zip(books["item"], books["title"], strict=True))
    assert [titles[item] for item in clicks["item"]] == [f"T{item}" for item in cut["item"]]


@pytest.mark.shared
@pytest.mark.skipif(not WHOLE_LOG.is_dir(), reason="no whole goodbooks log in ../shared/data")
def test_the_script_makes_it_again_from_the_whole_log(tmp_path, monkeypatch):
    words = ["make_cut.py", "--from", str(WHOLE_LOG), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    assert CUT.main() == 0
    for file, digest in DIGESTS.items():
        assert digest_of(tmp_path / file.name) == digest
