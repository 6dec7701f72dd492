# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users that the service knows: their clicks, and candidates that use them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cachetools import LRUCache
from live_calls import HISTORY, click, same_but_scores, stored, wanted
from running_service import Running, running, until

from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.user_store import UserStore


@pytest.fixture
def shop(empty: Running) -> Running:
    """A service with vectors and no users."""
    assert empty.http.post("/insert").status_code == 200
    return empty


def test_the_next_candidates_use_a_click_at_once(shop):
    assert wanted(shop, 5)["source"] == ["popular"]
    assert click(shop, 5, 3) == {"user": 5, "history": 1, "unknown": []}
    same_but_scores(wanted(shop, 5), shop.candidates([3]))
    assert click(shop, 5, 7, 12) == {"user": 5, "history": 3, "unknown": []}
    for options in ({}, {"top_k": 7}, {"exclude_history": False}, {"consistency": "Strong"}):
        found = wanted(shop, 5, **options)
        assert found["source"] == ["model"]
        same_but_scores(found, shop.candidates(HISTORY, **options))
    assert wanted(shop, 6)["source"] == ["popular"]


def test_all_options_of_candidates_are_understood(shop):
    click(shop, 5, *HISTORY)
    for options in ({"titles": True}, {"diversity": 0.5}, {"quota": 3, "top_k": 10}):
        same_but_scores(wanted(shop, 5, **options), shop.candidates(HISTORY, **options))
    found = shop.http.get("/users/5/candidates")
    assert found.headers["server-timing"].startswith("user;dur=")


def test_ids_that_the_model_does_not_know_are_counted_and_not_kept(shop):
    unknown = [0, -4, 301, 2**63 - 1]
    assert click(shop, 5, *unknown) == {"user": 5, "history": 0, "unknown": unknown}
    assert stored(shop, 5) is None
    assert click(shop, 5, 3, *unknown, 7, 12) == {"user": 5, "history": 3, "unknown": unknown}
    assert stored(shop, 5).history == HISTORY


def test_a_history_keeps_the_last_thousand_clicks(shop):
    clicks = [1 + place % 300 for place in range(1_201)]
    for start in range(0, len(clicks), 400):
        found = click(shop, 5, *clicks[start : start + 400])
    assert found["history"] == 1_000
    state = stored(shop, 5)
    assert state.history == clicks[-1_000:]
    assert state.clicks == 1_201
    same_but_scores(wanted(shop, 5, top_k=9), shop.candidates(clicks[-1_000:], top_k=9))


def test_clicks_at_the_same_time_are_all_kept(shop):
    """32 callers, two users, each click once; whoever comes second waits."""
    items = list(range(1, 129))
    with ThreadPoolExecutor(32) as callers:
        answers = list(callers.map(lambda item: click(shop, item % 2, item), items))
    for user in (0, 1):
        state = stored(shop, user)
        assert sorted(state.history) == [item for item in items if item % 2 == user]
        assert state.clicks == 64
        lengths = [answer["history"] for answer in answers if answer["user"] == user]
        assert sorted(lengths) == list(range(1, 65))
        same_but_scores(wanted(shop, user), shop.candidates(state.history))


@pytest.mark.slow
def test_histories_outlive_the_service(make_settings):
    with running(make_settings()) as service:
        service.http.post("/insert")
        click(service, 5, *HISTORY)
        before = wanted(service, 5)
    with running(make_settings()) as service:
        assert wanted(service, 5) == before
        assert click(service, 5, 20)["history"] == 4
        same_but_scores(wanted(service, 5), service.candidates([*HISTORY, 20]))


@pytest.mark.slow
def test_another_checkpoint_makes_the_interests_anew(make_settings):
    """By the service that made them, and by one that finds them."""
    with running(make_settings()) as service:
        service.http.post("/insert")
        click(service, 5, *HISTORY)
        click(service, 6, 9, 2)
        old = stored(service, 5)
    with running(make_settings(epoch="1")) as service:
        assert service.http.post("/insert").status_code == 200
        checkpoint = service.http.get("/readyz").json()["checkpoint"]
        assert checkpoint != old.checkpoint
        same_but_scores(wanted(service, 5), service.candidates(HISTORY))
        until(lambda: stored(service, 5).checkpoint == checkpoint)
        new = stored(service, 5)
        assert new.history == HISTORY
        assert new.clicks == 3
        assert (new.interests != old.interests).any()
        assert stored(service, 6).checkpoint == old.checkpoint  # nobody has asked for it
        assert click(service, 6, 4)["history"] == 3
        assert stored(service, 6).checkpoint == checkpoint

        assert service.http.post("/rollback").status_code == 200
        same_but_scores(wanted(service, 5), service.candidates(HISTORY))
        until(lambda: stored(service, 5).checkpoint == old.checkpoint)


def test_stored_interests_of_the_checkpoint_are_used(make_settings, monkeypatch):
    with running(make_settings()) as service:
        service.http.post("/insert")
        click(service, 5, *HISTORY)
        before = wanted(service, 5)
    with running(make_settings()) as service:
        tower = service.service.model.tower
        monkeypatch.setattr(tower, "interests", lambda *arguments: pytest.fail("asked again"))
        assert wanted(service, 5) == before


def test_a_user_can_be_forgotten(shop):
    click(shop, 5, *HISTORY)
    click(shop, 6, 9)
    for _ in range(2):
        answer = shop.http.delete("/users/5")
        assert answer.status_code == 200
        assert answer.json() == {"deleted": 5}
        assert wanted(shop, 5)["source"] == ["popular"]
        assert stored(shop, 5) is None
    assert wanted(shop, 6)["source"] == ["model"]
    assert click(shop, 5, 4)["history"] == 1


def test_what_another_process_wrote_is_seen(shop):
    """Strong: although this one remembers the user. Of a user whom it does not: without."""
    click(shop, 5, *HISTORY)
    state = stored(shop, 5)
    model = shop.service.settings.model
    other = UserStore(model.milvus_uri, model.milvus.collection)
    for user in (5, 6):
        changed = state._replace(user=user, history=state.history[:1], clicks=9)
        other.write(changed, state if user == 5 else None)
    other.close()
    assert not {7, 12} & set(wanted(shop, 5, top_k=297)["candidates"][0])
    assert {7, 12} < set(wanted(shop, 5, top_k=299, consistency="Strong")["candidates"][0])
    assert {7, 12} < set(wanted(shop, 6, top_k=299)["candidates"][0])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"items": []},
        {"items": None},
        {"items": "3"},
        {"items": ["3"]},
        {"items": [3.5]},
        {"items": [[3]]},
        {"items": [None]},
        {"items": [2**63]},
        {"items": [10**400]},
        {"items": [3], "item": 4},
        {"items": [1] * 10_001},
        [3],
    ],
)
def test_events_that_are_none_are_refused(service, body):
    answer = service.http.post("/users/5/events", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"
    assert wanted(service, 5)["source"] == ["popular"]


@pytest.mark.parametrize("user", ["07", str(2**63), "9" * 5_000, "x", "1.5", "%00", "%ff"])
def test_a_user_that_is_none_is_refused(service, user):
    for method, path in (("POST", "/events"), ("GET", "/candidates"), ("DELETE", "")):
        body = {"items": [3]} if method == "POST" else None
        answer = service.http.request(method, f"/users/{user}{path}", json=body)
        assert answer.status_code == 422


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", "0"),
        ("top_k", "1001"),
        ("top_k", "9" * 400),
        ("top_k", "many"),
        ("diversity", "-1"),
        ("diversity", "nan"),
        ("quota", "0"),
        ("consistency", "strong"),
        ("exclude_history", "perhaps"),
        ("topk", "5"),
    ],
)
def test_an_option_that_is_none_is_refused(service, name, value):
    answer = service.http.get("/users/5/candidates", params={name: value})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", name]


def test_users_that_are_not_remembered_any_more_are_read(shop, monkeypatch):
    monkeypatch.setattr(shop.service.users, "_cache", LRUCache(2))
    for user in range(5):
        click(shop, user, 3, 10 + user)
    for user in range(5):
        assert click(shop, user, 20 + user)["history"] == 3
        same_but_scores(wanted(shop, user), shop.candidates([3, 10 + user, 20 + user]))


def test_many_users_who_are_not_remembered_are_read_in_few_calls(shop, monkeypatch):
    """A Strong read of a server takes 0.2 s and more, whatever it reads."""
    users = range(100)
    for user in users:
        click(shop, user, 3)
    shop.service.users._cache.clear()
    read_all, sizes, release = UserStore.read_all, list[int](), threading.Event()

    def slowly(store: UserStore, asked: list[int], consistency: str = "Strong") -> Any:
        sizes.append(len(asked))
        release.wait(20)
        return read_all(store, asked, consistency)

    monkeypatch.setattr(UserStore, "read_all", slowly)
    with ThreadPoolExecutor(len(users)) as callers:
        answers = callers.map(lambda user: click(shop, user, 7), users)
        until(lambda: len(shop.service.users._store._pending) + sum(sizes) == len(users))
        release.set()
        assert [answer["history"] for answer in answers] == [2] * len(users)
    assert len(sizes) < 10
    assert sum(sizes) == len(users)


def test_the_collection_of_users_is_made_before_the_first_click(shop):
    model = shop.service.model
    for _ in range(2):
        shop.service.users.prepare(model)
    connection = Connection(shop.service.settings.model.milvus_uri)
    assert f"mind_items_user_states_{model.tower.dimension}" in connection.call("list_collections")
    connection.close()
    assert click(shop, 5, 3)["history"] == 1
