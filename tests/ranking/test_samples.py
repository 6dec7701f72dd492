# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists to learn from: whose clicks they are of, in what order, and none that a model has seen."""

from __future__ import annotations

import numpy as np
import pytest
from small_ranking import ITEMS, VECTORS, channels, searched, traits, users_of
from support import log_of

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.ranking import samples
from paddlerec_milvus.ranking.features import FEATURES, feature_rows
from paddlerec_milvus.ranking.samples import (
    EARLIEST,
    FURTHER,
    PLACES,
    Moment,
    held_out_moments,
    ranking_lists,
    require_unseen,
    searched_users,
    training_moments,
    with_held_out,
)
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever

LOG = log_of([[1, 2], [3, 4], [5, 6]])  # of the users 0, 1 and 2
LONG = list(range(1, 31))


def strangers(count: int = 3) -> HeldOutUsers:
    """Users 100 …, of 30 clicks and 5 truths."""
    return users_of([LONG] * count, [[31, 32, 33, 34, 35]] * count)


def as_lists(moments: list[Moment]) -> list[tuple[int, list[int], list[int]]]:
    return [(one.user, one.history.tolist(), one.later.tolist()) for one in moments]


def test_moments_to_measure_are_the_histories_and_truths() -> None:
    users = users_of([[1, 2], [3]], [[4], [5, 6]])
    assert as_lists(held_out_moments(users)) == [(100, [1, 2], [4]), (101, [3], [5, 6])]


def test_a_stranger_gives_the_truths_and_earlier_places_of_the_same_clicks() -> None:
    moments = as_lists(training_moments(strangers(), LOG, seed=1))
    assert len(moments) == 3 * PLACES
    clicks = [*LONG, 31, 32, 33, 34, 35]
    for user in (100, 101, 102):
        own = [(history, later) for name, history, later in moments if name == user]
        assert own[0] == (LONG, clicks[30:])
        places = [len(history) for history, _ in own]
        assert len(set(places)) == PLACES
        assert min(places) >= int(EARLIEST * len(clicks))
        for history, later in own:
            assert history == clicks[: len(history)]
            assert later == clicks[len(history) : len(history) + 5] != []
    names = [name for name, _, _ in moments]
    assert names == sorted(names, key=names.index)  # whole users, one after the other


def test_what_was_clicked_further_on_counts_less() -> None:
    for one in training_moments(strangers(), LOG, seed=1):
        assert [*one.history, *one.later, *one.further] == [*LONG, 31, 32, 33, 34, 35]
        assert len(one.later) == 5 or not len(one.further)
    user = next(searched([1]))
    pool = channels().pool(user.clicks, user.hits, set(user.moment.history.tolist()))
    items, none = pool.items[[2, 5, 7]].tolist(), 999
    moment = user.moment._replace(later=np.array([items[0], none]), further=np.array(items[::-1]))
    lists = ranking_lists(channels(), traits(), iter([user._replace(moment=moment)]))
    counts = dict(zip(lists.items.tolist(), lists.labels.tolist(), strict=True))
    assert [counts.pop(item) for item in items] == pytest.approx([1, FURTHER, FURTHER])
    assert set(counts.values()) == {0}


def test_the_seed_alone_says_which_and_in_what_order() -> None:
    first, again, other = (
        as_lists(training_moments(strangers(20), LOG, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert {name for name, _, _ in first} == {name for name, _, _ in other}


def test_few_clicks_give_few_places() -> None:
    # of 2 clicks only the second has one before it
    assert as_lists(training_moments(users_of([[1]], [[2]]), LOG, 1)) == [(100, [1], [2])]


def test_a_user_of_the_train_log_gives_the_truths_alone() -> None:
    users = users_of([[3, 4], LONG], [[7], [31]], ids=[1, 100])
    moments = as_lists(training_moments(users, LOG, seed=3))
    assert [one for one in moments if one[0] == 1] == [(1, [3, 4], [7])]
    assert len(moments) == 1 + PLACES


def test_many_users_share_the_lists() -> None:
    for users, lists in ((4, 4 * 2), (7, 7), (30, 10)):
        assert len(training_moments(strangers(users), LOG, 1, most=10)) == lists


def test_a_label_in_the_train_log_of_the_same_user_is_refused() -> None:
    require_unseen(users_of([[3]], [[1, 2]], ids=[1]), LOG)  # others' clicks
    require_unseen(users_of([[1]], [[2]], ids=[7]), LOG)
    leaking = users_of([[9], [3], [5]], [[9], [8, 4], [6]], ids=[100, 1, 2])
    message = "2 clicks .* are in the training log, the first of user 1: "
    for check in (lambda: require_unseen(leaking, LOG), lambda: training_moments(leaking, LOG, 1)):
        with pytest.raises(DataError, match=message):
            check()


def test_an_item_of_the_history_that_is_clicked_again_is_no_leak() -> None:
    require_unseen(users_of([[3, 4]], [[4, 9]], ids=[1]), LOG)
    twice = log_of([[1, 2], [3, 4, 4]])
    require_unseen(users_of([[3, 4, 4]], [[4]], ids=[1]), twice)
    with pytest.raises(DataError, match="the first of user 1: "):
        require_unseen(users_of([[3, 4]], [[4]], ids=[1]), twice)


def test_ids_of_users_need_not_be_rows_of_the_log() -> None:
    log = ClickLog(np.array([7, 90]), np.array([0, 1, 3]), np.array([5, 6, 8]))
    require_unseen(users_of([[1]] * 3, [[6], [6], [5]], ids=[0, 1, 90]), log)
    with pytest.raises(DataError, match="the first of user 90"):
        require_unseen(users_of([[1]], [[8]], ids=[90]), log)


def test_a_log_with_the_clicks_of_held_out_users() -> None:
    log = ClickLog(np.array([7, 90]), np.array([0, 1, 3]), np.array([5, 6, 8]))
    users = users_of([[6, 8], [1, 2], [3]], [[4, 99], [2], [99]], ids=[90, 8, 200])
    both = with_held_out(log, users, item_count=99)
    assert both.user_ids.tolist() == [7, 8, 90, 200]
    assert [one.tolist() for one in np.split(both.items, both.indptr[1:-1])] == [
        *([5], [1, 2, 2], [6, 8, 4], [3])
    ]


def test_users_are_searched_for_as_their_lists_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "BATCH", 2)
    retriever = ExactRetriever(VECTORS[1:], np.arange(1, ITEMS), "IP")
    moments = [Moment(user, np.arange(1, 3 + user), np.array([30])) for user in range(5)]

    def encode(histories: np.ndarray, lengths: np.ndarray, users: np.ndarray | None) -> np.ndarray:
        return VECTORS[histories[np.arange(len(lengths)), lengths - 1]][:, None]  # the last click

    for user in searched_users(moments, encode, 3, retriever, 200):
        history = user.moment.history
        assert user.clicks.tolist() == history[-3:].tolist()
        assert user.interests.tolist() == VECTORS[history[-1:]].tolist()
        expected = search_users(retriever, user.interests[None], 200, exclude=[history])
        found = expected.ids[0][: ITEMS - 1 - len(history)]
        assert user.hits.items.tolist() == found.tolist()
        assert not set(found.tolist()) & set(history.tolist())


def test_lists_are_the_pools_that_hold_a_later_click() -> None:
    lists = ranking_lists(channels(), traits(), searched(range(30)))
    rows, labels, sizes, items, clicks = [], [], [], [], []
    for user in searched(range(30)):
        excluded = set(user.moment.history.tolist())
        pool = channels().pool(user.clicks, user.hits, excluded)
        label = [item in user.moment.later for item in pool.items]
        if any(label):
            rows.append(feature_rows(pool, user.clicks, user.interests, user.hits, traits()))
            labels += label
            sizes.append(len(label))
            items += pool.items.tolist()
            clicks.append(user.clicks.tolist())
    assert lists.sizes.tolist() == sizes
    assert lists.labels.tolist() == labels
    assert lists.items.tolist() == items
    assert lists.clicks.tolist() == clicks  # all of three
    assert np.array_equal(lists.rows, np.concatenate(rows), equal_nan=True)
    inside, others = lists.split(1, 3)
    assert inside.sizes.tolist() == sizes[1:3]
    assert others.sizes.tolist() == [sizes[0], *sizes[3:]]
    assert np.array_equal(inside.rows, np.concatenate(rows[1:3]), equal_nan=True)
    assert np.array_equal(others.rows, np.concatenate([rows[0], *rows[3:]]), equal_nan=True)
    assert inside.labels.tolist() == labels[sizes[0] : sum(sizes[:3])]
    assert inside.items.tolist() == items[sizes[0] : sum(sizes[:3])]
    assert others.items.tolist() == items[: sizes[0]] + items[sum(sizes[:3]) :]
    assert inside.clicks.tolist() == clicks[1:3]
    assert others.clicks.tolist() == [clicks[0], *clicks[3:]]
    assert others.labels.tolist() == labels[: sizes[0]] + labels[sum(sizes[:3]) :]


def test_no_user_at_all_is_no_list() -> None:
    lists = ranking_lists(channels(), traits(), iter(()))
    assert lists.rows.shape == (0, len(FEATURES))
    assert len(lists.labels) == len(lists.sizes) == len(lists.items) == len(lists.clicks) == 0
