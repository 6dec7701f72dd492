# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The candidate service: histories in, candidates out, over HTTP."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddlerec_milvus.serving.client import Client

_NEEDED = (
    *("cachetools", "fastapi", "httpx", "limits", "prometheus_client", "pythonjsonlogger"),
    "threadpoolctl",
)
_missing = [name for name in _NEEDED if find_spec(name) is None]
if _missing:
    _message = (
        f"the candidate service needs {', '.join(_missing)}: pip install 'paddlerec-milvus[serve]'"
    )
    if sys.argv[:1] == ["-m"]:  # python -m paddlerec_milvus.serving, which is not found yet
        print(f"error: {_message}", file=sys.stderr)
        sys.exit(2)
    raise ModuleNotFoundError(_message, name=_missing[0])

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    """``Client`` when it is first asked for: a service is none, and needs no httpx in memory."""
    if name == "Client":
        return importlib.import_module("paddlerec_milvus.serving.client").Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
