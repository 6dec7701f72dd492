# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A Milvus user who may read and search, and not write: a server with authorization says so."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
from collections.abc import Iterator

import pytest
from running_service import Running, running, until

from paddlerec_milvus.errors import UserError
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.server import LocalMilvus
from paddlerec_milvus.serving.settings import ServiceSettings

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROOT_TOKEN = "root:Milvus"
PASSWORD = "a-S3cret-word"
READING = [
    ("Global", "ShowCollections"),
    ("Global", "DescribeCollection"),
    ("Collection", "GetStatistics"),
    ("Collection", "IndexDetail"),
    ("Collection", "Load"),
    ("Collection", "Query"),
    ("Collection", "Search"),
]


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalMilvus]:
    """A server that asks for tokens; ``reader`` may read, ``nobody`` may do nothing."""
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("no real Milvus: pip install 'paddlerec-milvus[server]'")
    with LocalMilvus(authorization=True) as milvus:
        root = Connection(milvus.uri, token=ROOT_TOKEN)
        root.call("create_role", "reading")
        for kind, right in READING:
            root.call("grant_privilege", "reading", kind, right, "*")
        for user in ("reader", "owner", "nobody"):
            root.call("create_user", user, PASSWORD)
        root.call("grant_role", "reader", "reading")
        root.call("grant_role", "owner", "admin")
        until(lambda: may_read(milvus), 30)
        root.close()
        yield milvus


def may_read(milvus: LocalMilvus) -> bool:
    """Whether the server has taken notice of the grants."""
    with contextlib.closing(Connection(milvus.uri, token=f"reader:{PASSWORD}")) as reader:
        try:
            reader.call("load_collection", "none")
        except UserError as error:
            return "permission deny" not in str(error)
    return True


@pytest.fixture
def filled(guarded, make_settings) -> Iterator[Running]:
    """A service of the administrator's, with vectors."""
    options = (f"milvus.uri={guarded.uri}", f"milvus.token={ROOT_TOKEN}")
    with running(make_settings(*options)) as started:
        assert started.http.post("/insert").status_code == 200
        yield started
        started.http.post("/delete")


def as_user(name: str, guarded: LocalMilvus, make_settings) -> ServiceSettings:
    """Of a service with another checkpoint, to be inserted."""
    options = (f"milvus.uri={guarded.uri}", f"milvus.token={name}:{PASSWORD}")
    return make_settings(*options, epoch="1")


def test_an_insert_without_the_right_to_create(guarded, filled, make_settings, caplog):
    """The right that is missing is named, no password is, and what served goes on serving."""
    caplog.set_level(logging.INFO, "paddlerec_milvus")
    expected = filled.candidates([3, 7], [5])
    version = filled.service.current.version
    with running(as_user("reader", guarded, make_settings)) as service:
        until(lambda: service.ready()[0] == 200)
        assert service.candidates([3, 7], [5]) == expected
        for path, right in (("/insert", "CreateCollection"), ("/delete", "DropAlias")):
            answer = service.http.post(path)
            assert answer.status_code in (409, 503)
            assert f"Privilege{right}: permission deny to reader" in answer.json()["detail"]
            assert PASSWORD not in answer.text
        click = service.http.post("/users/4/events", json={"items": [5]})
        assert click.status_code in (409, 503)
        assert "permission deny" in click.json()["detail"]
        assert service.ready()[0] == 200
        assert service.candidates([3, 7], [5]) == expected
    assert filled.candidates([3, 7], [5]) == expected
    assert filled.service.deployment.index.serving() == version
    assert PASSWORD not in caplog.text


def test_a_user_who_may_do_nothing(guarded, filled, make_settings, caplog):
    """Popular items for all, and the log says which right is missing."""
    caplog.set_level(logging.INFO, "paddlerec_milvus")
    with running(as_user("nobody", guarded, make_settings)) as service:
        assert service.ready()[0] == 503
        assert service.candidates([3])["source"] == ["fallback"]
        answer = service.http.post("/insert")
        assert answer.status_code in (409, 503)
        assert "PrivilegeCreateCollection: permission deny to nobody" in answer.json()["detail"]
    assert "permission deny to nobody" in caplog.text
    assert PASSWORD not in caplog.text
    assert filled.candidates([3])["source"] == ["model"]


def test_an_evaluation_and_its_report_repeat_no_password(
    guarded, trained, tmp_path, capsys, caplog
):
    """Of a user who may not write, which ends in an error, and of one who may."""
    caplog.set_level(logging.INFO)
    place = guarded.uri.removeprefix("http://")
    report = tmp_path / "report.json"
    for user, code in (("reader", 2), ("owner", 0)):
        uri = f"milvus.uri=http://{user}:{PASSWORD}@{place}"
        arguments = trained.arguments(uri, "milvus.collection=evaluated")
        assert infer([*arguments[:6], "--report", str(report), *arguments[6:]]) == code
    shown = capsys.readouterr()
    assert guarded.uri in shown.err
    assert json.loads(report.read_text())["retriever"] == guarded.uri
    for text in (shown.out, shown.err, caplog.text, report.read_text()):
        assert PASSWORD not in text


def test_a_wrong_token(guarded, make_settings, caplog):
    caplog.set_level(logging.INFO, "paddlerec_milvus")
    options = (f"milvus.uri={guarded.uri}", "milvus.token=reader:wr0ng-word")
    with running(make_settings(*options)) as service:
        assert service.ready()[0] == 503
        answer = service.http.post("/insert")
        assert answer.status_code == 503
        assert "refused the token" in answer.json()["detail"]
        assert "wr0ng-word" not in answer.text
    assert "wr0ng-word" not in caplog.text
