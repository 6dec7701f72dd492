# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A service that is given its model and its retriever starts without paddle and pymilvus."""

from __future__ import annotations

import os
import subprocess
import sys

from support import ROOT

CODE = """
import sys
from in_process import in_process_app
with in_process_app() as service:
    assert service.candidates([3, 4])["source"] == ["model"]
print([name for name in ("paddle", "pymilvus", "milvus_lite") if name in sys.modules])
"""


def test_the_application_and_a_request_import_neither_paddle_nor_pymilvus():
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "serving", ROOT / "tests")))
    ran = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stdout.strip() == "[]", ran.stderr
