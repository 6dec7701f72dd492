# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Coverage, exposure, popularity and diversity: hand-worked numbers, and where they come from."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.evaluation.beyond_accuracy import (
    ItemStatistics,
    category_diversity,
    gini,
    list_report,
    mean_popularity_rank,
    of_lists,
    of_truths,
    popularity_ranks,
)
from paddlerec_milvus.evaluation.item_statistics import categories_beside, item_statistics_of


def ints(*values) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def pairs(shown) -> list[tuple[int, int]]:
    return sorted(zip(shown.owner.tolist(), shown.items.tolist(), strict=True))


def test_lists_and_truths_become_the_same_pairs():
    # item 9 is outside the catalogue of 5; -1 fills short lists; a repeated truth counts once
    assert pairs(of_lists(ints([3, 9], [-1, -1], [5, -1]), 5)) == [(0, 3), (2, 5)]
    truths = of_truths(ints(0, 3, 3, 5), ints(3, 3, 9, 5, 5), 5)
    assert pairs(truths) == [(0, 3), (2, 5)]
    assert truths.users == 3


def test_popularity_ranks_share_the_mean_among_equals():
    # clicks 5, 2, 2, 0: ranks 1, 2.5, 2.5, 4; less a half, over 4; the padding's clicks are no rank
    ranks = popularity_ranks(ints(7, 5, 2, 2, 0))
    assert ranks[1:] == pytest.approx([0.125, 0.5, 0.5, 0.875])
    assert ranks[1:].mean() == pytest.approx(0.5)


def test_mean_popularity_rank_is_nan_for_an_empty_list():
    ranks = np.array([0, 0.1, 0.3, 0.5])
    got = mean_popularity_rank(of_lists(ints([1, 2], [3, -1], [-1, -1]), 3), ranks)
    assert got[:2] == pytest.approx([0.2, 0.5])
    assert np.isnan(got[2])


def test_diversity_is_the_share_of_pairs_of_different_categories():
    categories = ints(-1, 0, 0, 1, -1, 2)
    shown = of_lists(ints([1, 2, 3, 4], [1, 3, 5, -1], [1, 2, -1, -1], [1, 4, -1, -1]), 5)
    # 1, 2, 3 (4 has none): of 3 pairs one is alike; all differ; none does; no pair
    got = category_diversity(shown, categories)
    assert got[:3] == pytest.approx([2 / 3, 1, 0])
    assert np.isnan(got[3])


def test_diversity_equals_counting_pairs():
    rng = np.random.default_rng(2)
    categories = np.concatenate([[-1], rng.integers(-1, 4, 40)])
    candidates = np.stack([rng.permutation(40)[:9] + 1 for _ in range(20)])
    got = category_diversity(of_lists(candidates, 40), categories)
    for value, row in zip(got, categories[candidates], strict=True):
        known = row[row >= 0]
        differ = [a != b for i, a in enumerate(known) for b in known[:i]]
        assert value == pytest.approx(np.mean(differ))


def test_gini_of_even_and_of_single_exposure():
    assert gini(ints(2, 2, 2, 2)) == pytest.approx(0)
    assert gini(ints(0, 4, 0, 0)) == pytest.approx(3 / 4)
    # 1, 3: ((2 - 3) 1 + (4 - 3) 3) / (2 x 4)
    assert gini(ints(3, 1)) == pytest.approx(1 / 4)


def test_report_of_lists_and_of_none():
    catalogue = ItemStatistics(popularity_ranks(ints(0, 4, 3, 2, 1)), "clicks", None)
    report = list_report(of_lists(ints([1, 2], [1, -1]), 4), catalogue)
    # shown 2, 1, 0, 0 times; ranks 0.125, 0.375: users' means 0.25 and 0.125
    assert report.model_dump() == pytest.approx(
        {"coverage": 0.5, "gini": 7 / 12, "popularity_rank": 0.1875}
    )
    nothing = list_report(of_lists(ints([-1, -1]), 4), catalogue)
    assert nothing.model_dump() == {"coverage": 0, "gini": None, "popularity_rank": None}


def prepared(tmp_path, items: str):
    for part in ("train", "valid", "test"):
        (tmp_path / part).mkdir()
    (tmp_path / "meta.json").write_text(
        '{"format": 2, "item_count": 5, "ids": {"items": "int", "users": "int"}}'
    )
    (tmp_path / "items.csv").write_text(items)
    return tmp_path / "test"


HEADER = "item,source_id,title,category\n"


def test_categories_come_from_the_folder_above_the_test_users(tmp_path):
    # an item outside the catalogue is left out, one without a category is -1
    test = prepared(tmp_path, HEADER + "1,a,,Poems\n2,b,,\n3,c,,Maps\n4,d,,Poems\n9,e,,Art\n")
    assert categories_beside(test, 4).tolist() == [-1, 1, -1, 0, 1]
    (test / "part-0").write_text("")
    assert categories_beside(test / "part-0", 4).tolist() == [-1, 1, -1, 0, 1]


@pytest.mark.parametrize("items", [HEADER, HEADER + "1,a,,\n2,b,,\n", HEADER + "9,a,,Art\n"])
def test_no_category_is_no_number(tmp_path, items):
    assert categories_beside(prepared(tmp_path, items), 4) is None


def test_no_items_file_is_no_number(tmp_path):
    assert categories_beside(tmp_path / "test", 4) is None


def test_a_damaged_items_file_costs_only_the_diversity(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    assert categories_beside(prepared(tmp_path, "item,colour\n1,red\n"), 4) is None
    assert "no diversity by category" in caplog.text
    assert "items.csv" in caplog.text


def test_popularity_is_of_the_log_or_of_the_ids(tmp_path):
    # clicks of 1 … 4: 0, 2, 1, 0; item 7 is outside
    log = ClickLog(ints(1), ints(0, 4), ints(2, 3, 2, 7))
    clicked = item_statistics_of(4, log, tmp_path / "test")
    assert clicked.popularity_rank[1:] == pytest.approx([0.75, 0.125, 0.375, 0.75])
    assert clicked.popularity_from == "train clicks"
    by_id = item_statistics_of(4, None, tmp_path / "test")
    assert by_id.popularity_rank[1:] == pytest.approx([0.125, 0.375, 0.625, 0.875])
    assert by_id.size == 4
