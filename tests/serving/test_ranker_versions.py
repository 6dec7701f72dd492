# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which ranker answers: that of the version which serves, through restarts and rollbacks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ranked_calls import copy_of, recommended, started, train_small
from running_service import running, settings_of, until

from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.ownership import CHECKPOINT


def damaged(ranking: Path) -> None:
    file = ranking / "trees.onnx"
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_ranker_of_another_model_or_a_changed_file_does_not_rank(
    ranked, tmp_path, capsys, is_damaged
) -> None:
    copy = copy_of(ranked, tmp_path)
    place = tmp_path / "out" / "0" / "ranking"
    if is_damaged:
        damaged(place)
        epoch = "0"
    else:
        shutil.move(place, tmp_path / "out" / "1" / "ranking")
        epoch = "1"
    with started(copy, tmp_path, epoch=epoch) as service:
        service.http.post("/insert")
        assert recommended(service, [3, 7])["source"] == ["unranked"]
        assert 'serving_unranked_total{reason="failure"} 1.0' in service.http.get("/metrics").text
    assert "warning: the ranker cannot be used" in capsys.readouterr().err


def test_a_restart_serves_the_ranker_of_the_inserted_model(ranked, tmp_path) -> None:
    """From the registry, where training may not write."""
    copy = copy_of(ranked, tmp_path)
    with started(copy, tmp_path) as service:
        service.http.post("/insert")
        before = recommended(service, [3, 7])
    kept = next((tmp_path / "kept").iterdir())
    assert (kept / "ranking" / "manifest.json").is_file()
    shutil.rmtree(tmp_path / "out" / "0")  # epoch 1 is trained since
    with started(copy, tmp_path, epoch="1") as service:
        assert recommended(service, [3, 7]) == before


def test_the_ranker_is_part_of_the_version_that_is_rolled_back(ranked, tmp_path) -> None:
    """Two rankers of one checkpoint: each answers with the version that it was inserted with."""
    copy = copy_of(ranked, tmp_path)
    settings = settings_of(copy, tmp_path, ranking_timeout=60.0)
    with running(settings) as service:
        service.http.post("/insert")
        first = recommended(service, [3, 7])
        second = train_small(settings.trained, 5, seed=2).manifest.digest
        assert recommended(service, [3, 7]) == first  # what lies on disk does not serve by itself
        service.http.post("/insert")
        newer = recommended(service, [3, 7])
        assert newer["ranker"] == second != first["ranker"]
        assert service.http.get("/readyz").json()["ranker"] == second
        for expected in (first, newer, first):
            assert service.http.post("/rollback").status_code == 200
            assert recommended(service, [3, 7]) == expected
    with running(settings) as service:  # from the registry; on disk is the newer one
        assert recommended(service, [3, 7]) == first
        ready = service.http.get("/readyz").json()
        assert (ready["ranker"], ready["started_with"]["ranker"]) == (first["ranker"], second)
        service.http.post("/rollback")
        assert recommended(service, [3, 7]) == newer


def test_a_ranker_that_is_damaged_since_is_not_inserted(ranked, tmp_path, capsys) -> None:
    """The version before has its own; the damaged one is in no version."""
    with started(copy_of(ranked, tmp_path), tmp_path) as service:
        service.http.post("/insert")
        before = recommended(service, [3, 7])
        damaged(tmp_path / "out" / "0" / "ranking")
        assert service.http.post("/insert").status_code == 200
        assert recommended(service, [3, 7])["source"] == ["unranked"]
        service.http.post("/rollback")
        assert recommended(service, [3, 7]) == before
    assert "warning: the ranker cannot be used" in capsys.readouterr().err


def test_vectors_that_name_no_ranker_are_ranked_by_the_one_that_is_here(ranked, tmp_path) -> None:
    """As those that were stored by the API of Python."""
    with started(ranked, tmp_path) as service:
        tower = service.service.model.tower
        vectors, uri = tower.item_vectors()[1:], service.service.settings.model.milvus_uri
        properties = {CHECKPOINT: tower.fingerprint}
        with MilvusRetriever(uri, "mind_items") as other:
            other.versions.build(vectors, np.arange(1, 301), properties=properties)
        until(lambda: service.ready()[0] == 200)
        assert recommended(service, [3, 7])["source"] == ["ranked"]
