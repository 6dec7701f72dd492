# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A service computes a request in one thread, and gives memory back, whoever starts it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

CODE = """
import numpy, threadpoolctl
try:
    import paddlerec_milvus.serving.main
except SystemExit:  # there is nothing to serve
    pass
print({pool["num_threads"] for pool in threadpoolctl.threadpool_info()})
"""
TABLES = """
import threading
try:
    import paddlerec_milvus.serving.main
except SystemExit:
    pass
kept = []
def read():
    for _ in range(3):
        table = b"a" * (20 << 20)
        kept.append(b"b" * 100_000)  # lies behind it
        del table
def resident():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0])
before = resident()
reader = threading.Thread(target=read)
reader.start()
reader.join()
print(resident() - before < 8 << 10)
"""


@pytest.mark.parametrize(("asked", "threads"), [(None, "{1}"), ("2", "{2}")])
def test_threads_of_a_request(tmp_path, asked, threads):
    if os.cpu_count() == 1:
        pytest.skip("one core: there is nothing to limit")
    environment = {name: text for name, text in os.environ.items() if name != "OMP_NUM_THREADS"}
    if asked is not None:
        environment["OMP_NUM_THREADS"] = asked
    assert printed(CODE, environment, tmp_path) == threads


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others keep no freed blocks")
def test_memory_of_tables_that_were_read(tmp_path):
    assert printed(TABLES, os.environ, tmp_path) == "True"


def printed(code: str, environment: Mapping[str, str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "MILVUS_URI": str(folder / "items.db")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
