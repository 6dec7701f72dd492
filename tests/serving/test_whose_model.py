# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The service says whose model it serves, and never serves that of another log in silence."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from running_service import Running, running, settings_of, until

from paddlerec_milvus.checkpoint_record import read_record, write_record
from paddlerec_milvus.data.fingerprint import fingerprint_of, identity_of
from paddlerec_milvus.errors import CheckpointError, DataError
from paddlerec_milvus.serving.async_user_store import milvus_users
from paddlerec_milvus.serving.load_histories import load_histories
from paddlerec_milvus.serving.milvus_deployment import MilvusDeployment
from paddlerec_milvus.serving.observability import Metrics
from paddlerec_milvus.serving.settings import ServiceSettings, service_settings


@pytest.fixture
def other(trained, tmp_path) -> Path:
    """Another log with as many items, under titles of its own, and a model of it in ``out``."""
    folder = shutil.copytree(trained.data, tmp_path / "other")
    clicks, items = folder / "train" / "clicks.csv", folder / "items.csv"
    clicks.write_text(clicks.read_text().replace("\n", "\n1,1,0\n", 1))
    items.write_text(items.read_text().replace("Category", "Othergory"))
    checkpoint = shutil.copytree(trained.checkpoints / "1", tmp_path / "out" / "0")
    record = read_record(checkpoint)
    (checkpoint / "rec.json").unlink()
    write_record(
        checkpoint,
        record.model_copy(update={"data": identity_of(folder / "train"), "epoch": 0, "run": "x"}),
    )
    return folder


@pytest.fixture
def of_other(trained, tmp_path, other):
    """Settings of a service of ``other`` on the same Milvus, with the same registry."""

    def make(**settings: Any) -> ServiceSettings:
        first = settings_of(trained, tmp_path)
        options = [
            f"runner.infer_load_path={tmp_path / 'out'}",
            f"milvus.uri={first.model.milvus_uri}",
            *("index.type=FLAT", "hyper_parameters.neg_samples=128"),
        ]
        common = {"epoch": "0", "check_seconds": 0.2, "timeout": 10.0, "registry": first.registry}
        return service_settings("mind/config.yaml", options, other, **common, **settings)

    return make


def said(service: Running) -> dict[str, Any]:
    ready: dict[str, Any] = service.http.get("/readyz").json()
    return ready


def test_it_says_model_data_epoch_index_and_digest(service, trained):
    expected = {
        "model": "mind",
        "data": "data",
        "data_fingerprint": fingerprint_of(trained.data),
        "epoch": 0,
        "index": "FLAT",
        "digest": service.service.model.tower.fingerprint,
        "ranker": "none",
    }
    ready, count = said(service), service.http.get("/count").json()
    assert {key: ready[key] for key in expected} == expected
    assert ready["started_with"] is None
    assert count == {"count": 300, **expected}


def test_served_and_then_started_with_the_data_of_another_log(
    make_settings, of_other, other, trained, capsys
):
    with running(make_settings()) as first:
        first.http.post("/insert")
        old = first.candidates([3], titles=True)
        assert "Category" in old["titles"][0][0]
    capsys.readouterr()
    with running(of_other()) as service:
        loud = [line for line in capsys.readouterr().err.splitlines() if "warning: " in line]
        ready, answer = said(service), service.candidates([3], titles=True)
        assert service.http.get("/readyz").status_code == 503
        assert answer["source"] == ["fallback"]
        assert all("Category" not in title for title in answer["titles"][0])
        for text in (ready["reason"], " ".join(loud)):
            for name, folder in (("data", trained.data), ("other", other)):
                assert f"data '{name}' (fingerprint {fingerprint_of(folder)})" in text
        assert (ready["data"], service.http.get("/count").json()["data"]) == ("other", "data")
        assert service.http.post("/insert").status_code == 200
        assert "Users that were stored beside them stay" in capsys.readouterr().err
        assert (said(service)["ready"], said(service)["data"]) == (True, "other")
        answer = service.candidates([3], titles=True)
        assert answer["source"] == ["model"]
        assert "Othergory" in answer["titles"][0][0]
        back = service.http.post("/rollback")  # would bring the first log's vectors back
        assert back.status_code == 409
        assert "other data" in back.json()["detail"]
    with running(make_settings()) as first:  # the other way round
        assert first.candidates([3])["source"] == ["fallback"]
        assert "data 'other'" in first.ready()[1]


def test_data_that_is_prepared_anew_after_the_refusal_is_noticed(
    make_settings, of_other, other, trained, tmp_path
):
    """By a replica that looked at its disk in between."""
    settings, data, out = make_settings(), tmp_path / "place" / "data", tmp_path / "place" / "out"
    shutil.copytree(trained.data, data)
    shutil.copytree(trained.checkpoints / "0", out / "0")
    options = [f"runner.infer_load_path={out}", *of_other().source.options[1:]]
    common = {"epoch": "0", "check_seconds": 0.1, "timeout": 10.0, "registry": settings.registry}
    with running(service_settings("mind/config.yaml", options, data, **common)) as replica:
        with running(of_other()) as service:
            service.http.post("/insert")
        until(lambda: "data 'other'" in replica.ready()[1])
        for fresh, place in ((other, data), (tmp_path / "out", out)):
            shutil.rmtree(place)
            shutil.copytree(fresh, place)
        until(lambda: replica.ready()[0] == 200)
        assert replica.candidates([3])["source"] == ["model"]


def test_histories_of_another_log_are_refused_unless_forced(
    make_settings, of_other, other, trained
):
    own, foreign = make_settings(), of_other()
    with running(own) as service:
        service.http.post("/insert")
    names = [(trained.data, "data"), (other, "other")]
    for settings in (own, foreign):  # by the settings' model, and by what lies in Milvus
        with pytest.raises(DataError) as raised:
            load_histories(settings, other)
        for folder, name in names:
            assert f"'{name}' (fingerprint {fingerprint_of(folder)})" in str(raised.value)
    with closing(milvus_users(own)) as store:
        assert store.count() == 0
    assert load_histories(foreign, other, force=True).written > 0


def test_the_setting_inserts_instead(make_settings, of_other, capsys):
    with running(make_settings()) as first:
        first.http.post("/insert")
    with running(of_other(mismatch="insert")) as service:
        assert said(service)["data"] == "other"
        assert service.candidates([3])["source"] == ["model"]
    assert "warning: Milvus holds the item vectors of mind, epoch 0, data 'data'" in (
        capsys.readouterr().err
    )


def test_another_epoch_of_the_same_data_goes_on_and_that_is_said(make_settings, capsys):
    with running(make_settings()) as first:
        first.http.post("/insert")
        old = first.candidates([3])
    with running(make_settings(epoch="1")) as service:
        assert service.candidates([3])["candidates"] == old["candidates"]
        ready = said(service)
        assert (ready["epoch"], ready["started_with"]["epoch"]) == (0, 1)
        assert ready["digest"] == ready["checkpoint"] != ready["started_with"]["digest"]
        service.http.post("/insert")
        assert (said(service)["epoch"], said(service)["started_with"]) == (1, None)
    assert "warning: it answers by what Milvus holds" in capsys.readouterr().err
    with running(make_settings(mismatch="insert")) as service:
        assert (said(service)["epoch"], said(service)["started_with"]) == (0, None)


def test_a_checkpoint_of_other_data_is_refused(trained, tmp_path, other):
    options = [f"runner.infer_load_path={trained.checkpoints}"]
    settings = service_settings("mind/config.yaml", options, other, epoch="0")
    with pytest.raises(CheckpointError) as raised:
        MilvusDeployment(settings, Metrics())
    for name, folder in (("data", trained.data), ("other", other)):
        assert f"'{name}' (fingerprint {fingerprint_of(folder)}, {folder})" in str(raised.value)
