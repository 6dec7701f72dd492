# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A service with its own model and retriever, and its tests, need no paddle and no pymilvus."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import ROOT

REQUEST = """
from in_process import in_process_app
with in_process_app() as service:
    assert service.candidates([3, 4])["source"] == ["model"]
"""
# the generated requests are the same code over and over
TESTS = """
import pytest
options = ["-p", "no:xdist", "-p", "no:cacheprovider", "-k", "not generated"]
assert pytest.main(["tests/serving/in_process", *options]) == pytest.ExitCode.OK
"""
HEAVY = """
import sys
print([name for name in ("paddle", "pymilvus", "milvus_lite") if name in sys.modules])
"""


@pytest.mark.parametrize("code", [REQUEST, TESTS], ids=["a request", "the tests in the process"])
def test_neither_paddle_nor_pymilvus_is_imported(code):
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "serving", ROOT / "tests")))
    ran = subprocess.run(
        [sys.executable, "-c", code + HEAVY],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "FUZZ_EXAMPLES": "20"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]", ran.stdout
