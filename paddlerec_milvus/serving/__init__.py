# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The candidate service: histories in, candidates out, over HTTP."""

from __future__ import annotations

from importlib.util import find_spec

_NEEDED = (
    *("cachetools", "fastapi", "httpx", "limits", "prometheus_client", "pythonjsonlogger"),
    "threadpoolctl",
)
_missing = [name for name in _NEEDED if find_spec(name) is None]
if _missing:
    raise ModuleNotFoundError(
        f"the candidate service needs {', '.join(_missing)}: pip install 'paddlerec-milvus[serve]'",
        name=_missing[0],
    )

from paddlerec_milvus.serving.client import Client  # noqa: E402

__all__ = ["Client"]
