# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users while Milvus fails, while the model does, and while the model is switched."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from live_calls import HISTORY, click, same_but_scores, stored, untrained, wanted
from running_service import Running, running, until

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.user_store import UserStore


@pytest.fixture
def shop(empty: Running) -> Running:
    """A service with vectors and no users."""
    assert empty.http.post("/insert").status_code == 200
    return empty


def test_without_item_vectors_users_click_and_get_popular_items(empty):
    assert click(empty, 5, *HISTORY)["history"] == 3
    found = wanted(empty, 5, top_k=4)
    assert found["source"] == ["fallback"]
    assert found["candidates"] == [[1, 2, 4, 5]]
    empty.http.post("/insert")
    assert wanted(empty, 5)["source"] == ["model"]


def test_a_milvus_that_is_away_takes_no_clicks_and_stops_no_list(make_settings):
    settings = make_settings("milvus.uri=http://user:s3cret@127.0.0.1:9", timeout=0.5)
    with running(settings) as service:
        for _ in range(3):
            answer = service.http.post("/users/5/events", json={"items": [3]})
            assert answer.status_code == 503
            assert "s3cret" not in answer.text
            assert service.http.delete("/users/5").status_code == 503
            found = wanted(service, 5, top_k=3)
            assert found["source"] == ["fallback"]
            assert found["candidates"] == [[1, 2, 3]]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bool], None]:
    """Lets a method of the store fail, before or after what it does."""

    def let_fail(name: str, carried_out: bool) -> None:
        method = getattr(UserStore, name)

        def fail(*arguments: Any) -> None:
            if carried_out:
                method(*arguments)
            raise RetrievalError("Milvus did not answer")

        monkeypatch.setattr(UserStore, name, fail)

    return let_fail


@pytest.mark.parametrize("carried_out", [False, True])
def test_a_write_that_failed_loses_nothing_that_was_acknowledged(
    shop, failing, monkeypatch, carried_out
):
    click(shop, 5, *HISTORY)
    failing("write", carried_out)
    assert shop.http.post("/users/5/events", json={"items": [20]}).status_code == 503
    same_but_scores(wanted(shop, 5), shop.candidates(HISTORY))
    monkeypatch.undo()
    until(lambda: shop.http.post("/users/5/events", json={"items": [30]}).status_code == 200)
    expected = [*HISTORY, 20, 30] if carried_out else [*HISTORY, 30]
    assert stored(shop, 5).history == expected
    same_but_scores(wanted(shop, 5), shop.candidates(expected))


def test_a_remembered_user_is_served_while_users_cannot_be_read(shop, failing):
    click(shop, 5, *HISTORY)
    failing("read", False)
    same_but_scores(wanted(shop, 5), shop.candidates(HISTORY))
    assert wanted(shop, 6, top_k=3)["source"] == ["fallback"]


def test_a_model_that_fails_costs_its_candidates_alone(shop, monkeypatch):
    click(shop, 5, *HISTORY)
    tower = shop.service.model.tower
    monkeypatch.setattr(tower, "interests", lambda *arguments: 1 / 0)
    monkeypatch.setattr(shop.service.model.tower, "fingerprint", "another")
    assert wanted(shop, 5, top_k=3)["source"] == ["fallback"]


def test_a_slow_write_is_not_overtaken(make_settings, monkeypatch):
    """The caller is told in time, and the user's next click waits until Milvus has answered."""
    write, release, began = UserStore.write, threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> None:
        began.set()
        release.wait(20)
        write(*arguments)

    with running(make_settings(timeout=1.5)) as service:
        service.http.post("/insert")
        click(service, 5, 3)
        monkeypatch.setattr(UserStore, "write", slowly)
        assert service.http.post("/users/5/events", json={"items": [7]}).status_code == 503
        assert began.is_set()
        with ThreadPoolExecutor(1) as caller:
            second = caller.submit(click, service, 5, 12)
            release.set()
            assert second.result()["history"] == 3
        assert stored(service, 5).history == HISTORY


def test_a_model_of_another_dimension_loses_no_history(trained, make_settings, tmp_path):
    small = ("hyper_parameters.embedding_dim=16", "hyper_parameters.hidden_size=16")
    options = untrained(trained, tmp_path / "small", *small, "hyper_parameters.capsual.max_k=2")
    with running(make_settings()) as service:
        service.http.post("/insert")
        for user in (5, 6):
            click(service, user, *HISTORY)
        assert stored(service, 5).interests.shape == (4, 128)
    with running(make_settings(*options)) as service:
        assert service.http.post("/insert").status_code == 200
        for user in (5, 6):
            same_but_scores(wanted(service, user), service.candidates(HISTORY))
        assert click(service, 5, 20)["history"] == 4
        until(lambda: stored(service, 6).interests.shape == (2, 16))
        assert stored(service, 5).interests.shape == (2, 16)

        assert service.http.post("/rollback").status_code == 200
        same_but_scores(wanted(service, 5), service.candidates([*HISTORY, 20]))
        until(lambda: stored(service, 5).interests.shape == (4, 128))
        assert stored(service, 5).history == [*HISTORY, 20]


@pytest.mark.slow
def test_a_switch_of_the_model_mixes_nothing(trained, make_settings, tmp_path):
    """Every list is the old model's or the new one's, though interests were stored by the old."""
    served = tmp_path / "out" / "0"
    shutil.copytree(trained.checkpoints / "0", served)
    with running(make_settings(f"runner.infer_load_path={served.parent}")) as service:
        service.http.post("/insert")
        users = {user: [user, 2 * user, 3 * user] for user in range(1, 7)}
        for user, history in users.items():
            click(service, user, *history)
        old = service.candidates(*users.values())["candidates"]
        for file in ("rec.pdparams", "rec.json"):
            shutil.copyfile(trained.checkpoints / "1" / file, served / file)
        end, seen = threading.Event(), list[tuple[int, list[int]]]()

        def ask() -> None:
            while not end.is_set():
                for user in users:
                    found = wanted(service, user)
                    assert found["source"] == ["model"]
                    seen.append((user, found["candidates"][0]))

        callers = [threading.Thread(target=ask) for _ in range(3)]
        for caller in callers:
            caller.start()
        until(lambda: len(seen) > 30)
        assert service.http.post("/insert").status_code == 200
        until(lambda: wanted(service, 1)["candidates"][0] != old[0])
        before = len(seen)
        until(lambda: len(seen) > before + 30)
        end.set()
        for caller in callers:
            caller.join()
        new = service.candidates(*users.values())["candidates"]
    assert old != new
    for user, found in seen:
        assert found in (old[user - 1], new[user - 1])
    assert any(found == old[user - 1] for user, found in seen)
    assert any(found == new[user - 1] for user, found in seen)
