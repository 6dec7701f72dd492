# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Shared by all tests: no setting of the caller's environment reaches a test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_milvus_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILVUS_URI", raising=False)
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
