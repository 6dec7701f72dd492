# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Shared by all tests: nothing of the caller's environment reaches a test; one real server."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterator

import pytest

from paddlerec_milvus.retrieval.server import LocalMilvus

# a shell that starts this in the background has its children ignore Ctrl-C; the tests send it
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_milvus_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILVUS_URI", raising=False)
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)


@pytest.fixture(scope="session")
def server() -> Iterator[LocalMilvus]:
    """A real Milvus server, started once; tests that use it are marked ``server``."""
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("no real Milvus: pip install 'paddlerec-milvus[server]'")
    with LocalMilvus() as running:
        yield running
