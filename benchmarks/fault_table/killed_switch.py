# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A service that ends by ``kill -9`` just before one of the calls with which it switches versions.

    python benchmarks/fault_table/killed_switch.py METHOD NUMBER --app-dir serving main:app …

METHOD is ``_switch``, which an insert ends with, or ``roll_back``; NUMBER says which of its calls
to Milvus, from 1. The rest is uvicorn's.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import uvicorn

from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.versions import CollectionVersions


def kill_at(method: str, number: int) -> None:
    """From now on ``CollectionVersions.method`` does not come to its call ``number``."""
    thread, calls = threading.local(), count(1)
    ordinary: Callable[..., Any] = Connection.call
    switch: Callable[..., Any] = getattr(CollectionVersions, method)

    def counted(*arguments: Any, **options: Any) -> Any:
        if getattr(thread, "switches", False) and next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return ordinary(*arguments, **options)

    def watched(*arguments: Any, **options: Any) -> Any:
        thread.switches = True
        try:
            return switch(*arguments, **options)
        finally:
            thread.switches = False

    Connection.call = counted  # type: ignore[method-assign]
    setattr(CollectionVersions, method, watched)


if __name__ == "__main__":
    kill_at(sys.argv[1], int(sys.argv[2]))
    uvicorn.main(sys.argv[3:])
