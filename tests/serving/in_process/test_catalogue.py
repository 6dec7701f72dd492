# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Titles that are searched and categories."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlerec_milvus.data.catalogue import Catalogue, read_catalogue
from paddlerec_milvus.data.cli import main as prepare

TITLES = {
    5: "Harry Potter and the Chamber of Secrets",
    2: "Harry Potter and the Philosopher's Stone",
    3: "The Potter's Wheel",
    4: "Les Misérables",
    6: "Straße nach  Süden\nII",
    7: "挪威的森林",
    9: "beyond the catalogue: Potter",
}
CATEGORIES = {1: "b", 3: "a", 5: "b", 8: "c", 9: "a"}
CATALOGUE = Catalogue(8, TITLES.items(), CATEGORIES.items())


@pytest.mark.parametrize(
    ("q", "items"),
    [
        ("potter", [2, 3, 5]),
        ("POTTER harry", [2, 5]),
        ("the potter", [2, 3, 5]),
        ("otter amber", [5]),
        ("potter potter's", [3]),
        ("stone chamber", []),
        ("misérables", [4]),
        ("Miserables", [4]),
        ("STRASSE suden ii", [6]),
        ("nach\nsüden", [6]),
        ("森林", [7]),
        ("nothing", []),
        ("potter " * 50, [2, 3, 5]),
        ("", [1, 2, 3, 4]),
        (" \n\u0301", [1, 2, 3, 4]),
        ("\ud800", []),
    ],
)
def test_titles_are_found_by_all_their_words(q, items):
    assert CATALOGUE.search_titles(q, 4) == items


def test_the_most_popular_come_first_and_no_more_than_asked_for():
    assert CATALOGUE.search_titles("potter", 2) == [2, 3]
    assert CATALOGUE.search_titles("", 100) == list(range(1, 9))
    assert Catalogue(0).search_titles("") == Catalogue(3).search_titles("x") == []


words = st.text(st.sampled_from("abAé \n中"), max_size=6)


@given(st.dictionaries(st.integers(1, 20), words, max_size=12), words, st.integers(1, 9))
def test_equals_a_look_at_every_title(titles, q, limit):
    def plain(text: str) -> str:
        split = unicodedata.normalize("NFKD", text.casefold())
        return "".join(c for c in split if not unicodedata.combining(c))

    wanted = plain(q).split()
    if wanted:
        found = [i for i in sorted(titles) if all(word in plain(titles[i]) for word in wanted)]
        assert Catalogue(20, titles.items()).search_titles(q, limit) == found[:limit]


def test_categories_are_numbers_and_lists():
    numbers = CATALOGUE.category_numbers(np.array([[1, 5, 8], [3, 2, -1], [0, 9, 2**62]]))
    assert numbers[0, 0] == numbers[0, 1] != numbers[0, 2]
    assert len({*numbers[0].tolist(), int(numbers[1, 0])}) == 3
    assert numbers[1:].ravel().tolist()[1:] == [-1] * 5
    assert CATALOGUE.items_of(["b", "c", "nosuch"]).tolist() == [1, 5, 8]
    assert CATALOGUE.items_of(["nosuch"]).tolist() == Catalogue(3).items_of(["b"]).tolist() == []


def test_it_is_read_from_a_prepared_folder(tmp_path, caplog):
    size = ["--users", "600", "--items", "300", "--clicks", "9000"]
    assert prepare(["--sample", *size, "--out", str(tmp_path / "data")]) == 0
    found = read_catalogue(tmp_path / "data", 300)
    assert len(found.titles) == len(found.categories) == found.total == 300
    assert not read_catalogue(None, 7).titles
    assert not read_catalogue(tmp_path, 7).titles
    (tmp_path / "items.csv").write_text("item,name\n1,x\n")
    assert not read_catalogue(tmp_path, 7).categories
    assert "no titles and no categories" in caplog.text
