# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Histories in a real Redis: appended as a whole, in their order, once; and never its password."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_process import LocalRedis

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.redis_store import NO_INTERESTS, RedisUserStore, checked_address
from paddlerec_milvus.retrieval.user_history import (
    MOST_CLICKS,
    MOST_TOKENS,
    ClickEvent,
    HistoriesAwayError,
    ReusedKeyError,
    UserState,
    as_text,
    from_text,
    is_repeated,
    token_of,
    trimmed,
    with_event,
)

NASTY = "u'\"\\x/% {}* é" + "é" * 240
numbers = itertools.count(1)


@pytest.fixture
def store(redis: LocalRedis) -> Iterator[RedisUserStore]:
    opened = RedisUserStore(redis.uri, f"shop_{next(numbers)}")
    yield opened
    opened.close()


def stored(store: RedisUserStore, user: int | str) -> UserState:
    state = store.read(user)
    assert state is not None
    return state


def bare(user: int | str, history: list[int | str], clicks: int = 0) -> UserState:
    return UserState(user, history, clicks or len(history), "", NO_INTERESTS)


def test_clicks_of_all_kinds_of_ids_come_back(store):
    users = [0, 7, "7", -8, 2**63 - 1, NASTY]
    for user in users:
        assert store.read(user) is None
        assert store.append(user, ClickEvent([3, "3", NASTY, 2**63 - 1])) == (4, False)
    for user in users:
        state = stored(store, user)
        assert (state.user, state.history, state.clicks) == (user, [3, "3", NASTY, 2**63 - 1], 4)
    assert sorted(itertools.chain(*store.users()), key=repr) == sorted(users, key=repr)
    store.delete(7)
    store.delete(7)
    assert store.read(7) is None
    assert stored(store, "7").clicks == 4


events = st.builds(
    ClickEvent,
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.none() | st.integers(0, 6).map(lambda second: 1_000 * second),
    st.sampled_from(["", "", "a", "b"]).map(lambda key: key and token_of(key, key)),
)


@settings(max_examples=40, deadline=None)
@given(sequence=st.lists(events, max_size=12))
def test_a_script_does_what_the_rule_in_python_says(redis, sequence):
    """Times, ties and repetitions: what Redis holds is what ``with_event`` makes, step by step."""
    store = RedisUserStore(redis.uri, f"rule_{next(numbers)}")
    expected = bare(5, [])
    for event in sequence:
        repeated = is_repeated(expected.tokens, event.token)
        now = time.time_ns() // 1_000_000
        if not repeated:
            expected = with_event(expected, event, now)
        assert store.append(5, event) == (len(expected.history), repeated)
    if sequence:
        state = stored(store, 5)
        assert (state.history, state.clicks) == (expected.history, expected.clicks)
        assert state.tokens == expected.tokens
        assert np.allclose(state.times, list(expected.times), atol=5_000)
        assert list(state.times) == sorted(state.times)
        history, times, tokens = from_text(as_text(state))
        assert (history, tokens) == (state.history, state.tokens)
        assert times == (list(state.times) if any(state.times) or tokens else [])
    store.close()


def test_an_event_of_before_goes_before_what_is_later(store):
    store.append(5, ClickEvent([1, 2], 1_000))
    store.append(5, ClickEvent([9]))
    store.append(5, ClickEvent([3, 4], 2_000))
    store.append(5, ClickEvent([5], 1_000))
    assert stored(store, 5).history == [1, 2, 5, 3, 4, 9]


def test_the_last_thousand_clicks_stay(store):
    for start in range(0, 2_400, 800):
        store.append(5, ClickEvent(list(range(start, start + 800))))
    assert store.append(5, ClickEvent(list(range(3_000, 5_000)))).history == MOST_CLICKS
    state = stored(store, 5)
    assert (state.history, state.clicks) == (list(range(4_000, 5_000)), 4_400)
    assert store.append(5, ClickEvent([7], 1)).history == MOST_CLICKS  # older than all of them
    assert stored(store, 5).history == state.history


def test_a_repetition_adds_nothing_and_a_key_used_twice_is_refused(store):
    event = ClickEvent([3], None, token_of("k", [3]))
    assert store.append(5, event) == (1, False)
    assert store.append(5, event) == (1, True)
    with pytest.raises(ReusedKeyError, match="Idempotency-Key"):
        store.append(5, ClickEvent([4], None, token_of("k", [4])))
    assert store.append(6, event) == (1, False)  # a key is a user's
    for number in range(MOST_TOKENS):
        store.append(5, ClickEvent([1], None, token_of(str(number), [1])))
    assert store.append(5, event).repeated is False  # a hundred events later
    assert stored(store, 5).clicks == MOST_TOKENS + 2


def test_clicks_at_the_same_time_are_all_there(store):
    with ThreadPoolExecutor(16) as callers:
        lengths = list(
            callers.map(lambda n: store.append(5, ClickEvent([n, -n])).history, range(1, 201))
        )
    assert sorted(lengths) == list(range(2, 402, 2))
    history = stored(store, 5).history
    assert sorted(map(abs, history[::2])) == list(range(1, 201))
    assert [-n for n in history[::2]] == history[1::2]  # an event is never divided


def test_a_state_is_replaced_only_as_it_was_read(store):
    fresh, busy = bare(1, [1, 2], clicks=7), bare(2, [3])
    store.append(2, ClickEvent([8]))
    assert store.write_all([(fresh, None), (busy, None)]) == [2]
    assert (stored(store, 1).history, stored(store, 1).clicks) == ([1, 2], 7)
    assert stored(store, 2).history == [8]
    before = stored(store, 1)
    assert store.write_all([(bare(1, [5], 8), before)]) == []
    store.append(2, ClickEvent([9]))
    assert store.remove_all([bare(2, [8]), stored(store, 1)]) == [2]
    assert store.read(1) is None
    assert stored(store, 2).history == [8, 9]


def test_a_user_without_clicks_is_forgotten_in_the_end(redis):
    brief = RedisUserStore(redis.uri, "brief", days=0.3 / 86_400)
    lasting = RedisUserStore(redis.uri, "brief")
    for user in (1, 2):
        brief.append(user, ClickEvent([3]))
    lasting.append(2, ClickEvent([4]))
    end = time.monotonic() + 30
    while brief.read(1) is not None:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert stored(brief, 2).history == [3, 4]
    brief.close()
    lasting.close()


def test_what_is_cut_off_fits_milvus(store):
    long = ["é" * 250 + str(number) for number in range(400)]
    store.append(5, ClickEvent(long))
    kept = trimmed(stored(store, 5)).history
    assert kept == long[-len(kept) :]
    assert 60 < len(kept) < 200


@pytest.mark.parametrize(
    "uri",
    [
        "localhost:6379",
        "http://:sesame@localhost",
        "redis://:ses/ame@localhost",
        "redis://user:12/34@localhost:6379",
        "redis://:se#same@localhost",
        "redis://:se?same@localhost",
        "redis://:sesame@localhost/first",
        "redis://:sesame@localhost:port",
        "redis://localhost?password=sesame",
        "redis://:sesame@localhost?socket_timeout=90",
        "redis://:sesame@[localhost",
        "unix://",
        "",
    ],
)
def test_an_address_that_is_none_is_refused_without_a_word_of_it(uri):
    for check in (checked_address, lambda text: RedisUserStore(text, "shop")):
        with pytest.raises(SettingsError) as raised:
            check(uri)
        assert not any(part in str(raised.value) for part in ("sesame", "ame@", "12", "34"))


def test_the_address_is_told_and_the_password_never(tmp_path):
    with LocalRedis(tmp_path / "locked", password="s?same/1") as locked:
        uri = locked.uri
        right = RedisUserStore(uri, "shop")
        right.append(5, ClickEvent([3]))
        for wrong in (uri.replace("same", "tame"), uri.replace(":s%3Fsame%2F1@", "")):
            with pytest.raises(HistoriesAwayError, match=rf"127.0.0.1:{locked.port}/0") as raised:
                RedisUserStore(wrong, "shop").append(5, ClickEvent([3]))
            assert "tame" not in str(raised.value)
        assert right.address == f"127.0.0.1:{locked.port}/0"
    with pytest.raises(HistoriesAwayError, match="is away") as raised:
        right.append(5, ClickEvent([4]))
    assert "same" not in str(raised.value)
    right.close()


def test_a_redis_without_memory_refuses_and_loses_nothing(tmp_path):
    options = ("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    with LocalRedis(tmp_path / "small", options=options) as small:
        store = RedisUserStore(small.uri, "shop")
        acknowledged: dict[int, list[str]] = {}

        def fill() -> None:
            for number in itertools.count():
                items = [f"{number} {'x' * 500}"] * 20
                store.append(number // 20, ClickEvent(items, 100 - number % 3))
                acknowledged.setdefault(number // 20, []).extend(items)

        with pytest.raises(HistoriesAwayError, match=r"refuses: .*maxmemory"):
            fill()
        small.kill()
        small.start()
        for user, items in acknowledged.items():
            assert sorted(stored(store, user).history) == sorted(items)
        store.close()


def test_what_may_lose_clicks_is_said(redis, tmp_path):
    assert RedisUserStore(redis.uri, "shop").warnings() == []
    options = ("--maxmemory-policy", "allkeys-lru")
    with LocalRedis(tmp_path / "cache", fsync="", options=options) as cache:
        one, other = RedisUserStore(cache.uri, "shop").warnings()
    assert "a restart loses clicks" in one
    assert "evict" in other
