# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""When the model may be used, and what is answered when it may not."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from running_service import running, until

from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.indexes import Flat
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.ownership import CHECKPOINT
from paddlerec_milvus.retrieval.versions import CollectionVersions
from paddlerec_milvus.serving.health import OTHER, UNUSABLE

POPULAR = [1, 2, 4, 5]  # without the history [3]


def fallback_of(service) -> list[int]:
    found = service.candidates([3], top_k=4)
    assert found["source"] == ["fallback"]
    return found["candidates"][0]


def test_ready_means_that_the_vectors_are_there(empty):
    assert empty.ready() == (503, "no item vectors are stored: POST /insert")
    assert empty.http.get("/healthz").json() == {"status": "alive"}
    assert fallback_of(empty) == POPULAR
    assert empty.metric("serving_fallbacks_total", reason="not_ready") == 1

    empty.http.post("/insert")
    assert empty.ready()[0] == 200
    assert empty.candidates([3], [])["source"] == ["model", "popular"]
    assert empty.metric("serving_ready") == 1

    empty.http.post("/delete")
    assert empty.ready()[0] == 503
    assert empty.http.get("/readyz").json()["items"] == 300


def test_a_collection_dropped_under_the_service_costs_the_model_and_no_answer(empty):
    empty.http.post("/insert")
    with MilvusRetriever(empty.service.settings.model.milvus_uri, "mind_items") as other:
        other.versions.drop()
    assert fallback_of(empty) == POPULAR
    until(lambda: empty.ready() == (503, "no item vectors are stored: POST /insert"))
    empty.http.post("/insert")
    assert empty.candidates([3])["source"] == ["model"]


def test_an_insert_of_another_process_is_followed(empty, make_settings):
    empty.http.post("/insert")
    before = empty.candidates([3])["candidates"]
    with running(make_settings(epoch="1")) as newer:
        assert newer.candidates([3])["candidates"] == before
        newer.http.post("/insert")
        after = newer.candidates([3])["candidates"]
        assert after != before
        until(lambda: empty.candidates([3])["candidates"] == after)
        assert empty.ready()[0] == 200


def test_vectors_of_a_model_that_is_not_here_are_not_searched(empty, make_settings, tmp_path):
    empty.http.post("/insert")
    with running(make_settings(epoch="1", registry=tmp_path / "elsewhere")) as newer:
        assert newer.ready() == (503, OTHER.reason)
        assert fallback_of(newer) == POPULAR
        newer.http.post("/insert")
        assert newer.candidates([3])["source"] == ["model"]
        until(lambda: empty.ready() == (503, OTHER.reason))
        assert fallback_of(empty) == POPULAR


@pytest.mark.parametrize("change", ["unmarked", "smaller", "metric"])
def test_other_vectors_are_told(empty, change):
    tower = empty.service.model.tower
    vectors = tower.item_vectors()[1:]
    if change == "smaller":
        vectors = vectors[:, :8]
    metric = "L2" if change == "metric" else "IP"
    properties = {} if change == "unmarked" else {CHECKPOINT: tower.fingerprint}
    uri = empty.service.settings.model.milvus_uri
    with MilvusRetriever(uri, "mind_items", metric=metric, index=Flat()) as other:
        other.versions.build(vectors, np.arange(1, len(vectors) + 1), properties=properties)
    reason = OTHER if change == "unmarked" else UNUSABLE
    until(lambda: empty.ready() == (503, reason.reason))
    assert fallback_of(empty) == POPULAR


def test_another_type_of_index_in_the_yaml_comes_with_an_insert(empty, make_settings, capsys):
    """Until then the index that is there answers."""
    empty.http.post("/insert")
    before = empty.candidates([3])["candidates"]
    with running(make_settings("index.type=IVF_FLAT", "index.nlist=16")) as again:
        assert again.candidates([3])["candidates"] == before
        assert again.http.get("/readyz").json()["index"] == "FLAT"
        advice = "the index FLAT, the settings say IVF_FLAT nlist 16: POST /insert builds it"
        assert advice in capsys.readouterr().err
        assert again.http.post("/insert").status_code == 200
        assert again.http.get("/readyz").json()["index"] == "IVF_FLAT nlist 16"
        assert again.candidates([3])["source"] == ["model"]


def test_a_collection_that_we_did_not_make_is_left_alone(empty):
    connection = Connection(empty.service.settings.model.milvus_uri)
    connection.create_collection("mind_items", 128, {})
    until(lambda: "did not make" in empty.ready()[1])
    for path in ("/insert", "/delete"):
        answer = empty.http.post(path)
        assert answer.status_code == 409
        assert "is left alone" in answer.json()["detail"]
    assert connection.call("has_collection", "mind_items")
    connection.close()


def test_a_milvus_that_is_away_stops_nothing(make_settings, monkeypatch):
    settings = make_settings("milvus.uri=http://user:s3cret@127.0.0.1:9", timeout=0.5)
    with running(settings) as service:
        assert service.ready()[0] == 503
        assert fallback_of(service) == POPULAR
        assert service.http.get("/count").status_code == 503
        answer = service.http.get("/readyz").text + service.http.get("/count").text
        assert "127.0.0.1" not in answer
        assert "s3cret" not in answer


def test_one_insert_or_delete_at_a_time(empty, monkeypatch):
    began, release = threading.Event(), threading.Event()
    build = CollectionVersions.build

    def slowly(*arguments, **options):
        began.set()
        release.wait(20)
        return build(*arguments, **options)

    monkeypatch.setattr(CollectionVersions, "build", slowly)
    first = threading.Thread(target=empty.http.post, args=("/insert",))
    first.start()
    began.wait(20)
    for path in ("/insert", "/delete"):
        answer = empty.http.post(path)
        assert answer.status_code == 409
        assert "under way" in answer.text
    release.set()
    first.join()
    assert empty.ready()[0] == 200
