# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A service on a link follows it at an insert, and takes its earlier and later states for its own.

The data of a day is other data than that of the day before: without the link that is refused.
"""

from __future__ import annotations

import shutil

import pytest
from export_of_a_day import Days
from running_service import Running, running, until

from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.export.manifest import VECTORS
from paddlerec_milvus.serving.health import OTHER
from paddlerec_milvus.serving.settings import export_settings

HISTORIES = [[3, 7, 12], [5], [299, 1, 2]]


def lists(service: Running) -> list[list[int]]:
    answer = service.candidates(*HISTORIES)
    assert answer["source"] == ["model"] * 3
    candidates: list[list[int]] = answer["candidates"]
    return candidates


def digest(service: Running) -> str:
    return str(service.http.get("/readyz").json()["digest"])


def test_insert_follows_the_link_and_rollback_goes_back(days: Days, service: Running, capsys):
    old = lists(service)
    days.exports.point("two")
    assert lists(service) == old  # until the insert
    answer = service.http.post("/insert")
    assert answer.json()["checkpoint"] == days.two.manifest.digest
    new = lists(service)
    assert new != old
    assert "were replaced" not in capsys.readouterr().err
    assert service.http.post("/rollback").status_code == 200
    assert (lists(service), digest(service)) == (old, days.one.manifest.digest)
    service.http.post("/rollback")
    assert lists(service) == new


def test_a_start_between_link_and_insert_serves_what_milvus_holds(days: Days, service: Running):
    """Even where the registry is lost: the export is there."""
    old = lists(service)
    days.exports.point("two")
    with running(days.settings(registry=days.place / "empty")) as again:
        assert lists(again) == old
        assert again.http.get("/readyz").json()["started_with"] is not None


def test_a_second_service_follows_forth_and_back(days: Days, service: Running):
    with running(days.settings(registry=days.place / "own")) as second:
        old = lists(second)
        days.exports.point("two")
        service.http.post("/insert")
        until(lambda: digest(second) == days.two.manifest.digest)
        assert lists(second) == lists(service) != old
        service.http.post("/rollback")
        until(lambda: digest(second) == days.one.manifest.digest)
        assert lists(second) == old


def test_without_a_link_the_data_of_another_day_is_refused(days: Days, service: Running):
    days.exports.point("two")
    service.http.post("/insert")
    shutil.rmtree(days.exports.folder / "one")  # its export is gone, so nobody knows it
    answer = service.http.post("/rollback")
    assert (answer.status_code, "other data" in answer.text) == (409, True)
    assert digest(service) == days.two.manifest.digest


@pytest.mark.parametrize("is_link", [True, False])
def test_a_replica_whose_disk_shows_the_export_later_follows_then(
    days: Days, service: Running, one: ExportedModel, two: ExportedModel, tmp_path, is_link
):
    """It has exports of its own; the manifest comes before the vectors."""
    folder = tmp_path / "replica"
    shutil.copytree(one.checkpoint, folder / "one")
    if is_link:
        (folder / "current").symlink_to("one")
    settings = export_settings(
        folder / ("current" if is_link else "one"),
        [f"milvus.uri={days.place / 'milvus.db'}"],
        **{"check_seconds": 0.1, "timeout": 10.0, "registry": tmp_path / "own"},
    )
    with running(settings) as replica:
        service.http.post("/insert")
        until(lambda: replica.ready()[0] == 200)
        days.exports.point("two")
        service.http.post("/insert")
        until(lambda: "other data" in replica.ready()[1])
        place = folder / ("two" if is_link else "one")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(two.checkpoint, place, ignore=lambda *_: [VECTORS])
        until(lambda: replica.ready() == (503, OTHER.reason))
        shutil.copyfile(two.checkpoint / VECTORS, place / VECTORS)
        until(lambda: replica.ready()[0] == 200)
        assert digest(replica) == two.manifest.digest
