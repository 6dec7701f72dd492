# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""ONNX Runtime as this project starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_nothing_is_sent_and_no_device_is_numbered(tmp_path: Path) -> None:
    taken = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in taken}
    subprocess.run(
        [sys.executable, "-c", "import paddlerec_milvus.onnx_session"],
        env=environment | {"HOME": str(tmp_path)},
        check=True,
    )
    assert list(tmp_path.iterdir()) == []
