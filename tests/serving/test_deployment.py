# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A new model takes the place of the old one whole, and the old one can come back."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_service import Running, running, until

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.ownership import mark
from paddlerec_milvus.retrieval.versions import CollectionVersions
from paddlerec_milvus.serving import tower
from paddlerec_milvus.serving.health import ABSENT, FAILING, FAILURES, OTHER
from paddlerec_milvus.serving.item_index import ItemIndex
from paddlerec_milvus.trained_model import PARAMETERS

HISTORIES = [[3], [7, 9], [11, 12, 13]]


@pytest.fixture
def growing(trained, tmp_path, make_settings):
    """Settings on a checkpoint folder of its own, and a function that trains it on."""
    folder = tmp_path / "out"

    def train(epoch: str) -> None:
        shutil.rmtree(folder / "0", ignore_errors=True)
        shutil.copytree(trained.checkpoints / epoch, folder / "0")

    train("0")
    return make_settings(f"runner.infer_load_path={folder}"), train


def lists(service: Running) -> list[list[int]]:
    found = service.candidates(*HISTORIES)
    assert found["source"] == ["model"] * len(HISTORIES)
    candidates: list[list[int]] = found["candidates"]
    return candidates


def version(service: Running) -> int:
    return int(service.metric("serving_collection_version"))


def test_insert_takes_what_training_wrote_and_rollback_goes_back(growing):
    settings, train = growing
    with running(settings) as service:
        first = service.http.post("/insert").json()
        old, before = lists(service), version(service)
        train("1")
        assert lists(service) == old
        second = service.http.post("/insert").json()
        assert second["checkpoint"] != first["checkpoint"]
        new = lists(service)
        assert new != old
        assert version(service) > before

        back = service.http.post("/rollback").json()
        name = f"mind_items_v{before}"
        assert back == {"collection": name, "checkpoint": first["checkpoint"]}
        assert lists(service) == old
        assert version(service) == before
        service.http.post("/rollback")
        assert lists(service) == new


@pytest.mark.slow
def test_a_restart_serves_what_served_though_training_went_on(growing):
    settings, train = growing
    with running(settings) as service:
        service.http.post("/insert")
        old = lists(service)
    train("1")
    with running(settings) as service:
        assert lists(service) == old
        service.http.post("/insert")
        assert lists(service) != old
        service.http.post("/rollback")
        assert lists(service) == old


@pytest.mark.slow
def test_the_last_two_are_kept(growing):
    settings, train = growing
    with running(settings) as service:
        assert service.http.post("/rollback").status_code == 409
        served = []
        for epoch in ("0", "1", "0", "1"):
            train(epoch)
            assert service.http.post("/insert").status_code == 200
            served.append(version(service))
        connection = Connection(settings.model.milvus_uri)
        assert list(CollectionVersions(connection, "mind_items").names()) == served[2:]
        connection.close()
        assert len(list(settings.registry_folder.iterdir())) == 2
        assert service.http.post("/delete").json() == {"deleted": 300}
        assert service.http.get("/count").json()["count"] == 0


def test_an_index_that_finds_too_little_does_not_serve(growing, monkeypatch):
    settings, train = growing
    with running(settings) as service:
        service.http.post("/insert")
        old, before = lists(service), version(service)
        train("1")
        monkeypatch.setattr(
            "paddlerec_milvus.evaluation.index_check.index_recall", lambda *_: np_share(0.4)
        )
        answer = service.http.post("/insert")
        assert answer.status_code == 409
        assert "finds 0.400 of the 50 true neighbours, less than 0.5" in answer.json()["detail"]
        assert lists(service) == old
        assert version(service) == before


@pytest.mark.parametrize("index", ["SCANN", "IVF_PQ"])
def test_an_index_that_milvus_lacks_does_not_serve(make_settings, index):
    """Milvus Lite has neither."""
    with running(make_settings()) as service:
        service.http.post("/insert")
        old, before = lists(service), version(service)
    with running(make_settings(f"index.type={index}")) as service:
        answer = service.http.post("/insert")
        assert answer.status_code == 409
        print(answer.text)
        assert f"index.type: {index} " in answer.json()["detail"]
        assert (lists(service), version(service)) == (old, before)
        assert service.ready()[0] == 200


def np_share(share: float):
    import numpy as np

    return np.array([share])


def test_what_a_killed_insert_left_goes_at_the_next_start(make_settings):
    settings = make_settings()
    with running(settings) as service:
        service.http.post("/insert")
        old = lists(service)
    connection = Connection(settings.model.milvus_uri)
    connection.create_collection("mind_items_v2", 128, mark("mind_items"))
    with running(settings) as service:
        assert lists(service) == old
        assert not connection.call("has_collection", "mind_items_v2")
    connection.close()


def test_a_version_dropped_by_hand_is_healed_by_insert_and_by_delete(empty):
    connection = Connection(empty.service.settings.model.milvus_uri)
    used = set()
    for heal in ("/insert", "/delete", "/insert"):
        assert empty.http.post("/insert").status_code == 200
        before = lists(empty)
        used.add(version(empty))
        connection.call("drop_collection", f"mind_items_v{version(empty)}")
        until(lambda: empty.ready() == (503, ABSENT.reason))
        answer = empty.http.post(heal)
        assert answer.status_code == 200, answer.text
        if heal == "/delete":
            assert answer.json() == {"deleted": 0}
            assert empty.http.post("/insert").status_code == 200
        assert lists(empty) == before
        assert version(empty) not in used
    connection.close()


def test_an_insert_beside_another_process_is_409_and_names_it(make_settings):
    settings = make_settings(insert_missing=True)
    connection = Connection(settings.model.milvus_uri)
    busy = {**mark("mind_items"), "made_by_process": str(os.getppid())}
    connection.create_collection("mind_items_v1", 128, busy)
    with running(settings) as service:  # its own insert at the start gives way, too
        refused = service.http.post("/insert")
        assert refused.status_code == 409
        assert f"process {os.getppid()} on {socket.gethostname()} is building" in refused.text
        with service.service.deployment.index.alone():
            assert f"(process {os.getpid()} on" in service.http.post("/insert").text
        connection.call("drop_collection", "mind_items_v1")
        assert service.http.post("/insert").status_code == 200
    connection.close()


def test_searches_that_fail_in_a_row_are_not_tried_any_more(empty, monkeypatch):
    empty.http.post("/insert")
    tried = []

    def fail(*arguments, **options):
        if not threading.current_thread().name.startswith("probe"):  # one may be on its way
            tried.append(1)
        raise RetrievalError("away")

    monkeypatch.setattr(empty.service, "refresh", lambda: None)
    empty.service._probes.submit(lambda: None).result()  # after a look that is under way
    monkeypatch.setattr(MilvusRetriever, "search", fail)
    for _ in range(FAILURES + 5):
        assert empty.candidates([3])["source"] == ["fallback"]
    assert len(tried) == FAILURES
    assert empty.ready() == (503, FAILING.reason)
    assert empty.metric("serving_breaker_open") == 1
    monkeypatch.undo()
    until(lambda: empty.candidates([3])["source"] == ["model"])
    assert empty.metric("serving_breaker_open") == 0


def test_what_was_deleted_is_known_when_milvus_comes_back(empty, monkeypatch):
    """By calls to this replica before, and of the popular items by whatever else deleted them."""
    empty.http.post("/insert")
    service, serving = empty.service, ItemIndex.serving
    hidden, other = service.model.hidden, service.current.retriever

    def away(index):
        raise RetrievalError("away")

    hidden.changed(deleted=[10**6])  # stands for an item that is not popular
    other.delete([1])
    assert 1 not in hidden.known
    monkeypatch.setattr(ItemIndex, "serving", away)
    service.refresh()
    assert service.current is None
    monkeypatch.setattr(ItemIndex, "serving", serving)
    service.refresh()
    assert service.current is not None
    assert hidden.known == {1, 10**6}


def test_a_rollback_in_the_middle_of_a_look_is_followed_whole(growing, monkeypatch):
    """Another process rolls back after the look has seen what serves."""
    settings, train = growing
    with running(settings.model_copy(update={"check_seconds": 60.0})) as service:
        service.http.post("/insert")
        old, before = lists(service), version(service)
        train("1")
        service.http.post("/insert")
        after = version(service)
        service.http.post("/rollback")
        other = ItemIndex(settings.model, 10)
        other.roll_back(lambda mark: True)
        serving, seen = ItemIndex.serving, []

        def then_switched(store):
            seen.append(serving(store))
            if len(seen) == 1:
                other.roll_back(lambda mark: True)
            return seen[-1]

        monkeypatch.setattr(ItemIndex, "serving", then_switched)
        service.service.refresh()
        assert seen[0].number == after
        assert lists(service) == old
        assert version(service) == before
        other.disconnect()


def test_the_old_model_answers_while_the_new_one_is_loaded(growing, monkeypatch):
    settings, train = growing
    load, loading, go_on = tower._load, threading.Event(), threading.Event()

    def slow(found):
        loading.set()
        assert go_on.wait(30)
        return load(found)

    with running(settings) as service, ThreadPoolExecutor(1) as pool:
        service.http.post("/insert")
        old = lists(service)
        train("1")
        monkeypatch.setattr(tower, "_load", slow)
        inserting = pool.submit(service.http.post, "/insert")
        assert loading.wait(30)
        try:
            assert lists(service) == old
        finally:
            go_on.set()
        assert inserting.result(30).status_code == 200
        assert lists(service) != old


def test_a_kept_model_that_cannot_be_used_is_said_to_be_missing(growing):
    """Not that Milvus is away; and where it is asked for, what is on disk takes its place."""
    settings, train = growing
    with running(settings) as service:
        checkpoint = service.http.post("/insert").json()["checkpoint"]
    (settings.registry_folder / f"{checkpoint}-none" / PARAMETERS).unlink()
    train("1")
    with running(settings) as service:
        assert service.ready() == (503, OTHER.reason)
        assert service.http.post("/insert").status_code == 200
        assert service.ready()[0] == 200
