# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A collection of services as processes, on the small trained MIND, and what they should answer."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

sys.path[:0] = [str(ROOT / "tests" / "serving")]

from forked_service import Folder  # noqa: E402


@pytest.fixture
def folder(trained, tmp_path) -> Folder:
    """A model's folder with epoch 0 in it, and what a service on it needs to know."""
    return Folder(trained, tmp_path)


@pytest.fixture
def server_folder(tmp_path) -> Iterator[Path]:
    """For a server that is started twice; hundreds of megabytes, which no one looks at later."""
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("no real Milvus: pip install 'paddlerec-milvus[server]'")
    yield tmp_path / "milvus"
    shutil.rmtree(tmp_path / "milvus", ignore_errors=True)
