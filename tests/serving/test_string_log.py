# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A log with strings for ids, from prepare to served lists, on Lite and on a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from own_id_log import CLICKS, ITEMS, OPTIONS, USERS, train_on_own_ids
from running_service import Running, running, settings_of

from paddlerec_milvus.data.id_map import read_item_ids, read_user_ids
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.retrieval.connection import Connection, _pymilvus
from paddlerec_milvus.retrieval.indexes import Flat
from paddlerec_milvus.retrieval.ownership import mark
from paddlerec_milvus.retrieval.user_store import UserStore
from paddlerec_milvus.serving.client import Client
from paddlerec_milvus.serving.load_histories import histories_of, load_histories
from paddlerec_milvus.serving.migrate_users import migrate
from paddlerec_milvus.serving.settings import ServiceSettings

ON_SERVER = pytest.param("server", marks=[pytest.mark.server, pytest.mark.slow])


@pytest.fixture(scope="module")
def named(trained, tmp_path_factory):
    """A MIND on users u-001 … and items B0000001 …, with the clicks of each."""
    folder = tmp_path_factory.mktemp("named")
    clicks = train_on_own_ids(folder, "u-{:03}".format, "B{:07}".format)
    return type(trained)(folder / "data", folder / "out"), clicks


@pytest.fixture(params=["lite", pytest.param("server", marks=pytest.mark.server)])
def settings(request, named, tmp_path) -> ServiceSettings:
    options = ["milvus.collection=named", *OPTIONS]
    if request.param == "server":
        options.append(f"milvus.uri={request.getfixturevalue('server').uri}")
    return settings_of(named[0], tmp_path, *options)


@pytest.fixture
def client(service) -> Iterator[Client]:
    with Client(service.url) as opened:
        yield opened


@pytest.fixture
def service(settings) -> Iterator[Running]:
    with running(settings) as started:
        assert started.http.post("/insert").json()["inserted"] == ITEMS
        yield started
        for user in ("u-001", "u-002", "u-077"):
            started.http.delete(f"/users/{user}")


def test_a_log_of_strings_is_served_in_strings(service, client, named):
    _, clicks = named
    history = clicks["u-001"]
    answer = service.candidates(history, ["nosuch"], top_k=8)
    assert answer["source"] == ["model", "popular"]
    assert answer["unknown"] == [[], ["nosuch"]]
    assert len(set(answer["candidates"][0]) - set(history)) == 8
    assert {item[0] for item in answer["candidates"][0]} == {"B"}
    refused = service.http.post("/candidates", json={"hist_item": [[1]]})
    assert (refused.status_code, "are strings here" in refused.text) == (422, True)

    # a user who came after the training
    added = client.add_events("u-077", [*history, "nosuch"])
    assert (added.user, added.history, added.unknown) == ("u-077", CLICKS, ["nosuch"])
    own = client.user_candidates("u-077", 8, consistency="Strong")
    assert own.candidates == [answer["candidates"][0]]

    vector = service.service.model.tower.item_vectors()[3].tolist()
    item = {"id": "new 1/é'", "vector": vector}
    assert client.upsert_items([item]).upserted == 1
    answer = service.candidates(["new 1/é'"], top_k=ITEMS + 1, consistency="Strong")
    assert (answer["source"], answer["unknown"]) == (["model"], [[]])
    assert "new 1/é'" not in answer["candidates"][0]
    service.service.model.ids.follow(service.service.deployment._retriever)  # as after a start
    answer = service.candidates(history, top_k=ITEMS + 1, consistency="Strong")
    assert "new 1/é'" in answer["candidates"][0]
    assert client.delete_item("new 1/é'") == "new 1/é'"


@pytest.mark.parametrize("settings", ["lite", ON_SERVER], indirect=True)
def test_a_user_of_the_log_has_a_list_once_histories_are_loaded(settings, named):
    data, clicks = named[0].data, named[1]
    with running(settings) as service, Client(service.url) as client:
        service.http.post("/insert")
        assert client.user_candidates("u-050").source == ["popular"]
        client.add_events("u-060", ["B0000001"])
    counts = load_histories(settings, data)
    assert counts == (USERS, 0, 0)
    assert load_histories(settings, data) == (0, USERS, 0)
    with running(settings) as service, Client(service.url) as client:
        for user in ("u-002", "u-050", "u-060"):
            answer = client.user_candidates(user, 5, consistency="Strong")
            whole = [*clicks[user], *(["B0000001"] if user == "u-060" else [])]
            assert answer.source == ["model"]
            assert answer.candidates == service.candidates(whole, top_k=5)["candidates"]
        client.add_events("u-050", ["B0000002"])
    assert load_histories(settings, data) == (0, USERS, 0)
    with closing(store_of(settings)) as store:
        found = store.read_all(sorted(clicks))
        assert found["u-050"].history == [*clicks["u-050"], "B0000002"]
        for user in clicks:
            store.delete(user)


def store_of(settings: ServiceSettings, **options) -> UserStore:
    return UserStore(settings.model.milvus_uri, settings.model.milvus.collection, **options)


def test_histories_are_all_clicks_of_every_user(named):
    data, clicks = named[0].data, named[1]
    users, items = read_user_ids(data), read_item_ids(data)
    whole = {users.own(one.user): items.own_ids(one.items) for one in histories_of(data)}
    assert whole == clicks


def test_lists_of_infer_are_in_own_ids(named, tmp_path):
    run, clicks = named
    file = tmp_path / "lists.jsonl"
    options = ["-m", "mind/config.yaml", "--data", str(run.data), "--exact", "-top_n", "5"]
    options += ["--lists", str(file), "-o", f"runner.infer_load_path={run.checkpoints}"]
    options += ["runner.infer_start_epoch=0", "runner.infer_end_epoch=1"]
    assert infer([*options, *OPTIONS]) == 0
    lists = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lists) == USERS // 10
    for one in lists:
        assert one["user"] in clicks
        assert {len(item) for item in one["items"]} == {8}


def old_users(connection: Connection, name: str, dimension: int, histories: dict[int, list[int]]):
    """A collection of users as it was made before there were own ids."""
    schema = _pymilvus().MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    types = _pymilvus().DataType
    schema.add_field("key", types.INT64, is_primary=True)
    for field in ("user", "interest", "clicks"):
        schema.add_field(field, types.INT64)
    schema.add_field("history", types.VARCHAR, max_length=32_768)
    schema.add_field("checkpoint", types.VARCHAR, max_length=64)
    schema.add_field("vector", types.FLOAT_VECTOR, dim=dimension)
    connection.call("create_collection", name, schema=schema, properties=mark(name))
    connection.create_index(name, Flat().type_name, "IP", {}, 60.0)
    connection.call("load_collection", name)
    rows = [
        {
            "key": 16 * user + interest,
            "user": user,
            "interest": interest,
            "clicks": len(history),
            "history": "" if interest else json.dumps(history),
            "checkpoint": "old",
            "vector": np.full(dimension, interest + 1, np.float32),
        }
        for user, history in histories.items()
        for interest in range(2)
    ]
    connection.call("upsert", name, rows)


@pytest.mark.parametrize("place", ["lite", ON_SERVER])
def test_users_of_before_are_refused_then_moved(request, trained, tmp_path: Path, place):
    options = ["milvus.collection=before"]
    if place == "server":
        options.append(f"milvus.uri={request.getfixturevalue('server').uri}")
    settings = settings_of(trained, tmp_path, *options)
    histories = {user: [1 + user % 300, 2, 3] for user in (0, 7, 2**59 - 1, *range(100, 400))}
    with closing(Connection(settings.model.milvus_uri)) as connection:
        old_users(connection, "before_users_4", 4, histories)
        with pytest.raises(RetrievalError, match=r"paddlerec_milvus\.serving\.migrate_users"):
            store_of(settings)
        assert migrate(settings) == len(histories)
        assert migrate(settings) == 0
        assert not connection.call("has_collection", "before_users_4")
        with closing(store_of(settings)) as store:
            assert store.count() == len(histories)
            state = store.read(7)
            assert (state.history, state.clicks, state.checkpoint) == ([8, 2, 3], 3, "old")
            assert state.interests.tolist() == [[1.0] * 4, [2.0] * 4]
            assert store.read("7") is None
        connection.call("drop_collection", "before_user_states_4")
