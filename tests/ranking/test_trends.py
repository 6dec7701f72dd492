# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rising and new items: by hand, in pools and features, on disk, and planted in a timed log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_ranking import (
    CATEGORIES,
    ITEMS,
    VECTORS,
    channels,
    hits_of,
    interests,
    lists_of,
    model_of,
    traits,
)

from paddlerec_milvus.data.item_times import ItemTimes, read_item_times
from paddlerec_milvus.data.prepare import write_dataset
from paddlerec_milvus.data.raw_log import raw_log
from paddlerec_milvus.data.split import split_log
from paddlerec_milvus.data.split_choice import TIME, SplitChoice, moment_of
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.ranking.channels import CHANNELS, NEW, QUOTAS, RISING, Channels
from paddlerec_milvus.ranking.contributions import group_contributions, main_groups
from paddlerec_milvus.ranking.features import ALL_FEATURES, ALL_GROUPS, FEATURES, feature_rows
from paddlerec_milvus.ranking.ranking_model import RankingModel, load_ranking
from paddlerec_milvus.ranking.tree_training import fit_trees
from paddlerec_milvus.ranking.trends import Trends
from paddlerec_milvus.settings import QuotaSettings

TIMED = {**QUOTAS, RISING: 3, NEW: 2}
# padding, then: grew, fell, is new, is newer and more clicked, stayed, is unclicked
AGE = np.array([np.nan, 30, 40, 2, 1, 50, np.nan], np.float32)
FEW = Trends.of(
    ItemTimes(
        AGE,
        earlier=np.array([0, 9, 9, 0, 0, 9, 0]),
        before=np.array([0, 5, 8, 0, 0, 4, 0]),
        last=np.array([0, 25, 3, 2, 5, 4, 0]),
    )
)


def trends() -> Trends:
    """Of the small log's items, any numbers."""
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 12, (3, ITEMS))
    counts[:2, rng.random(ITEMS) < 0.3] = 0  # new
    counts[:, [0, ITEMS - 1]] = 0
    age = np.where(counts.any(axis=0), rng.uniform(0, 90, ITEMS), np.nan).astype(np.float32)
    return Trends.of(ItemTimes(age, *counts))


def timed_channels() -> Channels:
    return channels()._replace(quotas=TIMED, trends=trends())


def timed_model() -> RankingModel:
    """Trees that go by the age of an item."""
    known = trends()
    lists = lists_of(20, 60, 2)
    extra = np.random.default_rng(4).normal(size=(len(lists.rows), 2)).astype(np.float32)
    rows = np.concatenate([lists.rows, extra], axis=1)
    best = extra[:, 0].reshape(20, 60).argmax(axis=1)
    labels = np.zeros((20, 60), np.bool_)
    labels[np.arange(20), best] = True
    ranker = fit_trees(lists._replace(rows=rows, labels=labels.ravel()), features=ALL_FEATURES)
    names = {"channels": list(TIMED), "quotas": TIMED, "features": list(ALL_FEATURES)}
    manifest = model_of(ranker).manifest.model_copy(update=names)
    own = timed_channels()._replace(trends=known)
    return RankingModel(manifest, own, ranker, VECTORS, CATEGORIES)


def test_by_hand() -> None:
    # log of (25 + 5) / (5 + 5), 8 / 13, 7 / 5, 10 / 5, 9 / 9
    assert FEW.trend[1:6] == pytest.approx(np.log([3, 8 / 13, 1.4, 2, 1]))
    assert np.isnan(FEW.trend[[0, 6]]).all()
    assert FEW.rising.tolist() == [1, 4, 3]
    assert FEW.new.tolist() == [4, 3]


def test_both_channels_list_their_first_items_that_may_be_listed() -> None:
    known, history = trends(), np.array([3, 17, 22])
    first = int(known.rising[0])
    pool = timed_channels().pool(history, hits_of([9]), {3, 17, 22, first})
    for name, items in ((RISING, known.rising), (NEW, known.new)):
        ranks = pool.ranks[:, CHANNELS.index(name)]
        listed = pool.items[np.argsort(ranks, kind="stable")[(ranks == 0).sum() :]]
        expected = [item for item in items.tolist() if item not in {3, 17, 22, first}]
        assert listed.tolist() == expected[: TIMED[name]]
    allowed = np.zeros(ITEMS, np.bool_)
    allowed[known.new[1]] = True
    only = timed_channels().pool(history, hits_of([]), set(), allowed)
    assert only.items.tolist() == [known.new[1]]


def test_the_last_columns_are_age_and_trend_and_the_others_are_as_without() -> None:
    known, clicks, hits = trends(), np.array([3, 17]), hits_of([9, ITEMS + 4])
    pool = timed_channels().pool(clicks, hits, {3})
    timed = feature_rows(pool, clicks, interests(1), hits, traits()._replace(trends=known))
    plain = feature_rows(pool, clicks, interests(1), hits, traits())
    assert timed.shape[1] == len(ALL_FEATURES) == len(FEATURES) + 2
    assert np.array_equal(timed[:, : len(FEATURES)], plain, equal_nan=True)
    inside = np.where(pool.items < ITEMS, pool.items, 0)  # of one that came later nothing is known
    expected = np.stack([known.age[inside], known.trend[inside]], axis=1)
    assert np.array_equal(timed[:, len(FEATURES) :], expected, equal_nan=True)
    assert np.isnan(timed[-1, -2:]).all()


def test_what_was_saved_has_its_quotas_and_times_again(tmp_path: Path) -> None:
    model, history = timed_model(), np.array([3, 17, 22])
    assert "item_age" in model.ranker.features
    model.save(tmp_path)
    again = load_ranking(tmp_path, VECTORS, CATEGORIES, "m", "d")
    assert again.channels.quotas == again.manifest.quotas == TIMED
    lists = [
        one.rank(history, interests(1), hits_of([9]), set(), 50, explain=True)
        for one in (model, again)
    ]
    for ours, theirs in zip(*lists, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    groups = {name for row in lists[0].contributions for name, _ in main_groups(row)}
    assert "trend" in groups
    # the same trees with other quotas are another ranker
    other = model.manifest.model_copy(update={"quotas": {**TIMED, NEW: 3}})
    assert other.digest != model.manifest.digest


def test_channels_that_want_times_go_with_their_features_alone(tmp_path: Path) -> None:
    model = model_of(fit_trees(lists_of(20, 60, 2, "popularity")))
    model.manifest = model.manifest.model_copy(
        update={"channels": list(TIMED), "quotas": TIMED},
    )
    model.save(tmp_path)
    with pytest.raises(CheckpointError, match="another channels: "):
        load_ranking(tmp_path, VECTORS, CATEGORIES, "m", "d")


def test_contributions_have_a_group_for_them_only_where_they_are() -> None:
    rows = np.random.default_rng(5).normal(size=(9, len(ALL_FEATURES))).astype(np.float32)
    listed = np.array([7, 0])
    weights = np.zeros(len(ALL_FEATURES))
    weights[-1] = 2
    moved = group_contributions(lambda one: one @ weights, rows, listed)
    assert moved.shape == (2, len(ALL_GROUPS))
    assert moved[:, -1] == pytest.approx(2 * (rows[listed, -1] - np.median(rows[:, -1])))
    assert not moved[:, :-1].any()
    few = rows[:, : len(FEATURES)]
    assert group_contributions(lambda one: one[:, 0], few, listed).shape == (2, len(ALL_GROUPS) - 1)


def test_channels_are_those_of_the_settings() -> None:
    assert tuple(QuotaSettings.model_fields) == CHANNELS


def test_planted_new_items_are_candidates_that_no_other_channel_has(tmp_path: Path) -> None:
    """Every user clicks through a category of old items; in the last days before the valid truths
    a few users click items that are new then, each once, and later many do.
    """
    rng, clicks = np.random.default_rng(0), []
    for user in range(120):
        days = np.sort(rng.uniform(0, 90, 12))
        own = 1 + 40 * (user % 4) + rng.permutation(40)[:12]
        clicks += [(user, item, day) for item, day in zip(own, days, strict=True)]
        planted = 1000 + user // 6 % 8
        clicks.append((user, planted, 78 + rng.uniform() if user % 6 == 0 else 82 + rng.uniform()))
    users, items, days = (np.array(column) for column in zip(*clicks, strict=True))
    moments = (1_600_000_000 + days * 86_400).astype(np.int64)
    raw = raw_log(pl.Series(users), pl.Series(items), moments)
    cuts = (moment_of("", text) for text in ("2020-12-07", "2020-12-02T12:26:40"))  # 85, 80
    dataset = split_log(raw, min_count=2, choice=SplitChoice(TIME, *cuts))
    count = dataset.items.height + 1
    write_dataset(tmp_path, dataset, {"source": {}})
    times = read_item_times(tmp_path, dataset.train, count)
    assert times is not None
    pools = Channels.of(dataset.train, count, dict.fromkeys(CHANNELS, 10), Trends.of(times))
    source = np.array([0, *map(int, dataset.items["source_id"])])
    found = dict.fromkeys(CHANNELS, 0)
    held_out, vectors = dataset.valid, rng.normal(size=(count, 8))
    for history, truths in zip(held_out.history_list(), held_out.truth_list(), strict=True):
        nearest = np.argsort(-(vectors @ vectors[history[-1]]), kind="stable")
        hits = hits_of(nearest[~np.isin(nearest, [0, *history])][:10].tolist())
        pool = pools.pool(history, hits, set(history.tolist()))
        label = np.isin(pool.items, truths) & (source[pool.items] >= 1000)
        for name, there in zip(CHANNELS, (pool.ranks[label] > 0).T, strict=True):
            found[name] += int(there.sum())
    planted = sum(int((source[truths] >= 1000).sum()) for truths in held_out.truth_list())
    assert planted > 60
    assert found[NEW] == planted
    assert max(found[name] for name in QUOTAS) < planted / 3
