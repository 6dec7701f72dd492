# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists that were shown, logged with or without a shadow: what a line holds, and what may fail."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import CATEGORIES, ITEMS, SmallIndex, TinyEncoder, in_process_app
from pydantic import SecretStr, ValidationError
from running_service import Running, until

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.id_map import IdMap
from paddlerec_milvus.data.shown_lists import ShownList, read_shown
from paddlerec_milvus.ranking.channels import QUOTAS, Channels
from paddlerec_milvus.ranking.features import FEATURES
from paddlerec_milvus.ranking.ranking_model import RankingManifest, RankingModel
from paddlerec_milvus.serving import shadow, shown_log
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.hidden_items import HiddenItems
from paddlerec_milvus.serving.item_categories import ItemCategories
from paddlerec_milvus.serving.item_ids import ItemIds
from paddlerec_milvus.serving.item_index import IndexVersion
from paddlerec_milvus.serving.model_cache import ServingModel
from paddlerec_milvus.serving.observability import Metrics
from paddlerec_milvus.serving.shown_log import ShownLog

sys.path.append(str(Path(__file__).resolve().parents[2] / "ranking"))

from small_ranking import USERS, ScoreOnly
from support import log_of

HISTORY = [3, 7, 11]
SECRET = "a secret of some length"
ENCODER = TinyEncoder()


class Backwards(ScoreOnly):
    """The order of the vector model, turned round."""

    def scores(self, rows: Any, items: Any = None, history: Any = None) -> Any:
        return -super().scores(rows)


def small_ranking() -> RankingModel:
    manifest = RankingManifest(
        **{"model": "tiny", "data": "d", "item_count": ITEMS + 1, "channels": list(QUOTAS)},
        **{"features": list(FEATURES), "used": ["score"], "start": 1.0, "seed": 1, "lists": 20},
        files={},
    )
    channels, vectors = Channels.of(log_of(USERS), ITEMS + 1), ENCODER.item_vectors()
    return RankingModel(manifest, channels, Backwards(), vectors, np.zeros(ITEMS + 1, np.int64))


@contextlib.contextmanager
def logging_to(folder: Path, **others: Any) -> Iterator[Running]:
    settings = {"ranking": small_ranking(), "ranking_timeout": 60.0, **others}
    with in_process_app(encoder=ENCODER, shown_log=folder, **settings) as service:
        yield service


def recommended(service: Running, *histories: list[Any], **headers: str) -> dict[str, Any]:
    body = {"hist_item": list(histories), "top_k": 5}
    answer = service.http.post("/recommend", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    parts: dict[str, Any] = answer.json()
    return parts


def columns(rows: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    return [row["id"] for row in rows], [row["score"] for row in rows]


def lists_of(folder: Path) -> list[ShownList]:
    return read_shown([folder]).lists


def test_a_line_holds_what_was_answered_and_nothing_of_the_user(tmp_path: Path) -> None:
    before = datetime.now(timezone.utc)
    with logging_to(tmp_path) as service:
        answer = recommended(service, HISTORY, [], **{"X-Request-ID": "a-1"})
        digest = service.service.model.ranking.manifest.digest
    first, second = lists_of(tmp_path)
    assert (first.request_id, first.row, second.row) == ("a-1", 0, 1)
    assert (first.model, first.ranker, first.source) == ("tiny", digest, "ranked")
    assert (second.model, second.ranker, second.source) == ("tiny", None, "popular")
    for line, rows in zip((first, second), answer["recommendations"], strict=True):
        assert (line.items, line.scores) == columns(rows)
    assert before <= first.time <= datetime.now(timezone.utc)
    (file,) = tmp_path.iterdir()
    line = json.loads(file.read_text().splitlines()[0])
    assert line["user"] is None
    assert line["time"].endswith("Z")
    assert set(line) == set(ShownList.model_fields)


@pytest.mark.parametrize("users", ["none", "hashed", "plain"])
def test_a_user_is_called_as_the_settings_allow(tmp_path: Path, users: str) -> None:
    settings = {"shown_users": users, "shown_secret": SecretStr(SECRET)}
    with logging_to(tmp_path, user_kind="string", **settings) as service:
        service.http.post("/users/anna/events", json={"items": HISTORY})
        assert service.http.get("/users/anna/recommendations").status_code == 200
    (line,) = lists_of(tmp_path)
    digest = hmac.new(SECRET.encode(), b"anna", hashlib.sha256).hexdigest()[:32]
    assert line.user == {"none": None, "hashed": digest, "plain": "anna"}[users]
    assert ("anna" in next(tmp_path.iterdir()).read_text()) == (users == "plain")


def test_ids_are_the_log_s_own(tmp_path: Path) -> None:
    ids = IdMap("string", [f"book-{item}" for item in range(1, ITEMS + 1)])
    with logging_to(tmp_path, item_ids=ids) as service:
        answer = recommended(service, ["book-3", "book-7"])
    (line,) = lists_of(tmp_path)
    assert line.items == [row["id"] for row in answer["recommendations"][0]]
    assert str(line.items[0]).startswith("book-")


def test_nothing_is_logged_unless_a_folder_is_set(service: Running) -> None:
    recommended(service, HISTORY)
    assert service.metric("serving_shown_lists_total", outcome="written") == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shadow": "ranked"}, "SERVING_SHADOW: is logged with what was shown: set SERVING_SHOWN_"),
        ({"shown_log": "x", "shown_users": "hashed"}, "hashed: set SERVING_SHOWN_SECRET, 16 char"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message), in_process_app(**settings):
        pass


@pytest.mark.parametrize("by", ["unranked", "ranked"])
def test_one_answers_and_both_are_logged(tmp_path: Path, by: str) -> None:
    with logging_to(tmp_path / "plain") as service:
        ranked = recommended(service, HISTORY)["recommendations"][0]
    with logging_to(tmp_path / "none", ranking=None) as service:
        unranked = recommended(service, HISTORY)["recommendations"][0]
    assert columns(ranked) != columns(unranked)
    shown, beside = (ranked, unranked) if by == "unranked" else (unranked, ranked)
    with logging_to(tmp_path / "both", shadow=by) as service:
        answer = recommended(service, HISTORY, [])
        assert service.metric("serving_unranked_total", reason="absent") == 0
        until(lambda: service.metric("serving_shadow_requests_total", outcome="logged") == 1)
    assert answer["recommendations"][0] == shown
    assert answer["source"] == ["unranked" if by == "ranked" else "ranked", "popular"]
    line, of_popular = lists_of(tmp_path / "both")
    assert (line.items, line.scores) == columns(shown)
    assert line.shadow is not None
    assert (line.shadow.items, line.shadow.scores) == columns(beside)
    assert (line.shadow.by, line.shadow.source) == (by, by)
    assert (line.ranker is None) == (by == "ranked") == (line.shadow.ranker is not None)
    assert of_popular.shadow is None


def other_version() -> ServedVersion:
    """A version of other vectors, whose ranker is none."""
    encoder, catalogue = TinyEncoder(), Catalogue(ITEMS, categories=CATEGORIES.items())
    encoder.fingerprint = "before"
    encoder._vectors = -encoder._vectors[::-1].copy()
    ids = ItemIds(IdMap(), ITEMS)
    model = ServingModel(encoder, catalogue, ids, ItemCategories(catalogue), HiddenItems())
    return ServedVersion(model, SmallIndex(encoder.item_vectors()), IndexVersion("", "", "before"))


def test_the_version_before_is_a_shadow(tmp_path: Path, monkeypatch) -> None:
    with logging_to(tmp_path, shadow="before") as service:
        recommended(service, HISTORY)  # there is none yet
        until(lambda: service.metric("serving_shadow_requests_total", outcome="absent") == 1)
        monkeypatch.setattr(service.service.deployment, "before", other_version)
        recommended(service, HISTORY)
    first, second = lists_of(tmp_path)
    assert first.shadow is None
    assert second.shadow is not None
    assert (second.shadow.model, second.shadow.source) == ("before", "unranked")
    assert len(second.shadow.items) == 5
    assert not set(HISTORY) & set(second.shadow.items)
    assert second.items == first.items


def test_a_shadow_that_hangs_or_fails_costs_nobody_an_answer(tmp_path: Path, monkeypatch) -> None:
    end = threading.Event()
    with logging_to(tmp_path, shadow="unranked", ranking_timeout=0.2) as service:
        expected = recommended(service, HISTORY)["recommendations"]
        until(lambda: service.metric("serving_shadow_requests_total", outcome="logged") == 1)
        monkeypatch.setattr(shadow, "unranked_lists", lambda *arguments: 1 / 0)
        assert recommended(service, HISTORY)["recommendations"] == expected
        until(lambda: service.metric("serving_shadow_requests_total", outcome="failure") == 1)
        monkeypatch.setattr(shadow, "unranked_lists", lambda *arguments: end.wait(30))
        monkeypatch.setattr(shadow, "MOST_SHADOWS", 1)
        try:
            for _ in range(2):  # the first hangs, and no second one may wait beside it
                assert recommended(service, HISTORY)["recommendations"] == expected
            until(lambda: service.metric("serving_shadow_requests_total", outcome="deadline") >= 1)
        finally:
            end.set()
    lines = lists_of(tmp_path)
    assert len(lines) == 4
    assert [line.shadow is None for line in lines].count(True) == 3


def test_a_folder_that_cannot_be_written_breaks_no_answer(tmp_path: Path, caplog) -> None:
    folder = tmp_path / "shown"
    folder.write_text("a file is in the way")
    caplog.set_level(logging.INFO, "paddlerec_milvus")
    with logging_to(folder) as service:
        for _ in range(3):
            recommended(service, HISTORY, [])
        until(lambda: service.metric("serving_shown_lists_total", outcome="failed") == 6)
        failures = [one for one in caplog.records if "cannot be logged" in one.getMessage()]
        assert len(failures) == 1
        folder.unlink()
        recommended(service, HISTORY)
        until(lambda: service.metric("serving_shown_lists_total", outcome="written") == 1)
    assert "lists are logged again" in caplog.text
    assert len(lists_of(folder)) == 1


def one_line(request: str) -> ShownList:
    now = datetime.now(timezone.utc)
    fields = {"model": "m", "ranker": None, "source": "ranked", "items": [1], "scores": [0.5]}
    return ShownList(time=now, request_id=request, **fields)


class HalfFile:
    """A disk that is full in the middle of a line."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, lines: bytes) -> int:
        return int(self._file.write(lines[: len(lines) // 2]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_disk_that_is_full_leaves_whole_lines_alone(tmp_path: Path) -> None:
    metrics = Metrics()
    log = ShownLog(tmp_path, metrics)

    def counted(outcome: str) -> float:
        labels = {"outcome": outcome}
        return metrics.registry.get_sample_value("serving_shown_lists_total", labels) or 0.0

    def add(request: str) -> None:
        log.add([one_line(request)])

    add("a")
    until(lambda: counted("written") == 1)
    whole = log._file
    log._file = HalfFile(whole)
    add("b")
    until(lambda: counted("failed") == 1)
    log._file = whole
    add("c")
    log.close()
    read = read_shown([tmp_path])
    assert ([line.request_id for line in read.lists], read.unfinished) == (["a", "c"], 0)


def test_what_waits_is_bounded_and_a_file_is_not_too_long(tmp_path: Path, monkeypatch) -> None:
    """A list of one item counts as 11."""
    monkeypatch.setattr(shown_log, "MOST_WAITING", 55)
    monkeypatch.setattr(shown_log, "MOST_BYTES", 500)
    metrics, end, write = Metrics(), threading.Event(), ShownLog._write
    monkeypatch.setattr(ShownLog, "_write", lambda log, text: end.wait(30) and write(log, text))
    log = ShownLog(tmp_path, metrics)
    log.add([one_line("a")])
    log.add([one_line("b")] * 5)
    labels = {"outcome": "dropped"}
    assert metrics.registry.get_sample_value("serving_shown_lists_total", labels) == 5
    for _ in range(4):
        log.add([one_line("c")])
    end.set()
    log.close()
    lists = read_shown([tmp_path]).lists
    assert sorted(line.request_id for line in lists) == ["a"] + ["c"] * 4
    files = list(tmp_path.iterdir())
    assert len(files) > 1
    assert all(file.stat().st_size <= 500 for file in files)


def test_lists_without_an_item_do_not_wait_without_end(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shown_log, "MOST_WAITING", 25)
    metrics, end = Metrics(), threading.Event()
    monkeypatch.setattr(ShownLog, "_write", lambda log, text: end.wait(30))
    log = ShownLog(tmp_path, metrics)
    empty = one_line("a").model_copy(update={"items": [], "scores": []})
    for _ in range(3):
        log.add([empty])
    end.set()
    log.close()
    labels = {"outcome": "dropped"}
    assert metrics.registry.get_sample_value("serving_shown_lists_total", labels) == 1


def test_what_waits_to_be_written_holds_lists_alone(tmp_path: Path, monkeypatch) -> None:
    """And nothing of the request, of its search or of the model."""
    added: list[Any] = []
    monkeypatch.setattr(ShownLog, "add", lambda log, *entry: added.append(entry))
    with logging_to(tmp_path) as service:
        answer = recommended(service, HISTORY, [])
    ((lists,),) = added
    assert {type(line) for line in lists} == {ShownList}
    rows = answer["recommendations"]
    assert [(line.items, line.scores) for line in lists] == [columns(row) for row in rows]
