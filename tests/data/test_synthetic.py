# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The synthetic log: sizes kept to the click, popularity skewed, interests planted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlerec_milvus.data.dataset import Dataset
from paddlerec_milvus.data.sources import Sample
from paddlerec_milvus.data.split import split_log
from paddlerec_milvus.data.synthetic import synthetic_log
from paddlerec_milvus.errors import SettingsError

DEMO = Sample()


@pytest.fixture(scope="module")
def demo() -> Dataset:
    return DEMO.dataset(seed=1230, min_count=5)


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 300), st.integers(12, 300), st.integers(0, 2000), st.integers(0, 99))
def test_exact_sizes_and_five_clicks_for_every_user(
    users: int, items: int, more: int, seed: int
) -> None:
    clicks = 5 * max(users, items) + more
    log = synthetic_log(users, items, clicks, seed)
    assert len(log.users) == len(log.items) == clicks
    assert np.bincount(log.users).min() >= 5
    assert len(log.user_ids) == users
    assert len(log.item_ids) == items
    assert set(np.unique(log.items).tolist()) <= set(range(items))


def test_nothing_is_dropped_at_a_sensible_density() -> None:
    # the density of Amazon Books: 8.9 M clicks on 603,668 users and 367,982 items
    dataset = split_log(synthetic_log(6037, 3680, 89_000, seed=5))
    assert dataset.items.height == 3680
    assert dataset.notes["dropped_clicks"] == dataset.notes["dropped_users"] == 0


def test_the_same_seed_gives_the_same_log_and_another_another() -> None:
    first, again, other = (synthetic_log(50, 40, 700, seed) for seed in (3, 3, 4))
    assert first.items.tolist() == again.items.tolist()
    assert first.users.tolist() == again.users.tolist()
    assert first.items.tolist() != other.items.tolist()


def test_popularity_falls_as_a_power_law(demo: Dataset) -> None:
    clicks = np.sort(np.bincount(demo.train.items))[::-1]
    share = clicks[:200].sum() / clicks.sum()
    assert 0.25 < share < 0.7  # a tenth of the items; even popularity would give 0.1


def test_titles_name_the_category(demo: Dataset) -> None:
    titled = zip(demo.items["title"].to_list(), demo.items["category"].to_list(), strict=True)
    assert all(title.startswith(f"{category}, item ") for title, category in titled)
    assert demo.items["title"].n_unique() == DEMO.items


def test_interests_tell_more_than_popularity(demo: Dataset) -> None:
    """Recommending what is popular in the categories of the history beats plain popularity."""
    names = demo.items["category"].str.slice(len("Category ")).cast(int).to_numpy()
    category = np.concatenate([[0], names])
    order = np.argsort(-np.bincount(demo.train.items, minlength=len(category)), kind="stable")
    plain, informed = [], []
    for history, truths in zip(demo.test.history_list(), demo.test.truth_list(), strict=True):
        seen, times = np.unique(category[history], return_counts=True)
        favourites = seen[np.argsort(-times)][:4]
        wanted = set(truths.tolist())
        plain.append(len(wanted & set(order[:50].tolist())) / len(wanted))
        near = order[np.isin(category[order], favourites)][:50]
        informed.append(len(wanted & set(near.tolist())) / len(wanted))
    assert np.mean(informed) > 2 * np.mean(plain)
    assert np.mean(informed) < 0.7  # not a toy that any rule solves


def test_next_click_is_likely_of_the_same_category(demo: Dataset) -> None:
    category = np.concatenate([[""], demo.items["category"].to_numpy()])
    clicks = [category[row] for row in np.split(demo.train.items, demo.train.indptr[1:-1])]
    same = np.concatenate([row[1:] == row[:-1] for row in clicks])
    assert 0.5 < same.mean() < 0.9


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((100, 50, 499), "--clicks 499 is too few"),
        ((10, 300, 1499), "expected at least 1500"),
        ((0, 50, 500), "users >= 1"),
        ((10, 5, 500), "items >= 12"),
    ],
)
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        synthetic_log(*sizes, seed=1)
