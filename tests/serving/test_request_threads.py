# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A service computes a request in one thread, whoever starts it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import numpy, threadpoolctl
try:
    import paddlerec_milvus.serving.main
except SystemExit:  # there is nothing to serve
    pass
print({pool["num_threads"] for pool in threadpoolctl.threadpool_info()})
"""


@pytest.mark.parametrize(("asked", "threads"), [(None, "{1}"), ("2", "{2}")])
def test_threads_of_a_request(tmp_path, asked, threads):
    if os.cpu_count() == 1:
        pytest.skip("one core: there is nothing to limit")
    environment = {name: text for name, text in os.environ.items() if name != "OMP_NUM_THREADS"}
    if asked is not None:
        environment["OMP_NUM_THREADS"] = asked
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**environment, "MILVUS_URI": str(tmp_path / "items.db")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == threads, done.stderr
