# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How many threads a request takes to compute: one, unless OMP_NUM_THREADS says more."""

from __future__ import annotations

import os

from threadpoolctl import threadpool_limits

VARIABLE = "OMP_NUM_THREADS"


def limit_threads() -> None:
    """Call this in a program that serves, before it loads a model.

    The products of one request are small. Several threads for one of them wait for each other, and
    on cores that are busy that takes ten times as long; other requests use the other cores.
    """
    threads = os.environ.setdefault(VARIABLE, "1")  # paddle reads it when it is loaded
    if threads.isdecimal() and int(threads):
        threadpool_limits(int(threads), "blas")  # numpy is loaded already
