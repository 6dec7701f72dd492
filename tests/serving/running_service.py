# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The service under uvicorn in a thread of the test, on a free port."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from paddlerec_milvus.serving.app import create_app
from paddlerec_milvus.serving.auth import Keys
from paddlerec_milvus.serving.recommender import CandidateService
from paddlerec_milvus.serving.settings import ServiceSettings, service_settings

READER, OF_USERS, WRITER, ADMIN = (f"{role}-key-0123456789" for role in "abcd")  # by rising rights
KEYS = Keys.parse(f"read:{READER}, users:{OF_USERS},write:{WRITER},admin:{ADMIN}")


def settings_of(trained, folder: Path, *options: str, **others: Any) -> ServiceSettings:
    """Epoch 0 of the trained MIND, FLAT, a Milvus Lite in ``folder``."""
    return service_settings(
        "mind/config.yaml",
        [
            f"runner.infer_load_path={trained.checkpoints}",
            f"milvus.uri={folder / 'milvus.db'}",
            "index.type=FLAT",
            "hyper_parameters.neg_samples=128",
            *options,
        ],
        trained.data,
        **{
            "epoch": "0",
            "check_seconds": 0.2,
            "recall_seconds": 0.0,
            "timeout": 10.0,
            "registry": folder / "kept",
            **others,
        },
    )


@dataclass(frozen=True)
class Running:
    app: FastAPI
    url: str
    http: httpx.Client

    @property
    def service(self) -> CandidateService:
        service: CandidateService = self.app.state.service
        return service

    def candidates(self, *histories: list[int], **options: Any) -> dict[str, Any]:
        """The answer of a good request."""
        answer = self.http.post("/candidates", json={"hist_item": histories, **options})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def ready(self) -> tuple[int, str]:
        answer = self.http.get("/readyz")
        return answer.status_code, answer.json()["reason"]

    def metric(self, name: str, **labels: str) -> float:
        value: float | None = self.app.state.metrics.registry.get_sample_value(name, labels)
        return value or 0.0


@contextlib.contextmanager
def running(settings: ServiceSettings, **parts: Any) -> Iterator[Running]:
    """Start, wait until it answers, end in order; ``parts`` are others of create_app's."""
    app = create_app(settings, **parts)
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="on", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started or not thread.is_alive(), 60)
    assert server.started
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30) as http:
            yield Running(app, url, http)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def status_of_a_long_head(url: str) -> int:
    """The answer to a head that never ends: only a server that reads it bit by bit can have one."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port), 20) as caller:
        caller.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 100_000)
        return int(caller.recv(4_096).split()[1])
