# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Histories of a log loaded into Redis, and moved from Milvus to Redis and back."""

from __future__ import annotations

import itertools
from contextlib import closing

import pytest
from live_calls import HISTORY, click, same_but_scores, wanted
from pydantic import SecretStr
from redis_process import LocalRedis
from running_service import running, settings_of

from paddlerec_milvus.data.id_map import read_user_ids
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval import redis_store, user_store
from paddlerec_milvus.retrieval.redis_store import RedisUserStore
from paddlerec_milvus.retrieval.user_history import ClickEvent, token_of
from paddlerec_milvus.serving import move_histories
from paddlerec_milvus.serving.async_user_store import milvus_users
from paddlerec_milvus.serving.history_archive import MilvusArchive
from paddlerec_milvus.serving.load_histories import histories_of, load_histories
from paddlerec_milvus.serving.redis_histories import redis_users
from paddlerec_milvus.serving.settings import ServiceSettings

numbers = itertools.count(1)


@pytest.fixture
def shared(trained, tmp_path, redis: LocalRedis) -> ServiceSettings:
    """Settings with a Milvus Lite, and with users in a Redis."""
    collection = f"milvus.collection=moved_{next(numbers)}"
    return settings_of(trained, tmp_path, collection, histories=redis.uri)


@pytest.fixture
def alone(shared) -> ServiceSettings:
    """The same with users in Milvus."""
    return shared.model_copy(update={"histories": SecretStr("")})


@pytest.fixture
def store(shared):
    with closing(redis_users(shared, 30.0)) as opened:
        yield opened


def test_a_log_goes_into_redis_behind_which_clicks_stay(shared, store, trained):
    log = {one.user: one.items for one in histories_of(trained.data)}
    first, second = list(log)[:2]
    store.append(first, ClickEvent([3]))
    assert load_histories(shared, trained.data) == (len(log), 0, 0)
    store.append(second, ClickEvent([4]))
    assert load_histories(shared, trained.data) == (0, len(log), 0)
    states = store.read_all(list(log))
    assert states[first].history == [*log[first], 3]
    assert states[second].history == [*log[second], 4]
    assert all(states[user].history == log[user] for user in list(log)[2:])
    assert read_user_ids(trained.data).kind == "int"


def test_a_user_who_clicks_while_the_log_is_loaded_loses_nothing(
    shared, store, trained, monkeypatch
):
    log = {one.user: one.items for one in histories_of(trained.data)}
    user, read_all = next(iter(log)), RedisUserStore.read_all
    clicks = iter([3, 4])

    def click_after(self, users):
        states = read_all(self, users)
        for item in itertools.islice(clicks, 1):
            store.append(user, ClickEvent([item]))
        return states

    with monkeypatch.context() as patch:
        patch.setattr(RedisUserStore, "read_all", click_after)
        assert load_histories(shared, trained.data).written == len(log)
    assert store.read(user).history == [*log[user], 3, 4]


def test_users_move_to_redis_and_back_with_all_that_is_known(shared, alone, store, monkeypatch):
    for module in (user_store, redis_store):
        monkeypatch.setattr(module, "USERS_PER_CALL", 8)
    event = ClickEvent(HISTORY, 5_000, token_of("another", 1))
    with running(alone) as service:
        service.http.post("/insert")
        headers = {"Idempotency-Key": "k"}
        for user in range(20):
            click(service, user, *HISTORY)
        service.http.post("/users/5/events", json={"items": [9], "time": 5.0}, headers=headers)
        before = wanted(service, 5)
    store.append(7, ClickEvent([20]))  # services are on Redis already
    moved = move_histories.move_histories(shared, "redis")
    assert (moved.moved, moved.clicks, moved.cut, moved.left) == (20, 61, 0, 0)
    assert move_histories.move_histories(shared, "redis").moved == 0
    with running(shared) as service:
        same_but_scores(wanted(service, 5), before)
        again = service.http.post(
            "/users/5/events", json={"items": [9], "time": 5.0}, headers=headers
        )
        assert (again.headers["idempotent-replayed"], again.json()["history"]) == ("true", 4)
        same_but_scores(wanted(service, 7), service.candidates([*HISTORY, 20]))
        assert click(service, 7, 12)["history"] == 5
    assert store.append(5, event).history == 7  # before the others: of 1970
    assert move_histories.move_histories(shared, "milvus").moved == 20
    assert list(store.users()) == [[]]
    with running(alone) as service:
        same_but_scores(wanted(service, 5), service.candidates([9, *HISTORY, *HISTORY]))
        same_but_scores(wanted(service, 7), service.candidates([*HISTORY, 20, 12]))
        state = service.service.users._cache
        assert not state  # by what was stored, with its interests


def test_a_move_that_was_cut_short_goes_on(shared, alone, store, monkeypatch):
    with running(alone) as service:
        service.http.post("/insert")
        for user in range(4):
            click(service, user, *HISTORY)

    def fail(*_: object) -> None:
        raise RetrievalError("Milvus is away")

    with monkeypatch.context() as patch:
        patch.setattr(MilvusArchive, "remove_all", fail)
        with pytest.raises(RetrievalError, match="is away"):
            move_histories.move_histories(shared, "redis")
    store.append(2, ClickEvent([20]))
    assert move_histories.move_histories(shared, "redis").moved == 4
    with closing(milvus_users(alone)) as old:
        assert old.count() == 0
    histories = [state.history for state in store.read_all(range(4)).values()]
    assert histories == [HISTORY, HISTORY, [*HISTORY, 20], HISTORY]


def test_who_clicks_while_being_moved_stays_with_all_clicks(shared, alone, store, monkeypatch):
    with running(alone) as service:
        service.http.post("/insert")
        click(service, 2, *HISTORY)
    for user in (1, 2):
        store.append(user, ClickEvent([20]))
    write_all = MilvusArchive.write_all
    done: list[int] = []

    def click_after(self, changes):
        write_all(self, changes)
        if not done:
            done.append(1)
            for user in (1, 2):
                store.append(user, ClickEvent([21]))
        return []

    monkeypatch.setattr(MilvusArchive, "write_all", click_after)
    moved = move_histories.move_histories(shared, "milvus")
    assert (moved.moved, moved.left) == (0, 2)
    assert [state.history for state in store.read_all([1, 2]).values()] == [[20, 21]] * 2
    with closing(milvus_users(alone)) as old:
        assert (old.read(1), old.read(2).history) == (None, HISTORY)
    assert move_histories.move_histories(shared, "milvus").moved == 2
    with closing(milvus_users(alone)) as old:
        assert old.read(1).history == [20, 21]
        assert old.read(2).history == [*HISTORY, 20, 21]


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("", "names no Redis"),
        ("redis://:sesame@127.0.0.1:1", "is away"),
        ("redis://:s/e", "expected"),
    ],
)
def test_without_a_redis_nothing_is_moved(alone, monkeypatch, capsys, uri, text):
    settings = alone.model_copy(update={"histories": SecretStr(uri)})
    monkeypatch.setattr(move_histories, "settings_from_environment", lambda _: settings)
    assert move_histories.main(["--to", "redis"]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert "same@" not in error
    assert "sesame" not in error
