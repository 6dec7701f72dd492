# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a service takes of its machine: a thread for each request, and only the memory it uses."""

from __future__ import annotations

import contextlib
import ctypes
import os

from threadpoolctl import threadpool_limits

VARIABLE = "OMP_NUM_THREADS"
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
LARGE_BLOCK = 4 << 20  # bytes; no request needs such a block
FREE = 8 << 20  # bytes that a thread keeps: its next request need not ask for them anew


def limit_resources() -> None:
    """Call this in a program that serves, before it loads a model.

    The products of one request are small. Several threads for one of them wait for each other, and
    on cores that are busy that takes ten times as long; other requests use the other cores. So it
    is one thread, unless OMP_NUM_THREADS says more.

    Tables are read as large blocks, which glibc would keep for the thread that read them. What is
    smaller it would give back after each request, 128 kB excepted, once it is told what is large.
    """
    threads = os.environ.setdefault(VARIABLE, "1")  # paddle reads it when it is loaded
    if threads.isdecimal() and int(threads):
        threadpool_limits(int(threads), "blas")  # numpy is loaded already
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_MMAP_THRESHOLD, LARGE_BLOCK)
        libc.mallopt(_TRIM_THRESHOLD, FREE)
