# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The client for Python, against the service that it is for."""

from __future__ import annotations

import configparser
import subprocess
import sys
from importlib import resources

import httpx
import numpy as np
import pytest
from in_process import DIMENSION, ITEMS
from support import ROOT

from paddlerec_milvus.serving import Client
from paddlerec_milvus.serving.client import ServiceError


@pytest.fixture
def client(shop):
    with Client(shop.url, transport=shop.http._transport) as opened:
        yield opened


def test_candidates_and_the_count(client):
    assert client.count() == ITEMS
    found = client.candidates(
        np.array([[33, 23], [1, 2]]), 7, exclude=[9], titles=True, exclude_history=False
    )
    assert [len(row) for row in found.candidates] == [7, 7]
    assert found.source == ["model", "model"]


def test_the_options_of_candidates(client):
    best = client.candidates([[33, 23]], 30, titles=True, nearest=True)
    assert best.categories is not None
    assert best.titles is not None
    category = best.categories[0][0]
    assert category is not None
    only = client.candidates([[33, 23]], 30, categories=[category])
    fitting = zip(best.candidates[0], best.categories[0], strict=True)
    found = [item for item, named in fitting if named == category]
    assert only.candidates[0][: len(found)] == found
    few = client.candidates([[33, 23]], 10, quota=3, diversity=0.1, consistency="Strong")
    assert max(map(few.interest[0].count, few.interest[0])) <= 3
    assert best.nearest is not None
    first = best.nearest[0][0][0]
    assert client.titles(first.title or "")[0].title == first.title


def test_titles(client):
    popular = client.titles(limit=3)
    assert [item.id for item in popular] == [1, 2, 3]
    assert popular[0].title
    assert popular[0].category
    assert client.titles(popular[1].title.upper(), limit=1)[0].title == popular[1].title
    assert client.titles("no such title anywhere") == []


def test_items_that_change(client):
    checkpoint = "tiny"
    vector = np.zeros(DIMENSION, np.float32)
    vector[3] = 1
    item = {"id": 1_000, "vector": vector, "category": "new"}
    stored = client.upsert_items([item], checkpoint=checkpoint)
    assert (stored.upserted, stored.checkpoint) == (1, checkpoint)
    assert client.count() == ITEMS + 1
    found = client.candidates([[1]], 5, categories=["new"], consistency="Strong", titles=True)
    assert found.candidates == [[1_000]]
    assert found.titles == [[None]]
    for history, left_out in (([1], [1_000]), ([1, 1_000], [])):
        without = client.candidates([history], 5, exclude=left_out, categories=["new"])
        assert without.candidates == [[]]
    assert client.delete_item(1_000) == 1_000
    assert client.count() == ITEMS
    with pytest.raises(ServiceError, match="409") as raised:
        client.upsert_items([item], checkpoint="another")
    assert raised.value.status == 409


def test_users_who_click(client):
    added = client.add_events(7, np.array([33, 23, 999_999]))
    assert (added.user, added.history, added.unknown) == (7, 2, [999_999])
    found = client.user_candidates(7, 10, quota=5, titles=True, consistency="Strong")
    assert found.source == ["model"]
    assert not {33, 23} & set(found.candidates[0])
    assert found.candidates == client.candidates([[33, 23]], 10, quota=5).candidates
    assert client.delete_user(7) == 7
    assert client.user_candidates(7, 2, consistency="Strong").source == ["popular"]


def test_what_is_wrong_is_an_error_that_says_so(client):
    with pytest.raises(ServiceError, match=r"422.*at most 1,000 candidates") as raised:
        client.candidates([[1]], 1001)
    assert raised.value.status == 422
    with (
        Client("http://127.0.0.1:9", timeout=1) as away,
        pytest.raises(ServiceError, match=r"127\.0\.0\.1:9 did not answer /count") as missed,
    ):
        away.count()
    assert missed.value.status is None


def test_the_key_is_sent_and_a_transport_taken():
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["x-api-key"] == "abc"
        return httpx.Response(200, json={"count": 3})

    with Client(key="abc", transport=httpx.MockTransport(answer)) as client:
        assert client.count() == 3


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, b"<html>welcome</html>"),
        (200, b""),
        (200, b"\xff\xfe"),
        (200, b"[3]"),
        (200, b'{"count": "many"}'),
        (200, b'{"counted": 3}'),
        (204, b""),
        (302, b"elsewhere"),
    ],
)
def test_an_answer_that_is_not_the_services_is_an_error_with_the_address(status, content):
    transport = httpx.MockTransport(lambda request: httpx.Response(status, content=content))
    with (
        Client("http://shop.example:81", transport=transport) as client,
        pytest.raises(ServiceError, match=rf"shop\.example:81/count answered {status}") as raised,
    ):
        client.count()
    assert raised.value.status == status


def test_an_address_that_is_none():
    with pytest.raises(ServiceError, match="'http://a:b' is no address of a service"):
        Client("http://a:b")
    with Client("shop.example") as client, pytest.raises(ServiceError, match="protocol"):
        client.count()


def test_callers_get_the_types():
    """The marker is beside the package, and shipped with it."""
    assert (resources.files("paddlerec_milvus") / "py.typed").is_file()
    shipped = configparser.ConfigParser()
    shipped.read(ROOT / "setup.cfg")
    assert "py.typed" in shipped["options.package_data"]["paddlerec_milvus"].split()


def test_a_caller_loads_no_part_of_the_server():
    code = "import sys, paddlerec_milvus.serving; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"fastapi", "pymilvus", "paddle"} & set(ran.stdout.split())
