# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Collections made by hand under the names that the service uses: told of, and left alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import httpx
import pytest
from running_service import Running, running, until

from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.ownership import describe
from paddlerec_milvus.serving.settings import ServiceSettings

ROWS = [{"id": number, "vector": [float(number)] * 8} for number in (1, 2, 3)]
POPULAR = [1, 2, 4, 5]  # without the history [3]
numbers = itertools.count(1)


@pytest.fixture(params=["lite", pytest.param("server", marks=pytest.mark.server)])
def settings(request, make_settings) -> ServiceSettings:
    """Of a service with names of its own, on Milvus Lite and on the real server."""
    options = [f"milvus.collection=foreign_{next(numbers)}"]
    if request.param == "server":
        options.append(f"milvus.uri={request.getfixturevalue('server').uri}")
    made: ServiceSettings = make_settings(*options)
    return made


@pytest.fixture
def connection(settings) -> Iterator[Connection]:
    """To the service's Milvus; what lies there in the end is dropped."""
    opened = Connection(settings.model.milvus_uri)
    yield opened
    name = settings.model.milvus.collection
    for alias in (name, f"{name}_previous"):
        found = describe(opened, alias)
        if found and found.name != alias:
            opened.call("drop_alias", alias)
    for each in opened.call("list_collections"):
        if each == name or each.startswith(f"{name}_"):
            opened.call("drop_collection", each)
    opened.close()


@pytest.fixture
def service(settings, connection) -> Iterator[Running]:
    """One without vectors."""
    with running(settings) as started:
        yield started


def name_of(service: Running) -> str:
    return service.service.settings.model.milvus.collection


def make_by_hand(connection: Connection, name: str) -> None:
    """As pymilvus' quick start has it: ``id`` and ``vector``, and three rows."""
    connection.call("create_collection", name, dimension=8)
    connection.call("insert", name, ROWS)


def check_left_alone(connection: Connection, name: str) -> None:
    found = describe(connection, name)
    assert found is not None
    assert (found.fields, found.dimension) == (("id", "vector"), 8)
    rows = connection.call("query", name, filter="id > 0", consistency_level="Strong")
    assert sorted(row["id"] for row in rows) == [1, 2, 3]


def check_refused(service: Running) -> None:
    """Both at /readyz and by the calls that would write there, with what can be done."""
    until(lambda: "did not make" in service.ready()[1])
    assert service.ready()[0] == 503
    for path in ("/insert", "/rollback", "/delete"):
        answer = service.http.post(path)
        assert answer.status_code == 409, (path, answer.text)
    detail = service.http.post("/insert").json()["detail"]
    assert f"holds a collection {name_of(service)!r} that this program did not make" in detail
    assert "fields id, vector; dimension 8" in detail
    assert "is left alone. Give another milvus.collection" in detail
    found = service.candidates([3], top_k=4)
    assert (found["source"], found["candidates"]) == (["fallback"], [POPULAR])


def test_a_collection_of_the_services_name(service, connection):
    make_by_hand(connection, name_of(service))
    check_refused(service)
    check_left_alone(connection, name_of(service))


def test_an_alias_of_the_services_name(service, connection):
    other = f"{name_of(service)}_by_hand"
    make_by_hand(connection, other)
    connection.call("create_alias", other, name_of(service))
    check_refused(service)
    check_left_alone(connection, other)


@pytest.mark.slow
def test_collections_named_as_versions_are(service, connection):
    """The insert takes the next free name."""
    name = name_of(service)
    make_by_hand(connection, f"{name}_v1")
    assert service.http.post("/insert").status_code == 200
    assert service.candidates([3])["source"] == ["model"]
    assert service.http.get("/count").json()["count"] == 300
    assert service.http.post("/delete").json() == {"deleted": 300}
    check_left_alone(connection, f"{name}_v1")


@pytest.mark.slow
def test_a_collection_where_users_would_be(settings, connection):
    """Clicks are refused, candidates are not."""
    name = f"{settings.model.milvus.collection}_user_states_128"
    make_by_hand(connection, name)
    with running(settings.model_copy(update={"check_seconds": 60.0})) as service:
        assert service.http.post("/insert").status_code == 200
        until(lambda: name in click(service).text)  # not for half a second after the last try
        answer = click(service)
        assert answer.status_code in (409, 503)
        assert service.candidates([3])["source"] == ["model"]
        found = service.http.get("/users/4/candidates", params={"top_k": 4})
        assert found.status_code == 200
    check_left_alone(connection, name)


def click(service: Running) -> httpx.Response:
    return service.http.post("/users/4/events", json={"items": [5]})
