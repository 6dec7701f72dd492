# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users in Milvus: histories and interests, in Lite and on the real server."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from paddlerec_milvus.errors import RetrievalError, SettingsError
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.user_store import (
    MOST_CLICKS,
    MOST_INTERESTS,
    UserState,
    UserStore,
)

D, K = 8, 4
NASTY = "u'\"\\x/% \u00e9" + "\u00e9" * 240
numbers = itertools.count(1)


@pytest.fixture
def open_store(uri: str) -> Iterator[Callable[[], UserStore]]:
    """Opens the same collection anew each time; it is dropped in the end."""
    base, opened = f"shop_{next(numbers)}", list[UserStore]()

    def open_() -> UserStore:
        opened.append(UserStore(uri, base))
        return opened[-1]

    yield open_
    connection = Connection(uri)
    for name in connection.call("list_collections"):
        if name.startswith(f"{base}_"):
            connection.call("drop_collection", name)
    for store in opened:
        with contextlib.suppress(RetrievalError):
            store.close()
    connection.close()


def hash_of(user: int | str) -> int:
    return user % 1_000 if isinstance(user, int) else sum(map(ord, user))


def state(
    user: int | str = 7,
    history: tuple[int, ...] = (3, 1, 4),
    *,
    clicks: int = 3,
    checkpoint: str = "a",
    interests: int = K,
    dimension: int = D,
) -> UserState:
    random = np.random.default_rng(hash_of(user) + 10 * interests + clicks)
    vectors = random.standard_normal((interests, dimension), dtype=np.float32)
    return UserState(user, list(history), clicks, checkpoint, vectors)


def assert_same(found: UserState | None, expected: UserState) -> None:
    assert found is not None
    assert (found.user, found.clicks, found.checkpoint) == expected[0:1] + expected[2:4]
    assert found.history == expected.history
    np.testing.assert_array_equal(found.interests, expected.interests)


def test_what_is_written_is_read_also_by_another_process(open_store):
    store = open_store()
    assert store.read(7) is None
    assert store.count() == 0
    users = [state(user) for user in (0, 7, "7", -8, 2**63 - 1, NASTY)]
    for each in users:
        store.write(each, None)
    for each in users:
        assert_same(store.read(each.user), each)
    assert store.read(9) is None
    assert store.count() == 6

    store.close()
    again = open_store()
    for each in users:
        assert_same(again.read(each.user), each)


def test_a_state_takes_the_place_of_the_one_before(open_store):
    store = open_store()
    before = state()
    store.write(before, None)
    after = state(history=(1, 4, 5, 9), clicks=7, checkpoint="b")
    store.write(after, before)
    assert_same(store.read(7), after)
    fewer = state(clicks=8, checkpoint="c", interests=2)
    store.write(fewer, after)
    assert_same(store.read(7), fewer)
    more = state(clicks=8, checkpoint="d", interests=MOST_INTERESTS)
    store.write(more, fewer)
    assert_same(store.read(7), more)
    assert store.count() == 1


def test_a_user_can_be_forgotten(open_store):
    store = open_store()
    store.delete(7)
    store.write(state(7), None)
    store.write(state(8), None)
    store.delete(7)
    assert store.read(7) is None
    assert_same(store.read(8), state(8))
    assert store.count() == 1


@pytest.mark.slow
def test_a_model_of_another_dimension_loses_no_history_and_may_go_again(open_store):
    """8 → 6 → 8 dimensions, by the same store and by one that is opened in between."""
    store = open_store()
    quiet, first = state(1), state(2)
    store.write(quiet, None)
    store.write(first, None)

    second = state(2, (3, 1, 4, 1), clicks=4, checkpoint="b", dimension=6, interests=2)
    store.write(second, first)
    assert_same(store.read(1), quiet)
    assert_same(store.read(2), second)
    other = open_store()
    assert_same(other.read(1), quiet)
    assert_same(other.read(2), second)
    assert other.count() == 2

    third = state(2, (3, 1, 4, 1, 5), clicks=5)
    other.write(third, second)
    assert_same(other.read(2), third)
    assert_same(store.read(2), third)
    assert store.count() == 2
    store.delete(2)
    assert other.read(2) is None
    assert other.count() == 1


def test_the_newer_state_counts_where_a_move_was_cut_short(open_store):
    store = open_store()
    old, new = state(clicks=3), state(history=(3, 1, 4, 1), clicks=4, dimension=6)
    store.write(old, None)
    store.write(new, None)  # as if the deletion of the old rows had not come
    assert_same(store.read(7), new)
    store.write(state(clicks=9), None)
    assert_same(store.read(7), state(clicks=9))
    store.delete(7)
    assert store.read(7) is None


def test_rows_of_another_model_that_were_left_are_not_read(open_store):
    store = open_store()
    store.write(state(interests=4, checkpoint="a"), None)
    kept = state(interests=2, checkpoint="b", clicks=4)
    store.write(kept, None)  # as if the deletion of the further rows had not come
    assert_same(store.read(7), kept)


def test_the_longest_history_fits(open_store):
    store = open_store()
    longest = tuple(2**63 - 1 - place for place in range(MOST_CLICKS))
    store.write(state(history=longest), None)
    assert_same(store.read(7), state(history=longest))


def test_users_can_be_searched_by_a_vector(open_store, uri):
    """For other programs: whom to tell of an item."""
    store = open_store()
    for user in range(20):
        store.write(state(user), None)
    (name,) = store._names.values()
    connection = Connection(uri)
    (hits,) = connection.call(
        "search",
        name,
        [state(13).interests[2]],
        limit=1,
        search_params={"metric_type": "IP"},
        output_fields=["user", "interest"],
        consistency_level="Strong",
    )
    vectors = np.concatenate([state(user).interests for user in range(20)])
    best = int(np.argmax(vectors @ state(13).interests[2]))
    user, interest = divmod(best, K)
    assert (hits[0]["entity"]["user"], hits[0]["entity"]["interest"]) == (f"i{user}", interest)
    connection.close()


def test_a_collection_that_we_did_not_make_is_refused(open_store, uri):
    store = open_store()
    store.write(state(), None)
    (name,) = store._names.values()
    foreign = name.removesuffix(f"_{D}") + "_6"
    connection = Connection(uri)
    connection.create_collection(foreign, 6, {})
    with pytest.raises(RetrievalError, match="did not make"):
        store.write(state(clicks=4, dimension=6), state())
    assert_same(store.read(7), state())
    with pytest.raises(RetrievalError, match="did not make"):
        open_store()
    assert connection.call("has_collection", foreign)
    connection.close()


def test_a_collection_whose_maker_was_killed_is_finished(open_store, uri):
    store = open_store()
    store.write(state(), None)
    (name,) = store._names.values()
    store.close()
    connection = Connection(uri)
    connection.call("release_collection", name)
    connection.call("drop_index", name, "vector")
    connection.close()
    again = open_store()
    assert_same(again.read(7), state())
    again.write(state(8), None)
    assert again.count() == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"user": ""}, "user '': no such id"),
        ({"user": 2**63}, "no such id"),
        ({"interests": 17}, "17 interests; from 1 to 16"),
        ({"interests": 0}, "0 interests"),
        ({"history": tuple(range(1_001))}, "1,001 items; at most 1,000"),
    ],
)
def test_what_cannot_be_stored_is_told(lite_uri, wrong, message):
    store = UserStore(lite_uri, "items")
    with pytest.raises(SettingsError, match=message):
        store.write(state(**wrong), None)
    assert store.count() == 0
    store.close()


def test_a_milvus_that_is_away_is_told():
    with pytest.raises(RetrievalError, match="refuses connections"):
        UserStore("http://127.0.0.1:9", "items", timeout=0.3)
